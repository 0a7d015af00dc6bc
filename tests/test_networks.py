"""Real networks, of timm and torchvision: they convert, or are refused by name."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from examine_network import examine  # noqa: E402
from make_networks import PAGE, apart, line, networks, page, survey  # noqa: E402


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("timm:test_resnet", "as it is"),
        ("timm:test_efficientnet", "by advice"),
        ("timm:test_vit", "by advice"),
    ],
)
def test_a_small_one_converts(name, verdict):
    row = examine(name)
    assert row["verdict"] == verdict, row


def test_one_that_breaks_the_process_is_a_row_too(monkeypatch):
    monkeypatch.setattr("examine_network.SECONDS", 0)
    row = apart("timm:test_resnet")
    assert (row["verdict"], row["why"]) == ("fails", "more than 0 s")
    assert line(row) == "| test_resnet |  |  | fails | more than 0 s |"


def test_rows_that_are_known_are_taken(tmp_path):
    rows = [{"name": name, "verdict": "refused", "why": "a: b; c"} for name in networks()]
    known = tmp_path / "rows.jsonl"
    known.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert survey(known) == rows
    assert "| test_resnet |  |  | refused | a: b |" in page(rows)
    assert "0 of 98 convert (0 %)" in page(rows)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_most_of_timm_and_all_of_torchvision_without_a_failure():
    rows = survey()
    assert [row for row in rows if row["verdict"] == "fails"] == []
    of_timm = [row["verdict"] for row in rows if row["name"].startswith("timm:")]
    assert of_timm.count("as it is") + of_timm.count("by advice") >= 0.6 * len(of_timm)
    assert page(rows) == PAGE.read_text(encoding="utf-8"), "run: python docs/make_networks.py"
