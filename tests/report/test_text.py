"""Names and results as text, at the edges that the docstrings leave out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.report import text

seeded = settings(derandomize=True)


@seeded
@given(st.text(max_size=60), st.integers(min_value=2, max_value=40))
def test_shortened_names_fit_and_keep_their_end(name: str, width: int) -> None:
    assert len(text.tail(name, width)) == len(text.head(name, width)) == min(len(name), width)
    assert name.endswith(text.tail(name, width).removeprefix("…"))
    assert name.startswith(text.head(name, width).removesuffix("…"))


def test_settling_step() -> None:
    assert text.settling_step((0.9,)) == 1
    assert text.settling_step((0.9, 0.5, 0.9)) == 3
    assert text.settling_step((0.1, 0.2, 0.9)) == 3
