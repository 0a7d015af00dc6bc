"""Packing plain data: a list of alike mappings becomes a table, which holds the keys once."""

from __future__ import annotations

import json
from typing import Any

COLUMNS, ROWS = "columns", "rows"


def packed(data: Any) -> Any:
    """Return JSON-like data with lists of mappings with equal keys as tables.

    >>> packed([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}])
    {'columns': ['step', 'loss'], 'rows': [[1, 0.5], [2, 0.25]]}
    """
    if isinstance(data, dict):
        return {key: packed(value) for key, value in data.items()}
    if not isinstance(data, list):
        return data
    if len(data) > 1 and all(isinstance(row, dict) for row in data):
        keys = list(data[0])
        if keys and all(list(row) == keys for row in data):
            rows = [[packed(value) for value in row.values()] for row in data]
            return {COLUMNS: keys, ROWS: rows}
    return [packed(value) for value in data]


def unpacked(data: Any) -> Any:
    """Return the data that `packed` was given, with the order of keys.

    Raises:
        ValueError: if a table's row has more or fewer entries than the table has columns.

    >>> unpacked({"columns": ["step", "loss"], "rows": [[1, 0.5], [2, 0.25]]})
    [{'step': 1, 'loss': 0.5}, {'step': 2, 'loss': 0.25}]
    """
    if isinstance(data, list):
        return [unpacked(value) for value in data]
    if not isinstance(data, dict):
        return data
    if list(data) == [COLUMNS, ROWS]:
        keys = data[COLUMNS]
        return [dict(zip(keys, map(unpacked, row), strict=True)) for row in data[ROWS]]
    return {key: unpacked(value) for key, value in data.items()}


def compact(data: dict[str, Any]) -> str:
    """Return JSON without spaces, with a line for each key.

    >>> print(compact({"a": [1, 2], "b": None}), end="")
    {"a":[1,2],
    "b":null}
    """
    lines = (f"{json.dumps(key)}:{_dense(value)}" for key, value in data.items())
    return "{" + ",\n".join(lines) + "}\n"


def _dense(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
