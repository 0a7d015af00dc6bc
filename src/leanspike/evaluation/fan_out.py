"""How many weights the entries of a layer's input meet, and the spikes that enter there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from leanspike.graph.costs import signal_nodes
from leanspike.graph.modules import called
from leanspike.graph.ops import base


def fan_out(layer: nn.Module, shape: Sequence[int]) -> Tensor:
    """Return how many weights each entry of an input of ``shape`` (one sample) meets, float64.

    It is the gradient of the sum of the layer's outputs when every weight is 1. A subclass of a
    layer that the table knows counts as that layer, whatever else its own forward does.

    >>> fan_out(nn.Conv2d(1, 2, 3, padding=1), (1, 3, 3))[0].tolist()
    [[8.0, 12.0, 8.0], [12.0, 18.0, 12.0], [8.0, 12.0, 8.0]]
    """
    known, ones = base(type(layer)), nn.Module()
    if known is type(layer):
        ones = deepcopy(layer).cpu().double()
        for parameter in ones.parameters():
            nn.init.ones_(parameter)
    else:
        assert isinstance(layer.weight, Tensor)
        weight = torch.ones(layer.weight.shape, dtype=torch.float64)
        ones = object.__new__(known)
        own = {"_parameters": {"weight": weight, "bias": None}, "_buffers": {}, "_modules": {}}
        object.__setattr__(ones, "__dict__", {**vars(layer), **own})
    return _gradient(ones, torch.zeros(1, *shape, dtype=torch.float64))


def fan_out_of_call(node: fx.Node, root: nn.Module, values: Mapping[fx.Node, Any]) -> Tensor:
    """Return :func:`fan_out` for a function that is given its weights."""
    source = signal_nodes(node)[0]

    def call(x: Tensor) -> Tensor:
        def given(n: fx.Node) -> Any:
            value = values[n]
            ones = torch.ones_like(value, dtype=torch.float64, device="cpu")
            return x if n is source else ones if isinstance(value, Tensor) else value

        args, named = fx.node.map_arg((node.args, node.kwargs), given)
        y: Tensor = called(node, root)(*args, **named)
        return y

    shape = values[source].shape[1:]
    return _gradient(call, torch.zeros(1, *shape, dtype=torch.float64))


def not_padding(
    node: fx.Node,
    root: nn.Module,
    values: Mapping[fx.Node, Any],
    known: Mapping[fx.Node, Tensor],
) -> Tensor:
    """Tell where entries of a sample behind a padding are not its zeros: 1 there, float64.

    ``known`` has the same for paddings before it.
    """
    source = signal_nodes(node)[0]
    ones = torch.ones(values[source].shape[1:], dtype=torch.float64)
    inner = known.get(source, ones)[None]
    args, named = fx.node.map_arg(
        (node.args, node.kwargs), lambda n: inner if n is source else values[n]
    )
    padded: Tensor = called(node, root)(*args, **named)
    return (padded[0] != 0).double()


def _gradient(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        call(x.requires_grad_()).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return x.grad[0]


def weighted(counts_B: Tensor, weights: Tensor) -> float:
    """Return the sum of counts · weights over the batch.

    It is exact while no entry counts more than 4096.
    """
    return float((summed(counts_B, weights.shape) * weights).sum())


def summed(counts: Tensor, shape: Sequence[int], by: Tensor | None = None) -> Tensor:
    """Return the sum of counts over all axes before those of ``shape``, in float64.

    It is exact while no entry counts more than 4096. It has a gradient, which is not differentiable
    once more. With ``by`` the gradient goes there, to means over steps of counts. On devices
    without float64 the sum is in float32.

    >>> counts = torch.tensor([[1.0, 0.0], [2.0, 1.0]], requires_grad=True)
    >>> total = summed(counts, (2,))
    >>> total.tolist(), torch.autograd.grad(total[0], counts)[0].tolist()
    ([3.0, 1.0], [[1.0, 0.0], [1.0, 0.0]])
    """
    rows_B, by_N = (x.reshape(-1, *shape) for x in (counts, counts if by is None else by))
    total: Tensor = _Summed.apply(rows_B.detach(), by_N)
    return total


def widest(device: torch.device) -> torch.dtype:
    """Return the type in which a device can count: float64, where it has that.

    >>> widest(torch.device("cpu"))
    torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64


class _Summed(torch.autograd.Function):
    """A sum over axis 0.

    A product with ones takes a tenth of the time of ``counts_B.sum(0, dtype=torch.float64)``. Its
    float32 is exact up to 2²⁴, hence 4096 rows at a time; what follows is float64. The entries of
    a row are taken in the order in which they lie in memory, so that nothing is copied. Narrower
    types are converted 32 rows at a time, which stay in the cache: a sixth of the time. Nothing is
    kept, and nothing is written for the backward pass: its gradient is a view.
    """

    @staticmethod
    def forward(ctx: Any, counts_B: Tensor, by_N: Tensor) -> Tensor:
        ctx.shape, ctx.dtype, ctx.steps = by_N.shape, by_N.dtype, len(counts_B) / max(1, len(by_N))
        order = sorted(range(1, counts_B.dim()), key=counts_B.stride, reverse=True)
        rows_BM = counts_B.permute(0, *order).reshape(len(counts_B), -1)
        total_M = rows_BM.new_zeros(rows_BM.shape[1], dtype=widest(rows_BM.device))
        wide = torch.promote_types(rows_BM.dtype, torch.float32)
        at_once = 4096 if wide == rows_BM.dtype else 32
        with torch.autocast(rows_BM.device.type, enabled=False):
            for begin in range(0, len(rows_BM), at_once):
                part_BM = rows_BM[begin : begin + at_once].to(wide)
                total_M += part_BM.T @ part_BM.new_ones(len(part_BM))
        back = [order.index(axis) for axis in range(1, counts_B.dim())]
        return total_M.reshape([counts_B.shape[axis] for axis in order]).permute(back)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        return None, (grad_outputs[0] * ctx.steps).to(ctx.dtype).expand(ctx.shape)
