"""Early exits of a run: refused before anything is trained or evaluated, or left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.run.exits import with_exits
from leanspike.train import Monitor


def open_quietly(folder: Path, *changes: str) -> Run:
    small = ["ann=null", "spike.calibrate=null", "model.options.width=0.125", "device=cpu"]
    return Run(load_recipe("digits", [*small, *changes]), folder, Monitor(Console(quiet=True)))


def test_what_the_call_asks_for_is_checked_before_the_network_is_read(tmp_path: Path) -> None:
    run = open_quietly(tmp_path)  # which holds no network
    with pytest.raises(LeanspikeError, match="early exit by gamma goes by the scales of BNTT"):
        run.evaluate("test", ["gamma"])
    with pytest.raises(LeanspikeError, match=r"evaluate\.max_drop_points is 100\.0"):
        run.evaluate("test", ["margin"], 100.0)


def test_a_recipes_rules_may_be_replaced_or_left_out() -> None:
    recipe = load_recipe("digits", ["evaluate.early_exit=[margin]"])
    assert with_exits(recipe) == recipe.evaluate
    assert with_exits(recipe, ["entropy"], 1.5).early_exit == ("entropy",)
    assert with_exits(recipe, [], 1.5).max_drop_points == 1.5
    assert with_exits(recipe, ["none"]).early_exit == ()
    with pytest.raises(LeanspikeError, match="but there is no early exit; name a rule"):
        with_exits(load_recipe("digits"), [], 1.5)
