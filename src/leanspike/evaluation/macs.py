"""Multiply-accumulates (MACs) of what runs: convolutions, matrix products and attention.

They are counted from the shapes of each operation as PyTorch is called, in forward and backward
passes alike. A product with 0 counts as any other, be it of a spike that was not fired or of zero
padding: that is what dense code computes, and what others count. Products with padding are also
counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from leanspike.evaluation.record import Record


class Macs(Record):
    """The multiply-accumulates of a phase of a training, over all its images and epochs.

    ``forward`` and ``backward`` are those of training steps. ``backward`` holds the gradients of
    weights, and of inputs where they are needed. ``teacher`` is what objectives compute without
    gradients: a teacher's answers. ``validation`` is the forward pass on held-out images. ``total``
    is all of these, and ``padding`` the part of it that multiplies zero padding.

    >>> step = Macs(forward=10, backward=20, padding=3)
    >>> (step + Macs(teacher=10)).total
    40
    """

    forward: int = 0
    backward: int = 0
    teacher: int = 0
    validation: int = 0
    padding: int = 0

    @property
    def total(self) -> int:
        """All multiply-accumulates."""
        return self.forward + self.backward + self.teacher + self.validation

    def __add__(self, other: Macs) -> Macs:
        return Macs.sum((self, other))

    @classmethod
    def sum(cls, parts: Iterable[Macs]) -> Macs:
        """Return the sum of parts; nothing for no parts.

        >>> Macs.sum([]).total
        0
        """
        found = list(parts)
        return cls(
            **{name: sum(getattr(part, name) for part in found) for name in cls.model_fields}
        )


@dataclass(frozen=True)
class Products:
    """A number of multiply-accumulates, and how many of them multiply zero padding."""

    macs: int = 0
    padding: int = 0

    def __add__(self, other: Products) -> Products:
        return Products(self.macs + other.macs, self.padding + other.padding)


@final
class MacCounter(TorchDispatchMode):
    """Counts what runs inside the context, leanspike's native convolutions among it.

    What it computes does not change. Operations of other libraries count nothing.

    Attributes:
        products: all that was counted.
        untracked: the part of it that ran without gradients (``torch.no_grad``).
        unknown: the names of operations that hide products which nobody can count here, as
            recurrent layers in one piece do.

    >>> layer, x = torch.nn.Linear(3, 2), torch.zeros(5, 3)
    >>> with MacCounter() as counter:
    ...     layer(x).sum().backward()  # x needs no gradient
    >>> counter.products.macs == 2 * (5 * 3 * 2)
    True
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products, self.untracked = Products(), Products()
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if torch.is_inference_mode_enabled() and isinstance(func, torch._ops.OpOverload):
            with self:  # elsewhere PyTorch has taken it apart already
                parts = func.decompose(*args, **named)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **named)
        name = str(func).rpartition(".")[0] if isinstance(func, torch._ops.OpOverload) else ""
        if name in HIDING:
            self.unknown.add(name)
        rule = RULES.get(name)
        if rule is not None:
            found = rule(args, result)
            self.products += found
            if not torch.is_grad_enabled():
                self.untracked += found
        return result


# -- rules: from the arguments and the result of an operation to its products ------------------


def _matrices(first: int) -> Callable[[Any, Any], Products]:
    """Return the rule of a matrix product whose left factor is the argument at that place."""
    return lambda args, result: Products(result.numel() * args[first].shape[-1])


def _convolution(args: Any, result: Any) -> Products:
    x, weight, _, stride, padding, dilation, transposed = args[:7]
    return _taps(x, result, weight, (stride, padding, dilation), transposed)


def _convolution_backward(args: Any, _: Any) -> Products:
    grad, x, weight, _, stride, padding, dilation, transposed = args[:8]
    once = _taps(x, grad, weight, (stride, padding, dilation), transposed)
    wanted = sum(args[10][:2])  # of the input, and of the weights: each as much as the forward pass
    return Products(wanted * once.macs, wanted * once.padding)


def _event_convolution(args: Any, result: Any) -> Products:
    x, weight, _, stride, padding = args
    return _taps(x, result, weight, (stride, padding, [1, 1]), False)


def _event_weight_gradient(args: Any, _: Any) -> Products:
    grad, x, weight, padding = args
    return _taps(x, grad, weight, ([1, 1], padding, [1, 1]), False)


def _dense_convolution(args: Any, result: Any) -> Products:
    *parts, padding = args
    return _event_convolution((*parts, [1, 1], padding), result)


def _taps(
    x: Any, y: Any, weight: Any, how: tuple[Sequence[int], ...], transposed: bool
) -> Products:
    """Return the products of a convolution from ``x`` to ``y``.

    A transposed one is the way back of another, from ``y`` to ``x``. The weights of one output
    channel (transposed: input channel) meet each of its pixels.
    """
    if transposed:
        x, y = y, x
    sizes = x.shape[2:], y.shape[2:], weight.shape[2:]
    per_pixel = x.shape[0] * weight.shape[0] * weight.shape[1]  # groups: weights have fewer inputs
    stride, padding, dilation = (_each(values, len(sizes[0])) for values in how)
    axes = list(zip(*sizes, stride, padding, dilation, strict=True))
    dense = per_pixel * prod(outputs * kernel for _, outputs, kernel, *_ in axes)
    return Products(dense, dense - per_pixel * prod(_inside(*axis) for axis in axes))


def _each(values: Sequence[int], axes: int) -> list[int]:
    """Return a value for each axis; PyTorch takes one for all."""
    return list(values) * (axes // len(values))


def _inside(inputs: int, outputs: int, kernel: int, stride: int, padding: int, gap: int) -> int:
    """Return how many pairs of output and tap meet an input, along an axis.

    >>> _inside(4, 4, 3, 1, 1, 1)  # 12, but for one at each end
    10
    """
    places = (y * stride - padding + tap * gap for y in range(outputs) for tap in range(kernel))
    return sum(0 <= place < inputs for place in places)


def _attention(first: int, products: int) -> Callable[[Any, Any], Products]:
    """Return the rule of attention whose query, key and value begin at that place.

    There are 2 ``products`` forward and 5 backward. The length of the value's features is that of 1
    and 2 of them. Masked entries count.
    """

    def rule(args: Any, _: Any) -> Products:
        query, key, value = args[first : first + 3]
        pairs = query.shape[:-1].numel() * key.shape[-2]
        by_value = products // 2
        return Products(
            pairs * ((products - by_value) * query.shape[-1] + by_value * value.shape[-1])
        )

    return rule


ATTENTION = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")

RULES: dict[str, Callable[[Any, Any], Products]] = {
    "aten.mm": _matrices(0),
    "aten.bmm": _matrices(0),
    "aten.mv": _matrices(0),
    "aten.addmm": _matrices(1),
    "aten.baddbmm": _matrices(1),
    "aten.addmv": _matrices(1),
    "aten.addbmm": lambda args, _: Products(args[1].numel() * args[2].shape[-1]),
    "aten.dot": lambda args, _: Products(args[0].numel()),
    "aten.convolution": _convolution,
    "aten.convolution_backward": _convolution_backward,
    "leanspike.convolution": _event_convolution,
    "leanspike.convolution_weight_gradient": _event_weight_gradient,
    "leanspike.side_by_side_weight_gradient": _event_weight_gradient,
    "leanspike.winograd": _dense_convolution,
    "leanspike.winograd_input_gradient": _event_weight_gradient,
    "leanspike.winograd_weight_gradient": _event_weight_gradient,
    # scores and answers; backward the scores again, and two gradients of each of the two
    **{f"aten._scaled_dot_product_{name}": _attention(0, 2) for name in ATTENTION},
    **{f"aten._scaled_dot_product_{name}_backward": _attention(1, 5) for name in ATTENTION},
}
"""What is known of an operation, by its name."""

HIDING = (
    *("aten._native_multi_head_attention", "aten._transformer_encoder_layer_fwd"),
    *("aten.mkldnn_rnn_layer", "aten._cudnn_rnn", "aten.miopen_rnn", "aten._trilinear"),
)
"""Operations with products inside that have no rule."""
