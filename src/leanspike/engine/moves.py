"""Operations that move entries, as nodes of a program or as channels read in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NoReturn

import numpy as np

from leanspike.engine.values import Builder, Term, Value
from leanspike.errors import LeanspikeError
from leanspike_runtime.program import Array, Concat, Pad, Pool, Relabel, Upsample

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Moved:
    """The part of an image that comes from one signal: its channels, rows and columns.

    ``channels``, ``[C]``, is the signal's channel for each channel; -1: none. ``rows`` and
    ``columns`` are its row or column for each; -1: zeros.
    """

    channels: Array
    rows: Array
    columns: Array


@dataclass(frozen=True)
class Scattered:
    """Entries in an order that no node can make. A later move may restore one that a node can.

    ``places`` has the shape of a sample. It holds numbers of entries, counted from 0 through all
    ``values``.
    """

    path: str
    values: tuple[Value, ...]
    places: Array

    @property
    def shape(self) -> Shape:
        """The shape of a sample in the network."""
        return self.places.shape

    def refuse(self) -> NoReturn:
        """Raise LeanspikeError, if no later move has restored the order."""
        raise LeanspikeError(
            f"{self.path} moves the entries of a sample, of shape {self.shape}, in a way that the "
            "engine cannot; leave it out of the network, or run the network as it is"
        )


def settled(
    builder: Builder, path: str, signals: Sequence[Value | Scattered], places: Array
) -> Value | Scattered:
    """Return the entries of signals in other places, after earlier moves, too."""
    values: list[Value] = []
    table: list[Array] = []
    first = 0
    for signal in signals:
        inner = signal if isinstance(signal, Scattered) else None
        own = (signal,) if not isinstance(signal, Scattered) else signal.values
        size = sum(prod(value.shape) for value in own)
        entries = np.arange(size) if inner is None else inner.places.ravel()
        table.append(np.where(entries >= 0, entries + first, -1))
        values += own
        first += size
    moved = np.append(np.concatenate(table), -1)[places]
    found = moved_value(builder, path, values, moved) if moved.ndim <= 3 else None
    return found or Scattered(path, tuple(values), moved)


def moved_value(
    builder: Builder, path: str, values: Sequence[Value], places: Array
) -> Value | None:
    """Return the value whose entry e is entry ``places[e]`` of the signals, or None.

    Args:
        places: an array of the shape of a sample. Entries are counted from 0 through all signals.
    """
    values = [builder.alone(path, value) for value in values]
    joined = _beside(builder, path, values, places)
    if joined is not None:
        return joined
    first, parts = 0, []
    for value in values:
        size = prod(value.shape)
        own = np.where((places >= first) & (places < first + size), places - first, -1)
        first += size
        if (own >= 0).any():
            part = _one(builder, path, value, own)
            if part is None:
                return None
            parts.append(part)
    total = parts[0] if parts else None
    for part in parts[1:]:
        total = total and total.plus(part)
    return total


def _one(builder: Builder, path: str, value: Value, places: Array) -> Value | None:
    """Return the part of the value that comes from one signal."""
    height, width, _ = value.image
    if height * width > 1 and prod(places.shape[1:]) == 1:
        return _flattened(builder, path, value, places.reshape(-1), places.shape)
    lines = (1, 1, *places.shape[1:])[-2:]
    if prod(lines) == height * width and lines != (height, width):
        value = _rearranged(builder, path, value, places.shape)
    found = _separated(places, value)
    if found is None:
        return None
    empty = bool((found.rows < 0).any() or (found.columns < 0).any())
    if empty:
        value = builder.unshifted(path, value)
    for axis, along in ((0, found.rows), (1, found.columns)):
        stretched = _stretched(builder, path, value, axis, along)
        if stretched is None:
            return None
        value = stretched
    return _picked(replace(value, shape=(value.shape[0], *places.shape[1:])), found.channels)


def _rearranged(builder: Builder, path: str, value: Value, shape: Shape) -> Value:
    """Return the value with the same pixels in the same order, in rows of another length."""
    after = replace(value, shape=(value.shape[0], *shape[1:]))

    def relabel(edge: int) -> int:
        node = Relabel(path, _shape(builder, edge, after), builder.forms[edge], (edge,))
        return builder.add(node, builder.under[edge])

    return builder.each(after, relabel)


def _picked(value: Value, channels: Array) -> Value:
    """Return the channels of a value in another order, or some of them."""
    there = channels >= 0

    def table(values: Array) -> Array:
        return np.where(there, values[:, channels], 0)

    terms = (
        Term(term.edge, np.where(there, term.pick[channels], -1), table(term.scale))
        for term in value.terms
    )
    shape = (len(channels), *value.shape[1:])
    return Value(shape, tuple(terms), (), table(value.shift))


def _flattened(builder: Builder, path: str, value: Value, places: Array, shape: Shape) -> Value:
    """Return a vector of the entries of an image, which the edge holds pixel after pixel."""
    height, width, _ = value.image
    there = places >= 0
    channel, pixel = places // (height * width), places % (height * width)

    def flat(edge: int) -> int:
        size = prod(builder.shapes[edge])
        node = Relabel(path, (1, 1, size), builder.forms[edge], (edge,))
        return builder.add(node, builder.under[edge])

    sizes = {term.edge: builder.shapes[term.edge][2] for term in value.terms}
    terms = []
    for term in value.terms:
        entry = pixel * sizes[term.edge] + term.pick[channel]
        there_too = there & (term.pick[channel] >= 0)
        scale = np.where(there_too, term.scale[:, channel], 0)
        terms.append(Term(term.edge, np.where(there_too, entry, -1), scale))
    shift = np.where(there, value.shift[:, channel], 0)
    return builder.each(Value(shape, tuple(terms), (), shift), flat)


def _separated(places: Array, value: Value) -> Moved | None:
    """Return channels, rows and columns of an image's entries, or None if there are no such."""
    height, width, _ = value.image
    image = places.reshape(len(places), *(1, 1, *places.shape[1:])[-2:])
    there = image >= 0
    channels, rows, columns = (np.asarray(there.any(axis)) for axis in ((1, 2), (0, 2), (0, 1)))
    if not np.array_equal(there, channels[:, None, None] & rows[:, None] & columns):
        return None
    c, y, x = channels.argmax(), rows.argmax(), columns.argmax()
    found = Moved(
        np.where(channels, image[:, y, x] // (height * width), -1),
        np.where(rows, image[c, :, x] // width % height, -1),
        np.where(columns, image[c, y, :] % width, -1),
    )
    wanted = (found.channels[:, None, None] * height + found.rows[:, None]) * width + found.columns
    return found if np.array_equal(np.where(there, wanted, -1), image) else None


def _stretched(builder: Builder, path: str, value: Value, axis: int, lines: Array) -> Value | None:
    """Return rows or columns unchanged, padded, repeated or strided."""
    length = value.image[axis]
    if np.array_equal(lines, np.arange(length)):
        return value
    (there,) = np.nonzero(lines >= 0)
    inside = lines[there[0] : there[-1] + 1]
    if np.array_equal(inside, np.arange(length)):
        around = int(there[0]), len(lines) - 1 - int(there[-1])
        return padded(builder, path, value, axis, around)
    if len(inside) != len(lines) or lines[0] != 0:
        return None
    factor = len(lines) // length
    if factor > 1 and np.array_equal(lines, np.arange(length).repeat(factor)):
        return _repeated(builder, path, value, axis, factor)
    stride = int(lines[1]) if len(lines) > 1 else length
    if stride > 0 and np.array_equal(lines, np.arange(0, length, stride)):
        return _strided(builder, path, value, axis, stride)
    return None


def _resized(value: Value, axis: int, length: int) -> Value:
    height, width, channels = value.image
    size = (length, width) if axis == 0 else (height, length)
    return replace(value, shape=(channels, *size))


def _shape(builder: Builder, edge: int, value: Value) -> tuple[int, int, int]:
    return value.image[0], value.image[1], builder.shapes[edge][2]


def padded(builder: Builder, path: str, value: Value, axis: int, around: tuple[int, int]) -> Value:
    """Return a value with rows (axis 0) or columns of empty edges around it; a shift goes on."""
    after = _resized(value, axis, value.image[axis] + sum(around))
    padding = (*around, 0, 0) if axis == 0 else (0, 0, *around)

    def pad(edge: int) -> int:
        node = Pad(path, _shape(builder, edge, after), builder.forms[edge], (edge,), padding)
        return builder.add(node, builder.under[edge])

    return builder.each(after, pad)


def _repeated(builder: Builder, path: str, value: Value, axis: int, factor: int) -> Value:
    after = _resized(value, axis, value.image[axis] * factor)
    factors = (factor, 1) if axis == 0 else (1, factor)

    def repeat(edge: int) -> int:
        node = Upsample(path, _shape(builder, edge, after), builder.forms[edge], (edge,), factors)
        return builder.add(node, builder.under[edge])

    return builder.each(after, repeat)


def _strided(builder: Builder, path: str, value: Value, axis: int, stride: int) -> Value:
    after = _resized(value, axis, -(-value.image[axis] // stride))
    strides = (stride, 1) if axis == 0 else (1, stride)

    def skip(edge: int) -> int:
        form = builder.forms[edge]
        shape = _shape(builder, edge, after)
        kind = "sum_pool" if form == "counts" else "max_pool"
        node = Pool(kind, path, shape, form, (edge,), (1, 1), strides, (0, 0))  # type: ignore[arg-type]
        return builder.add(node, builder.under[edge])

    return builder.each(after, skip)


def _beside(builder: Builder, path: str, values: Sequence[Value], places: Array) -> Value | None:
    """Return whole signals of one form, one after the other, as one edge; None otherwise."""
    edges = [value.terms[0].edge for value in values if len(value.terms) == 1]
    total = sum(prod(value.shape) for value in values)
    whole = np.array_equal(places.ravel(), np.arange(total))
    plain = len(edges) == len(values) > 1 and all(builder.is_plain(v.terms[0]) for v in values)
    if not whole or not plain or len({builder.forms[edge] for edge in edges}) != 1:
        return None
    if len({value.shape[1:] for value in values}) != 1:
        return None
    height, width, _ = values[0].image
    channels = sum(value.shape[0] for value in values)
    node = Concat(path, (height, width, channels), builder.forms[edges[0]], tuple(edges))
    edge = builder.add(node, max(builder.under[e] for e in edges))
    scale = _side_by_side([value.terms[0].scale for value in values])
    shift = _side_by_side([value.shift for value in values])
    return replace(Value.of(edge, places.shape, scale), shift=shift)


def _side_by_side(tables: Sequence[Array]) -> Array:
    rows = max(map(len, tables))
    return np.concatenate([np.broadcast_to(t, (rows, t.shape[1])) for t in tables], 1)
