"""The figures in the documents are those of the runs that are kept."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import pytest

from leanspike.evaluation import Result
from leanspike.recipes import load_recipe
from leanspike.recipes.study import digest, read_study
from leanspike.studies import load_kept, read_kept

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
STUDIES = sorted(path.parent for path in (ROOT / "results").glob("*/study.yaml"))
RUNS = [study / f"{run}.json" for study in STUDIES for run in read_study(study).runs]


@cache
def result_of(run: Path) -> Result:
    return load_kept(run).result


def results_of(variant: str) -> list[Result]:
    """The results of a variant, STUDY/VARIANT, of all seeds."""
    study = ROOT / "results" / variant.partition("/")[0]
    name = variant.partition("/")[2]
    return [
        result_of(study / f"{name}-{seed}.json") for seed in read_study(study).variants[name].seeds
    ]


def test_the_tables_are_those_of_the_runs() -> None:
    from make_results import INDEX, PAGES, index, page

    for path, least in zip(PAGES, (2, 1), strict=True):
        text = path.read_text(encoding="utf-8")
        assert text.count("<!-- table: ") >= least
        assert page(text) == text, "run: python docs/make_results.py"
    assert index() == INDEX.read_text(encoding="utf-8"), "run: python docs/make_results.py"


def test_the_figure_of_the_norms_is_that_of_the_runs() -> None:
    from make_norms_figure import OUT, figure

    drawn, kept = (anonymous(svg) for svg in (figure(), OUT.read_text(encoding="utf-8")))
    assert drawn == kept, "run: python docs/make_norms_figure.py"


def test_the_figure_of_densities_is_that_of_the_latest_measurement() -> None:
    from make_density_figure import OUT, figure

    drawn, kept = (anonymous(svg) for svg in (figure(), OUT.read_text(encoding="utf-8")))
    assert drawn == kept, "run: python docs/make_density_figure.py"


def anonymous(svg: str) -> str:
    """A figure without its ids, which matplotlib makes of numbers as numpy writes them."""
    return re.sub(r"\b[mp][0-9a-f]{10}\b", "id", svg)


def test_a_study_has_a_file_for_each_run_and_nothing_else() -> None:
    assert len(STUDIES) > 10
    for study in STUDIES:
        assert sorted(study.iterdir()) == sorted(
            [*(study / f"{run}.json" for run in read_study(study).runs), study / "study.yaml"]
        )
    assert sorted(path.name for path in (ROOT / "results").iterdir()) == sorted(
        ["README.md", *(study.name for study in STUDIES)]
    )


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.parent.name}/{run.stem}")
def test_a_run_that_is_kept_can_be_read_and_run_again(run: Path) -> None:
    result = result_of(run)
    recipe = load_recipe(run)
    assert recipe.name == result.name
    assert recipe.seed == result.provenance.seed
    if recipe.data.cross_validation is None:
        assert result.n == 10_000
    assert result.energy.bntt_formula_ratio is not None  # worked out where it was not recorded
    assert result.example is None  # the images are not ours to hand on
    assert result.mistakes is None or not any(m.picture for m in result.mistakes.first)
    assert "/" not in str(recipe.model.weights or "").removeprefix("runs/").removesuffix("/ann")


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_study_gives_each_run_the_recipe_that_it_ran(study: Path) -> None:
    found = read_study(study)
    for run in found.runs:
        assert digest(found.recipe(run)) == read_kept(study / f"{run}.json").recipe


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_command_of_a_run_has_its_recipe(study: Path) -> None:
    found = read_study(study)
    for run in found.runs:
        program, verb, recipe, *overrides = found.repeats(run, Path("results", study.name)).split()
        if "--out" in overrides:
            overrides = overrides[: overrides.index("--out")]
        source = ROOT / recipe if recipe.startswith("results/") else recipe
        ends = ["snn=[]"] if verb == "convert" else []
        named = load_recipe(source, [*overrides, *ends]).model_dump(exclude={"name", "description"})
        kept = load_recipe(study / f"{run}.json").model_dump(exclude={"name", "description"})
        assert (program, named) == ("leanspike", kept)
        assert (verb == "convert") == (kept["snn"] == ())


@pytest.mark.parametrize(
    ("command", "variant"),
    [
        ("train cifar10`", "cifar10/base"),
        ("train cifar10_t5`", "cifar10_t5/base"),
        ("train cifar10_lean`", "cifar10_lean/base"),
        ("convert published_resnet20 ", "published_resnet20/bntt-converted"),
        ("train published_resnet20 ", "published_resnet20/base"),
        ("train results/bntt_cifar10_t25/", "bntt_cifar10_t25/base"),
        ("train taught_cifar10 ", "choose/diet-taught"),
        ("train kdsnn_cifar10 ", "kd/feature"),
        ("train kdsnn_mnist`", "kdsnn_mnist/base"),
        ("train bntt_mnist`", "bntt_mnist/base"),
        ("train bntt_nmnist ", "nmnist/base"),
    ],
)
def test_energies_beside_a_command_are_those_of_its_runs(command: str, variant: str) -> None:
    results = results_of(variant)
    pages = [(ROOT / page).read_text("utf-8") for page in ("README.md", "docs/results.md")]
    rows = [
        [line for line in page.splitlines() if f"| `leanspike {command}" in line] for page in pages
    ]
    assert len(rows[1]) == 1
    assert rows[0] in ([], rows[1])
    energies = [result.energy for result in results]
    ratios = [
        [energy.ratio for energy in energies],
        [energy.formula_ratio for energy in energies],
        [energy.bntt_formula_ratio or 0 for energy in energies],
    ]
    steps = results[0].timesteps
    expected = ", ".join(f"{sum(values) / len(values):.1f}×" for values in ratios)
    assert f"| {steps} | {expected} " in rows[1][0]  # beside every ratio stands its T


def test_the_splits_together_are_all_recordings() -> None:
    splits = results_of("nmnist/base")
    assert len(splits) == 5
    assert sum(result.n for result in splits) == 1_100
