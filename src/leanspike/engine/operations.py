"""Operations as parts of a program: sums and scales, pools, moves of entries, weights."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from torch import Tensor

from leanspike.engine import weights
from leanspike.engine.calls import Called
from leanspike.engine.moves import Scattered, padded, settled
from leanspike.engine.probes import Window, channels_of, numbered, places_of, window_of
from leanspike.engine.values import Builder, Value, Weighted
from leanspike.graph import rules
from leanspike.graph.ops import Operation
from leanspike_runtime.program import Form, Pool

RUN_ITSELF = "or run the network as it is"


def operated(builder: Builder, call: Called, row: Operation) -> Any:
    """Return the result of a call: a value, or several if it splits its signals.

    Raises LeanspikeError, with the path and a way out, if the engine has no node for it.
    """
    if row.dropout is not None:
        return call.signals[0]
    values = [signal for signal in call.signals if isinstance(signal, Value)]
    if len(values) == len(call.signals):
        found = _computed(builder, call, row, values)
        if found is not None:
            return found
    moved = _moved(builder, call)
    if moved is not None:
        return moved
    return _refuse(call, row)


def _refuse(call: Called, row: Operation) -> NoReturn:
    for signal in call.signals:
        if isinstance(signal, Scattered):
            signal.refuse()
    fix = "leave it out of the network"
    if row.max_pool or row.kind is rules.average:
        fix = (
            "give it windows of one size, without dilation or count_include_pad=False, and without "
            "ceil_mode unless it is a maximum of spikes"
        )
    shapes = ", ".join(str(signal.shape) for signal in call.signals)
    call.refuse(
        f"neither scales, adds, moves nor pools samples of shape {shapes} as the engine does",
        f"{fix}, {RUN_ITSELF}",
    )


def _computed(builder: Builder, call: Called, row: Operation, values: list[Value]) -> Value | None:
    """Return a sum, a pool or a layer with weights; None for a call that may move entries."""
    if row.synapses is not None:
        return _weighted(builder, call, row, values)
    if row.max_pool or row.kind is rules.average:
        window = window_of(call.run(), values[0].shape, row.max_pool)
        of_spikes = row.max_pool and _rising_form(builder, values[0]) == "spikes"
        if window is None or (any(window.over) and not of_spikes):
            return None
        pool = _largest if row.max_pool else _averaged
        return pool(builder, call.path, values[0], window)
    return _affine(call, values)


def _rising_form(builder: Builder, value: Value) -> Form | None:
    """Return the form of the one edge with which a value rises in all channels; None if not so."""
    if len(value.terms) != 1 or value.weighted:
        return None
    (term,) = value.terms
    rises = not (term.scale < 0).any() and not (term.pick < 0).any()
    return builder.forms[term.edge] if rises else None


def _affine(call: Called, values: list[Value]) -> Value | None:
    """Return a sum of signals, scaled by channel, and a shift; each may differ between steps."""
    shapes, rows = [value.shape for value in values], []
    for step in call.steps:
        try:
            row = channels_of(call.run(step), shapes)
        except RuntimeError:  # the operation does not take numbers of this shape
            return None
        if row is None:
            return None
        rows.append(row)
    total: Value | None = None
    for place, value in enumerate(values):
        part = value.scaled(np.stack([scales[place] for scales, _ in rows]))
        total = part if total is None else total.plus(part)
    assert total is not None
    return total.plus(np.stack([shift for _, shift in rows]))


def _moved(builder: Builder, call: Called) -> Any:
    """Return moved entries, a tuple of such if the call splits its input, or None."""
    signals, run = call.signals, call.run()
    shapes = [signal.shape for signal in signals]
    result = run(numbered(shapes))
    if isinstance(result, Tensor):
        places = places_of(result, run, shapes)
        return None if places is None else settled(builder, call.path, signals, places)
    parts = []
    for number, part in enumerate(result):
        places = places_of(part, lambda x, n=number: run(x)[n], shapes)  # type: ignore[misc]
        if places is None:
            return None
        parts.append(settled(builder, call.path, signals, places))
    return tuple(parts)


def _averaged(builder: Builder, path: str, value: Value, window: Window) -> Value:
    """Return sums over windows. The weight of the average goes into the layers that read them."""
    ready = builder.unshifted if any(window.padding) else builder.alone
    value = ready(path, value)
    pooled = builder.each(
        value, lambda edge: builder.sum_pool(edge, path, window.image, window.sizes)
    ).scaled(np.full((1, 1), window.weight))
    under = window.kernel[0] * window.kernel[1]
    return Value(window.shape, pooled.terms, (), value.shift * window.weight * under)


def _largest(builder: Builder, path: str, value: Value, window: Window) -> Value:
    """Return a maximum over windows. A positive scale and a shift stay outside of it."""
    if _rising_form(builder, value) in (None, "counts"):
        value = builder.summed(path, value)
    for axis, over in enumerate(window.over):
        value = padded(builder, path, value, axis, (0, over)) if over else value

    def pool(edge: int) -> int:
        shape = (*window.image, builder.shapes[edge][2])
        form = builder.forms[edge]
        return builder.add(Pool("max_pool", path, shape, form, (edge,), **window.sizes))

    pooled = builder.each(value, pool)
    return Value(window.shape, pooled.terms, (), pooled.shift)


def _weighted(builder: Builder, call: Called, row: Operation, values: list[Value]) -> Value:
    found = weights.layer_of(call.node, call.module, row, call.number)
    if found is None or len(values) != 1:
        call.refuse(
            "multiplies signals with each other, or has weights of a kind that the engine does "
            "not support",
            f"use convolutions with zero padding and linear layers, {RUN_ITSELF}",
        )
    weighted = weights.applied(builder, call.path, found, values[0])
    if weighted is None:
        call.refuse(
            f"is a linear layer over samples of shape {values[0].shape}, but the engine takes "
            "vectors only",
            f"flatten each sample before it, {RUN_ITSELF}",
        )
    builder.weighted.append(Weighted(call.path, found.own, weighted.weighted))
    return weighted
