"""Compact files lose nothing: values, types, order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanspike.studies.packed import compact, packed, unpacked

KEYS = st.sampled_from(["a", "b", "rows", "é"])
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
)
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_size=3,
)


@given(DATA)
def test_what_is_packed_comes_back(data: dict[str, Any]) -> None:
    text = compact(packed(data))
    assert json.dumps(unpacked(json.loads(text))) == json.dumps(data)


def test_rows_of_other_keys_are_no_table() -> None:
    rows = [{"a": 1}, {"b": 1}]
    assert packed(rows) == rows
    assert packed([{"a": 1, "b": 2}, {"b": 1, "a": 2}]) == [{"a": 1, "b": 2}, {"b": 1, "a": 2}]


def test_a_row_that_is_too_short_is_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        unpacked({"columns": ["a", "b"], "rows": [[1]]})
