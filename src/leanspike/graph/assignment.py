"""Assignments to entries of a tensor, ``x[:, 2:] = y``, as calls without side effects.

``x[:, 2:] += y`` is such an assignment, too: Python reads, adds to, and assigns the entries.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx

from leanspike.graph import rules
from leanspike.graph.signal import Call, Kind


def assigned(x: Tensor, key: Any, value: Any, update: str | None = None) -> Tensor:
    """Return ``x`` as it is after ``x[key] = value``, as a new tensor.

    With the update "iadd" it is ``x`` after ``x[key] += value``, with "add_" after
    ``x[key].add_(value)``.

    >>> import torch
    >>> x = torch.ones(3)
    >>> assigned(x, slice(1, None), 2), assigned(x, 0, 4, "iadd"), x
    (tensor([1., 2., 2.]), tensor([5., 1., 1.]), tensor([1., 1., 1.]))
    """
    y = x.clone()
    if update is not None and update.endswith("_"):
        getattr(y[key], update)(value)
    else:
        y[key] = value if update is None else getattr(operator, update)(y[key], value)
    return y


# -- what leaves -------------------------------------------------------------------------------


def entries(call: Call) -> Kind | None:
    """Return the kind of a tensor with assigned entries: zeros keep it, signals are joined."""
    value = call.node.args[2]
    if len(call.node.args) > 3:
        return "analog"
    if isinstance(value, fx.Node):
        return rules.concatenate(call)
    return rules.same(call) if value == 0 else "analog"


# -- what must not be --------------------------------------------------------------------------


def within_samples(call: Call) -> None:
    """Refuse new values for some samples only, or values that do not have the samples first."""
    x, key, value = call.node.args[:3]
    assert isinstance(x, fx.Node)
    if isinstance(key, fx.Node) and key.meta["shape"] is not None:
        if key.meta["shape"] != x.meta["shape"] or isinstance(value, fx.Node):
            call.refuse("assigns to what it selects by values", "write torch.where(mask, value, x)")
        return
    if x.meta["signal"].kind == "constant":
        if not isinstance(value, fx.Node) or value.meta["signal"].kind in (None, "constant"):
            return
        call.refuse(
            "assigns a signal to entries of a constant",
            "make it for each sample, as torch.zeros(x.shape[0], ...)",
        )
    items = key if isinstance(key, tuple) else (key,)
    if not all(item is Ellipsis or isinstance(item, (int, slice)) for item in items):
        call.refuse("assigns where an index says", "use x * mask, or torch.cat of parts")
    within = items[0] is Ellipsis and len(items) <= len(call.shapes[0])
    if items[0] != slice(None) and not within:
        call.refuse("assigns to samples (axis 0)", "begin the index with ':'")
    if isinstance(value, fx.Node):
        _check_axes(call, value, len(call.shapes[0]) - sum(isinstance(i, int) for i in items))


def _check_axes(call: Call, value: fx.Node, axes: int) -> None:
    shape: tuple[int, ...] = value.meta["shape"] or ()
    constant = value.meta["signal"].kind == "constant"
    if constant and len(shape) >= axes and shape[0] != 1:
        call.refuse(
            f"assigns a constant of shape {tuple(shape)} to the batch",
            "give the constant no batch axis",
        )
    if not constant and len(shape) != axes:
        call.refuse(
            f"assigns a signal of {len(shape)} axes to entries of {axes}, where samples would meet",
            "give it as many axes, the samples first",
        )
