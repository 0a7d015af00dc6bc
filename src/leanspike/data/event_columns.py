"""From arrays of numbers to events: which column is what, in which unit, ON or OFF.

An array does not say what a column is, unless the column has a name. It does not say in which unit
times are, either. Integers are µs, as in the data sets in use. For floats and for columns without
names :class:`ArrayForm` must say it. What cannot be events of a camera is refused by name. Nothing
is rounded or cut off unasked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from leanspike.data.event_formats import Raw, UnsaidError, Values
from leanspike.errors import LeanspikeError

Unit = Literal["s", "ms", "us", "ns"]

NAMES = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "t": ("t", "ts", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities"),
}
"""The names that usual files have for the parts of an event."""
LATEST = 2**62
"""The largest time in any unit; far beyond the years that :class:`leanspike.data.Events` allows."""


@dataclass(frozen=True)
class ArrayForm:
    """What a file with arrays does not say of its events.

    - ``unit`` is that of times: "s", "ms", "us" or "ns" (None: integers are µs, floats are
      refused).
    - ``columns`` names the columns of a plain array [N, 4], such as "txyp".
    - ``polarity`` is the pair (OFF, ON) of values (None: 0 and 1, or −1 and 1).

    Raises:
        LeanspikeError: for other values.

    >>> ArrayForm(unit="s", columns="txyp", polarity=(1, 2))
    ArrayForm(unit='s', columns='txyp', polarity=(1, 2))
    """

    unit: Unit | None = None
    columns: str | None = None
    polarity: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and self.unit not in get_args(Unit):
            raise LeanspikeError(f"unit is {self.unit!r}; give one of {', '.join(get_args(Unit))}")
        columns = self.columns
        if columns is not None and not (
            isinstance(columns, str) and sorted(columns) == sorted("xytp")
        ):
            raise LeanspikeError(
                f"columns is {self.columns!r}; give the letters x, y, t and p in the file's order"
            )
        if self.polarity is not None and not _is_pair(self.polarity):
            raise LeanspikeError(
                f"polarity is {self.polarity!r}; give two values, OFF before ON, such as (0, 1)"
            )

    @property
    def said(self) -> list[str]:
        """The names of what is given."""
        return [name for name in ("unit", "columns", "polarity") if getattr(self, name) is not None]


def _is_pair(values: object) -> bool:
    """Tell whether these are two different numbers."""
    pair = isinstance(values, (tuple, list)) and len(values) == 2 and len(set(values)) == 2
    return pair and all(isinstance(value, (int, float)) for value in cast("list[object]", values))


def named_parts(arrays: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arrays called x, y, t and p, or by another of their names.

    It is None if one is missing.
    """
    found = {
        letter: [arrays[name] for name in names if name in arrays]
        for letter, names in NAMES.items()
    }
    if any(len(values) != 1 for values in found.values()):
        return None
    return {letter: values[0] for letter, values in found.items()}


def unclear(names: list[str]) -> str:
    """Say that it is not clear which of these arrays are events.

    >>> unclear(["a", "b"])
    'which of its arrays are events is not clear among a, b; give leanspike.data.Events the ...'
    """
    return (
        f"which of its arrays are events is not clear among {', '.join(names) or 'none'}; "
        "give leanspike.data.Events the right ones"
    )


def events_of(arrays: Mapping[str, Values], form: ArrayForm, offset: int = 0) -> Raw:
    """Return the events of arrays x, y, t and p, or of a single one with fields or columns."""
    named = named_parts(arrays)
    if named is None:
        if len(arrays) != 1:
            raise UnsaidError(unclear(sorted(arrays)))
        (table,) = arrays.values()
        if table.dtype.names is None:
            return _from_columns(table, form)
        named = named_parts({name: table[name] for name in table.dtype.names})
        if named is None:
            raise UnsaidError(
                f"its fields are {', '.join(table.dtype.names)}, not x, y, t and p; rename them"
            )
    if form.columns is not None:
        raise UnsaidError(f"its columns have names; leave out columns={form.columns!r}")
    return _checked(named, form, offset)


def _from_columns(table: Values, form: ArrayForm) -> Raw:
    if table.ndim != 2 or table.shape[1] != 4:
        raise ValueError(f"it is {table.dtype} {list(table.shape)}, not [N, 4]")
    if form.columns is None:
        raise UnsaidError(
            'its four columns have no names; give their order, such as columns="txyp" or "xytp", '
            "and the unit of t"
        )
    return _checked(dict(zip(form.columns, table.T, strict=True)), form)


def _checked(named: Mapping[str, Values], form: ArrayForm, offset: int = 0) -> Raw:
    x, y, t, p = (np.asarray(named[letter]) for letter in "xytp")
    shapes = {values.shape for values in (x, y, t, p)}
    if len(shapes) > 1 or x.ndim != 1:
        raise ValueError(f"x, y, t and p have shapes {sorted(shapes)}, not one value per event")
    for letter, values in (("x", x), ("y", y), ("t", t), ("p", p)):
        if values.dtype.kind not in ("biuf" if letter == "p" else "iuf"):
            raise ValueError(f"{letter} is {values.dtype}, not integers or floats")
        finite = np.isfinite(values)
        if not finite.all():
            raise ValueError(f"{letter} is {values[finite.argmin()]} at event {finite.argmin()}")
    return Raw(_places("x", x), _places("y", y), _times(t, form.unit, offset), _on(p, form), None)


def _places(name: str, values: Values) -> NDArray[np.int64]:
    """Return whole numbers as int64.

    Whether they lie on the sensor is checked where the sensor is known.
    """
    _check(name, values, np.abs(values.astype(np.float64)) >= 2**31, "no place on a sensor")
    between = values != np.floor(values)
    _check(name, values, between, "between two pixels; round x and y and give them to Events")
    return values.astype(np.int64)


def _times(values: Values, unit: Unit | None, offset: int) -> NDArray[np.int64]:
    """Return times in µs: integers are µs unless a unit is given, floats need a unit."""
    whole = values.dtype.kind in "iu"
    if not whole and unit is None:
        fractions = (values != np.floor(values)).any()
        if fractions:
            raise UnsaidError(
                f't is {values.dtype} with fractions, no whole µs; give unit="s", "ms" or "us"'
            )
        raise UnsaidError(f't is {values.dtype} of unknown unit; give unit="us", "ms", "s" or "ns"')
    factor, divisor = {"s": (10**6, 1), "ms": (1000, 1), "ns": (1, 1000)}.get(unit or "", (1, 1))
    size = np.abs(values.astype(np.float64)) * (factor / divisor)
    _check("t", values, size + abs(offset) * factor >= LATEST, "no time of a recording")
    if whole:
        exact = values.astype(np.int64) + offset
        microseconds = (exact * factor + divisor // 2) // divisor
    elif offset:
        raise ValueError("it has a t_offset, but t is no integers")
    else:
        wide = values.astype(np.float64) * factor / divisor
        microseconds = np.round(wide).astype(np.int64)
    _check("t", values, values < 0, "before the recording; subtract the first time from all")
    return microseconds


def _on(values: Values, form: ArrayForm) -> NDArray[np.bool_]:
    """Tell which events are ON: by the two usual values, or the two that were given."""
    if form.polarity is not None:
        off, on = form.polarity
        strange = (values != off) & (values != on)
        _check("p", values, strange, f"neither {off} (OFF) nor {on} (ON); give polarity=(OFF, ON)")
        return cast("NDArray[np.bool_]", values == on)
    found = np.unique(values)
    if set(found.tolist()) <= {0, 1} or set(found.tolist()) <= {-1, 1}:
        return cast("NDArray[np.bool_]", values == 1)
    shown = ", ".join(f"{value:g}" for value in found[:4]) + (", ..." if len(found) > 4 else "")
    if len(found) <= 2:
        raise UnsaidError(
            f"its polarities are {shown}, not 0 and 1 or -1 and 1; give polarity=(OFF, ON), the "
            "value of each"
        )
    raise UnsaidError(
        f"its polarities are {shown}, more than two values; give the right columns, or remove the "
        "events that are neither OFF nor ON"
    )


def _check(name: str, values: Values, wrong: NDArray[np.bool_], why: str) -> None:
    if wrong.any():
        event = int(wrong.argmax())
        raise UnsaidError(f"{name} is {values[event]} at event {event}, {why}")
