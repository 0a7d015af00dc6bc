"""Reading the typed parts of a header, or refusing them in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from leanspike_runtime.errors import EngineError


def parsed(text: bytes) -> Any:
    """Parse JSON of printable ASCII without escapes, repeated keys and infinite numbers.

    >>> parsed(b'{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parsed(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: has a header that is no JSON (a key that stands twice)
    """
    if b"\\" in text or any(byte > 126 or byte < 32 for byte in text):
        raise EngineError("has a header of other characters than printable ASCII")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_never)
    except (ValueError, RecursionError) as error:
        raise EngineError(f"has a header that is no JSON ({str(error)[:80]})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key that stands twice")
    return dict(pairs)


def _never(constant: str) -> Any:
    raise ValueError(f"the number {constant}")


def keyed(value: Any, where: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return an object after checking that it has exactly these keys.

    >>> keyed({"a": 1, "c": 2}, "node 3", ("a", "b"))
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: node 3 has the keys a, c; they must be a, b
    """
    if not isinstance(value, dict):
        raise EngineError(f"{where} is no object")
    if value.keys() != set(keys):
        raise EngineError(
            f"{where} has the keys {', '.join(value)}; they must be {', '.join(keys)}"
        )
    return value


def whole(value: Any, where: str) -> int:
    """Return a whole number after checking that it is 0 or more, with at most 53 bits.

    >>> whole(3, "offset")
    3
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise EngineError(f"{where} is {_shown(value)}, no whole number from 0")
    return value


def wholes(value: Any, where: str, count: int | None = None) -> tuple[int, ...]:
    """Return a list of whole numbers after checking it and its length.

    >>> wholes([3, 3], "kernel", 2)
    (3, 3)
    """
    found = tuple(whole(entry, where) for entry in listed(value, where))
    if count is not None and len(found) != count:
        raise EngineError(f"{where} has {len(found)} numbers, not {count}")
    return found


def number(value: Any, where: str) -> float:
    """Return a number after checking that it is finite.

    >>> number(0.5, "initial")
    0.5
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EngineError(f"{where} is {_shown(value)}, no number")
    try:
        found = float(value)
    except OverflowError:
        found = float("inf")
    if abs(found) == float("inf"):
        raise EngineError(f"{where} is {_shown(value)}, no finite number")
    return found


def listed(value: Any, where: str) -> list[Any]:
    """Return a value after checking that it is a list.

    >>> listed([], "nodes")
    []
    """
    if not isinstance(value, list):
        raise EngineError(f"{where} is {_shown(value)}, no list")
    return value


def text(value: Any, where: str) -> str:
    """Return a value after checking that it is a string.

    >>> text("sum", "readout")
    'sum'
    """
    if not isinstance(value, str):
        raise EngineError(f"{where} is {_shown(value)}, no text")
    return value


def _shown(value: Any) -> str:
    return str(value)[:40]
