"""Assignments to entries, ``y[:, 0] = value``, as calls that give the tensor anew."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from leanspike.graph.signal import Call, Kind


def setitem_(x: Tensor, key: Any, value: Any) -> Tensor:
    """What the assignment is while it is traced: it overwrites ``x``, under all of its names.

    >>> x = torch.zeros(1, 2)
    >>> setitem_(x, (slice(None), 0), 1) is x, x
    (True, tensor([[1., 0.]]))
    """
    x[key] = value
    return x


def setitem(x: Tensor, key: Any, value: Any) -> Tensor:
    """The same as a tensor of its own.

    >>> setitem(torch.zeros(1, 2), (slice(None), 0), 1)
    tensor([[1., 0.]])
    """
    return setitem_(x.clone(), key, value)


def assigned(call: Call) -> None:
    """An assignment to the same entries of each sample, or to those that a mask selects."""
    given: Any = call.node.args
    x, key, value = given
    if isinstance(key, fx.Node):
        if key.meta.get("shape") != x.meta.get("shape") or isinstance(value, fx.Node):
            call.refuse("assigns to what it selects by values", "write torch.where(mask, value, x)")
        return
    first = key[0] if isinstance(key, tuple) and key else key
    if first is Ellipsis and isinstance(key, tuple) and len(key) <= len(x.meta["shape"]):
        first = slice(None)
    if first != slice(None):
        call.refuse("assigns to some of the samples (axis 0)", "begin the index with ':'")
    constant = x.meta["signal"].kind == "constant"
    if constant and isinstance(value, fx.Node) and value.meta["signal"].kind != "constant":
        call.refuse(
            "assigns the samples to a constant",
            "make it with as many rows, as torch.zeros(x.shape[0], 8)",
        )
    if isinstance(value, fx.Node) and value.meta["signal"].kind == "constant":
        rank, own = _rank(x.meta["shape"], key), value.meta["shape"]
        if len(own) >= rank and own[0] != 1:
            call.refuse(
                f"assigns a constant of shape {tuple(own)} to the batch",
                "give the constant no batch axis",
            )


def kind(call: Call) -> Kind | None:
    """Spikes among spikes of another height are analog; zeros leave what they are put among."""
    given: Any = call.node.args
    x, _, value = given
    found: Kind = x.meta["signal"].kind
    return found if isinstance(value, int | float) and value == 0 else "analog"


def _rank(shape: torch.Size, key: Any) -> int:
    """How many axes the entries have; an index that is computed takes one away, as a number."""
    plain: Any = fx.node.map_arg(key, lambda _: 0)
    return torch.empty(shape, device="meta")[plain].dim()
