"""What a module computes that the surgery does not look into, counted while it runs.

This is below the table: the operations here are those that PyTorch's own are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from leanspike.graph.costs import signal_nodes
from leanspike.graph.modules import called, submodule
from leanspike.neuron import Cost

if TYPE_CHECKING:
    from collections.abc import Iterator

aten = torch.ops.aten


@dataclass(frozen=True)
class Inside:
    """The arithmetic inside a call, and the names of weights that entered none of it.

    ``unseen`` says that PyTorch did not make the outputs from the inputs. Work is then left out,
    which may have no weights of its own.
    """

    cost: Cost
    left_out: tuple[str, ...] = ()
    unseen: bool = False


def look_inside(
    call: Callable[[], Any], inputs: list[Tensor], weights: Mapping[str, Tensor]
) -> Inside:
    """Count what ``call`` computes from ``inputs`` with these weights.

    Code of the call that depends on values takes the path of these values. Matrix products,
    convolutions (without zero padding), products of two signals, squares, and norms that measure
    each sample are counted. Work outside PyTorch is not counted.

    >>> layer, x = torch.nn.Conv1d(2, 3, 3, padding=1), torch.rand(1, 2, 4)
    >>> look_inside(lambda: layer(x), [x], dict(layer.named_parameters()))
    Inside(cost=Cost(macs=60.0, acs=0), left_out=(), unseen=False)
    """
    watch = _Watch(inputs, weights)
    with torch.random.fork_rng(devices=[]), _slow_attention(), torch.no_grad(), watch:
        made = [leaf for leaf in tree_leaves(call()) if isinstance(leaf, Tensor)]
    left_out = tuple(name for name in weights if name not in watch.met)
    return Inside(watch.cost, left_out, unseen=not all(map(watch.is_signal, made)))


def look_at(node: fx.Node, root: nn.Module, values: Mapping[fx.Node, Any]) -> Inside:
    """Count what the call at a node computes inside, for the first sample."""
    rows = {source: values[source][:1] for source in signal_nodes(node)}
    args, named = fx.node.map_arg((node.args, node.kwargs), lambda n: rows.get(n, values.get(n)))
    weights = weights_of(node, root)
    try:
        return look_inside(lambda: called(node, root)(*args, **named), list(rows.values()), weights)
    except Exception:  # any module may fail here; it is then named as not counted
        return Inside(Cost(), tuple(weights), unseen=True)


def weights_of(node: fx.Node, root: nn.Module) -> dict[str, Tensor]:
    """Return by name the weights, with two axes or more, of what a node calls or is given."""
    module = submodule(root, node)
    if module is not None:
        return {name: p for name, p in module.named_parameters() if p.dim() > 1}
    given = [str(source.target) for source in node.all_input_nodes if source.op == "get_attr"]
    own = dict(root.named_parameters())
    return {name: own[name] for name in given if name in own and own[name].dim() > 1}


@contextmanager
def _slow_attention() -> Iterator[None]:
    """Let PyTorch compute attention in parts that can be counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@final
class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation.

    By their memory it knows what is made of the inputs, and what of weights.
    """

    def __init__(self, inputs: list[Tensor], weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cost = Cost()
        self.met: set[str] = set()
        self.signals = {_memory(x) for x in inputs}
        self.weights: dict[int, set[str]] = {}
        for name, weight in weights.items():
            self.weights.setdefault(_memory(weight), set()).add(name)
        self.kept: list[Any] = []  # what is kept alive shares its memory with no later tensor

    def is_signal(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is made of the inputs."""
        return _memory(tensor) in self.signals

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count it."""
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.kept += made
        names = set().union(*(self.weights.get(_memory(tensor), set()) for tensor in tensors))
        signals = [tensor for tensor in tensors if self.is_signal(tensor)]
        if not signals:
            for tensor in made:
                self.weights.setdefault(_memory(tensor), set()).update(names)
            return result
        self.signals |= {_memory(tensor) for tensor in made}
        price = _PRICES.get(func.overloadpacket)
        if price is not None:
            cost = price(args, made[0], self.is_signal)
            self.cost = Cost(self.cost.macs + cost.macs, self.cost.acs + cost.acs)
        pointwise = torch.Tag.pointwise in func.tags
        if price is not None or func.is_view or pointwise or func.overloadpacket in _FREE:
            self.met |= names
        return result


_FREE = {aten.cat, aten.stack, aten.copy_}
"""Operations that cost nothing where one operand is fixed, like entry-wise ones, sums and scales.
"""

_Price = Callable[[tuple[Any, ...], Tensor, Callable[[Tensor], bool]], Cost]
"""From the arguments, the result, and whether a tensor is made of the inputs, to a cost."""


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _matrices(first: int) -> _Price:
    """Price [..., L, D] times [..., D, K]; ``first`` is the number of the first argument."""

    def price(args: tuple[Any, ...], out: Tensor, _is_signal: Any) -> Cost:
        return Cost(macs=float(out.numel() * args[first].shape[-1]))

    return price


def _convolution(args: tuple[Any, ...], _out: Tensor, _is_signal: Any) -> Cost:
    """Price each product with an entry that is not the padding's.

    Such a product is 1 where all entries are 1.
    """
    x, weight, _bias, *rest = args
    ones = aten.convolution(torch.ones_like(x), torch.ones_like(weight), None, *rest)
    return Cost(macs=float(ones.double().sum()))


def _product(factor: int, *terms: int) -> _Price:
    """Price a multiplication for each entry, where both factors are signals.

    ``factor`` is the number of one argument; the other factor is the sum of ``terms``.
    """

    def price(args: tuple[Any, ...], out: Tensor, is_signal: Callable[[Tensor], bool]) -> Cost:
        def varies(place: int) -> bool:
            return isinstance(args[place], Tensor) and is_signal(args[place])

        both = varies(factor) and any(map(varies, terms))
        return Cost(macs=float(out.numel()) if both else 0)

    return price


def _squares(args: tuple[Any, ...], _out: Tensor, _is_signal: Any) -> Cost:
    """Price a power, or a sum of squares: one multiplication for each entry that goes in."""
    return Cost(macs=float(args[0].numel()))


def _variance(args: tuple[Any, ...], _out: Tensor, _is_signal: Any) -> Cost:
    """Price a mean and a mean square."""
    return Cost(macs=float(args[0].numel()), acs=args[0].numel())


def _attention(args: tuple[Any, ...], _out: Tensor, _is_signal: Any) -> Cost:
    q, k, v = args[:3]
    return Cost(macs=float(prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])))


def _norm(weight: int | None) -> _Price:
    """Price a norm: 2 multiply-accumulates and an addition, 3 where each entry has its own γ.

    `leanspike.graph.costs` does the same.
    """

    def price(args: tuple[Any, ...], out: Tensor, _is_signal: Any) -> Cost:
        own = weight is not None and args[weight] is not None
        return Cost(macs=float((2 + own) * out.numel()), acs=out.numel())

    return price


def _batch_norm(args: tuple[Any, ...], out: Tensor, is_signal: Callable[[Tensor], bool]) -> Cost:
    """Price a batch norm: with running statistics it folds.

    Without them it measures, as instance norms do.
    """
    measures = next(value for value in args[3:] if isinstance(value, bool))
    return _norm(None)(args, out, is_signal) if measures else Cost()


_PRICES: dict[Any, _Price] = {
    **dict.fromkeys((aten.mm, aten.bmm, aten.mv, aten.dot), _matrices(0)),
    **dict.fromkeys((aten.addmm, aten.baddbmm, aten.addmv), _matrices(1)),
    aten.convolution: _convolution,
    **dict.fromkeys((aten.mul, aten.mul_, aten.div, aten.div_), _product(0, 1)),
    **dict.fromkeys((aten.addcmul, aten.addcmul_, aten.addcdiv, aten.addcdiv_), _product(1, 2)),
    **dict.fromkeys((aten.lerp, aten.lerp_), _product(2, 0, 1)),
    **dict.fromkeys((aten.pow, aten.pow_, aten.linalg_vector_norm), _squares),
    **dict.fromkeys((aten.var, aten.var_mean, aten.std, aten.std_mean), _variance),
    **dict.fromkeys(
        (
            aten._scaled_dot_product_flash_attention_for_cpu,
            aten._scaled_dot_product_flash_attention,
            aten._scaled_dot_product_efficient_attention,
            aten._scaled_dot_product_cudnn_attention,
        ),
        _attention,
    ),
    aten.native_layer_norm: _norm(2),
    aten.native_group_norm: _norm(None),
    **dict.fromkeys(
        (
            aten.native_batch_norm,
            aten.cudnn_batch_norm,
            aten._native_batch_norm_legit_no_training,
            aten._native_batch_norm_legit,
        ),
        _batch_norm,
    ),
}
