"""The figures in the documents are those of the runs that are kept."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from leanspike.evaluation import load_result
from leanspike.recipes import load_recipe

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
RUNS = sorted(path.parent for path in (ROOT / "results").rglob("result.json"))


def test_the_tables_are_those_of_the_runs() -> None:
    from make_results import PAGES, page

    for path, least in zip(PAGES, (2, 1), strict=True):
        text = path.read_text(encoding="utf-8")
        assert text.count("<!-- table: ") >= least
        assert page(text) == text, "run: python docs/make_results.py"


def test_the_figure_of_the_norms_is_that_of_the_runs() -> None:
    from make_norms_figure import OUT, figure

    drawn, kept = (anonymous(svg) for svg in (figure(), OUT.read_text(encoding="utf-8")))
    assert drawn == kept, "run: python docs/make_norms_figure.py"


def anonymous(svg: str) -> str:
    """A figure without its ids, which matplotlib makes of numbers as numpy writes them."""
    return re.sub(r"\b[mp][0-9a-f]{10}\b", "id", svg)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_run_that_is_kept_can_be_read_and_run_again(run: Path) -> None:
    result = load_result(run / "result.json")
    recipe = load_recipe(run / "recipe.yaml")
    assert recipe.name == result.name
    assert recipe.seed == result.provenance.seed
    if recipe.data.cross_validation is None:
        assert result.n == 10_000
    assert result.energy.bntt_formula_ratio is not None  # worked out where it was not recorded
    assert result.example is None  # the images are not ours to hand on
    assert result.mistakes is None or not any(m.picture for m in result.mistakes.first)
    assert "/" not in str(recipe.model.weights or "").removeprefix("runs/").removesuffix("/ann")


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("train cifar10`", "cifar10"),
        ("train cifar10_t5`", "cifar10_t5"),
        ("convert published_resnet20 ", "published_resnet20-bntt-converted"),
        ("train published_resnet20 ", "published_resnet20"),
        ("train results/bntt_cifar10_t25/", "bntt_cifar10_t25"),
        ("train taught_cifar10 ", "choose-diet-taught-?"),
        ("train kdsnn_cifar10 ", "kd-feature-?"),
        ("train kdsnn_mnist`", "kdsnn_mnist"),
        ("train bntt_mnist`", "bntt_mnist"),
        ("train bntt_nmnist ", "nmnist-?"),
    ],
)
def test_the_readmes_energies_are_those_of_the_runs(command: str, runs: str) -> None:
    results = [load_result(path) for path in (ROOT / "results").glob(f"{runs}/result.json")]
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    (row,) = [line for line in lines if f"| `leanspike {command}" in line]
    energies = [result.energy for result in results]
    ratios = [
        [energy.ratio for energy in energies],
        [energy.formula_ratio for energy in energies],
        [energy.bntt_formula_ratio or 0 for energy in energies],
    ]
    steps = results[0].timesteps
    expected = ", ".join(f"{sum(values) / len(values):.1f}×" for values in ratios)
    assert f"| {steps} | {expected} " in row  # beside every ratio stands its T


def test_the_splits_together_are_all_recordings() -> None:
    splits = [load_result(run / "result.json") for run in RUNS if run.name.startswith("nmnist-")]
    assert len(splits) == 5
    assert sum(result.n for result in splits) == 1_100
