"""The page that says what survives where is what the readers give."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from make_survives import CASES, PAGE, cell, of_before, page, table  # noqa: E402

from leanspike.export import TARGETS  # noqa: E402

pytest.importorskip("nir")


def test_the_page_has_a_cell_for_each_network_and_target():
    cells = {case: dict.fromkeys(TARGETS, "0") for case in CASES}
    lines = page(cells).splitlines()
    committed = PAGE.read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("- ")] == committed[-len(TARGETS) :]
    rows = [line.split("|")[1].strip() for line in committed if line.startswith("| ")]
    assert rows == ["network", *CASES]
    assert all(set(row) == set(TARGETS) for row in of_before(cells).values())


def test_a_cell_says_what_becomes_of_a_network():
    pytest.importorskip("spikingjelly")
    assert cell("spikingjelly", "dense", "hard leaky") == "0"
    assert cell("spikingjelly", "dense", "soft leaky").startswith("refused, else ")
    assert cell("lava", "dense", "hard leaky") == "written"
    assert cell("lava", "dense", "soft leaky") == "refused, else 2.9 % by its rules"
    assert cell("xylo", "dense", "soft leaky") == "refused"
    assert cell("xylo", "pooled", "soft") == "refused"


@pytest.mark.slow
def test_the_page_is_what_the_readers_give():
    for package in ("norse", "snntorch", "spikingjelly"):
        pytest.importorskip(package)
    found = page(of_before(table()))
    assert found == PAGE.read_text("utf-8"), "run: python docs/make_survives.py"
