"""The speedrun's board is that of the kept results, and says which rules an entry does not meet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.speedrun.board import README, Entry, entries, page, table
from benchmarks.speedrun.macs import macs_of_recipe
from leanspike.evaluation import Macs, Result
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.studies import load_kept
from leanspike.train import Monitor

RESULTS = Path(__file__).parents[1] / "results"
FIRST = load_kept(RESULTS / "cifar10_t5" / "base-0.json").result


def test_the_board_is_that_of_the_results() -> None:
    text = README.read_text("utf-8")
    assert page(text) == text, "run: python -m benchmarks.speedrun.board"
    assert text.count("\n| 20") == len(entries()) >= 2


def by_layers(result: Result) -> int:
    """What a chain with a stem was trained with, by its layers and its recipe, but calibration."""
    recipe = load_recipe(RESULTS / result.name / "base-0.json")
    assert recipe.ann is not None
    held_out = recipe.data.validation or 5_000  # CIFAR's own
    assert {recipe.ann.batch_size, *(stage.batch_size for stage in recipe.snn)} == {128}
    trained = (50_000 - held_out) // 128 * 128  # an epoch has whole batches only
    stem, *others = (round(layer.dense_macs) for layer in result.operations)
    answer = stem + sum(others)
    assert [layer.static for layer in result.operations] == [True, *[False] * len(others)]
    total = recipe.ann.epochs * (trained * (3 * answer - stem) + held_out * answer)
    for stage in recipe.snn:
        assert stage.gradient == "bptt"
        steps = stage.timesteps or recipe.spike.timesteps
        forward = stem + steps * sum(others)
        step = 3 * forward - stem + stage.objective.is_taught * answer
        total += stage.epochs * (trained * step + held_out * forward)
    return total


@pytest.mark.parametrize(
    "entry", [e for e in entries() if e.macs is not None], ids=lambda e: e.name
)
def test_a_training_that_did_not_count_is_counted_by_its_layers(entry: Entry) -> None:
    (result,) = entry.results
    assert result.provenance.training_macs is None
    assert entry.macs == by_layers(result)


def changed(result: Result, **provenance: object) -> Result:
    origin = result.provenance.model_copy(update=provenance)
    return result.model_copy(update={"provenance": origin})


def fit_for_the_record() -> Result:
    """A result that meets all rules but for its seeds."""
    recipe = json.loads(json.dumps(FIRST.provenance.recipe))
    recipe["data"]["validation"] = 5_000
    good = FIRST.model_copy(update={"timesteps": 4, "accuracy": (0.9, 0.91, 0.92, 0.928)})
    seconds = {"train ann": 3500.0, "evaluate": 90.0, "times": 900.0}
    return changed(good, recipe=recipe, seconds=seconds, threads=2, hardware="A CPU (AVX512)")


def test_an_entry_says_which_rules_it_does_not_meet() -> None:
    assert Entry("first", "", (FIRST,)).lacking == (
        *("accuracy", "T", "n", "minutes and MACs", "held out"),
    )
    good = fit_for_the_record()
    assert Entry("good", "", (good,) * 3).lacking == ()
    part = good.model_copy(update={"n": 5_000})
    assert Entry("part", "", (good, good, part)).lacking == ("test set",)
    slow = changed(good, seconds={"train ann": 3601.0})
    assert Entry("slow", "", (good, good, slow)).lacking == ("minutes and MACs",)


@pytest.mark.parametrize("machine", [{"hardware": "A GPU"}, {"threads": 8}])
def test_minutes_count_on_two_cores_alone_and_macs_everywhere(machine: dict[str, object]) -> None:
    other = changed(fit_for_the_record(), **machine)
    assert Entry("fast", "", (other,) * 3).lacking == ("minutes and MACs",)
    assert Entry("fast", "", (other,) * 3, macs=10**15).lacking == ("minutes and MACs",)
    few = changed(other, macs={"train ann": Macs(forward=6 * 10**14)})
    assert Entry("few", "", (few,) * 3).lacking == ()
    much = changed(other, macs={"train ann": Macs(forward=6 * 10**14, teacher=1)})
    assert Entry("much", "", (few, few, much)).lacking == ("minutes and MACs",)


def test_a_row_has_mean_and_deviation_and_says_what_is_not_counted() -> None:
    good = fit_for_the_record()
    better = good.model_copy(update={"accuracy": (0.9, 0.91, 0.92, 0.93)})
    row = table([Entry("good", "good/study.yaml", (good, better))]).splitlines()[-1]
    assert "| 92.90 ± 0.14 | 2 | 4 |" in row
    assert "| not counted | A CPU (AVX512), 2 threads | n |" in row


def test_a_recipe_is_counted_as_its_run_counts(tmp_path: Path) -> None:
    changes = (
        *("model.options.layers=[4, A]", "model.options.head=[]", "data.train_images=96"),
        *("ann.epochs=2", "ann.batch_size=64", "device=cpu"),
        "snn=[{epochs: 1, timesteps: 2, batch_size: 64, gradient: rate, "
        "objective: [cross_entropy, response]}]",
    )
    recipe = load_recipe("digits", changes)
    run = Run(recipe, tmp_path, Monitor(Console(quiet=True), tmp_path))
    run.begin()
    run.train_ann()
    run.convert()
    run.train_snn()
    found = json.loads((tmp_path / "macs.json").read_text())
    del found["calibrate"]
    assert {phase: macs.model_dump() for phase, macs in macs_of_recipe(recipe).items()} == found
