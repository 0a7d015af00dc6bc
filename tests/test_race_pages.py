"""What pages say of the engine's race is what the kept races say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from leanspike.bench import Counted, Heat, Outcome, Race, StepEnergy, engine_figure, markdown
from leanspike.bench.result import Entry
from leanspike.evaluation import provenance

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import make_race  # noqa: E402

MADE_UP = {
    "ann": 1.5,
    "ann_compiled": 1.4,
    "ann_int8": 0.6,
    "ann_openvino": 0.5,
    "snn": 3.0,
    "snn@1": 2.0,
    "engine_f32": 0.45,
    "engine_f32@1": 0.30,
    "engine_int8": 0.35,
    "engine_int8@1": 0.25,
    "engine_int6": 0.28,
    "engine_int6@1": 0.20,
    "engine_int6_exit": 0.24,
}
"""Milliseconds of an image, which nobody measured."""


def race(timesteps: int = 2, run: str = "cifar10_lean") -> Race:
    """A race that never was."""
    names = [name for name in MADE_UP if timesteps == 2 or not re.search("@|exit", name)]
    outcomes = []
    for batch in (1, 64):
        heat = Heat(train=False, dtype="float32", batch=batch, timesteps=timesteps)
        entries = tuple(
            Entry(
                contender=name,
                version="1",
                seconds=tuple(MADE_UP[name] * batch * factor / 1e3 for factor in (1.0, 1.1, 0.9)),
                accuracy=0.94 - 0.01 * ("@" in name),
                mean_steps=1.25 if "exit" in name else None,
                own_bytes=2**24,
            )
            for name in names
        )
        outcomes.append(Outcome(heat=heat, entries=entries))
    energies = (
        StepEnergy(timesteps=1, accumulates=9e6, multiplies=3e6, float_pj=25e6, whole_pj=18e6),
        StepEnergy(timesteps=2, accumulates=20e6, multiplies=3e6, float_pj=36e6, whole_pj=21e6),
    )
    counted = Counted(
        images=10_000,
        ann_macs=118e6,
        ann_pj=543e6,
        ann_int8_pj=35.4e6,
        steps=energies[:timesteps],
    )
    origin = provenance(command="leanspike bench")
    return Race(
        outcomes=(),
        engine=tuple(outcomes),
        run=run,
        counted=counted,
        scored=10_000,
        provenance=origin,
    )


def written(tmp_path: Path, *found: Race) -> make_race.Races:
    for each in found:
        folder = tmp_path / "2026-11-28" / str(each.run)
        folder.mkdir(parents=True)
        (folder / "race.json").write_text(each.model_dump_json())
    return make_race.races(tmp_path)


def test_the_pages_say_what_the_kept_races_say() -> None:
    kept = make_race.races()
    found = 0
    for path in make_race.PAGES:
        text = path.read_text(encoding="utf-8")
        found += len(make_race.REGION.findall(text))
        assert make_race.page(text, kept) == text, "run: python docs/make_race.py"
    assert found == 7


def test_the_figures_are_those_of_the_first_races() -> None:
    races = make_race.races()
    places = make_race.figures(races)
    assert sorted(make_race.FIGURE.parent.glob("race*.svg")) == sorted(places)
    for place, race in zip(places, make_race.firsts(races), strict=True):
        drawn, kept = engine_figure(race), place.read_text(encoding="utf-8")
        anonymous = [re.sub(r"\b[mp][0-9a-f]{10}\b", "id", svg) for svg in (drawn, kept)]
        assert anonymous[0] == anonymous[1], "run: python docs/make_race.py"


def test_without_a_race_it_says_so(tmp_path: Path) -> None:
    kept = make_race.races(tmp_path)
    assert make_race.sentence(kept) == make_race.paragraph(kept) == make_race.NONE
    assert make_race.bounds(kept).count("not raced") == len(make_race.BOUNDS)
    text = "<!-- race: figure -->\nold\n<!-- end -->"
    assert make_race.page(text, kept) == "<!-- race: figure -->\n<!-- end -->"


def test_a_race_is_told_in_words_and_tables(tmp_path: Path) -> None:
    kept = written(tmp_path, race(run="a_first_name"), race())
    assert [each.run for _, each in kept] == ["cifar10_lean", "a_first_name"]
    machine = make_race.machine(kept[0][1])
    assert make_race.sentence(kept) == (
        "The engine answers `cifar10_lean` (2 steps, batches of 64 images) in 0.20 of its ANN's "
        f"time in float32 and 0.56 of its ANN's time in int8. The machine: {machine}."
    )
    told = make_race.paragraph(kept)
    assert "the ANN in int8 94.00 %, the SNN 94.00 % and the engine 94.00 % of 10,000" in told
    assert "costs 0.07 of the ANN's in 32-bit floating point" in told
    assert "costs 0.59 of the ANN's in 8-bit integers" in told
    bounds = make_race.bounds(kept)
    row = "| `cifar10_lean`, batch 64 ÷ its ANN in float32 | ≤ 0.25 | 0.15 | 0.20 (0.20–0.20) |"
    assert f"{row} 6 bits | float32, torch.compile | {machine} |" in bounds
    assert "| `cifar10_t5`, batch 64 ÷ its ANN in float32 | ≤ 0.75 | 0.5 | not raced |" in bounds
    tables = make_race.tables(kept)
    assert "| the engine, 6 bits, after step 1 | 0.200 (0.180–0.220) |" in tables
    assert "| 94.00 % after 1.25 steps | 16 MiB |" in tables
    assert (
        "| the SNN, whole-number weights, 2 steps | 3.00 M | 20.0 M | 21.0 µJ | 0.039 |" in tables
    )


def test_the_latest_race_of_each_machine_is_told(tmp_path: Path) -> None:
    first = race()
    other = first.provenance.model_copy(update={"hardware": "Another CPU"})
    elsewhere = first.model_copy(update={"provenance": other, "matrix_units": True})
    newer = first.model_copy(update={"scored": 77})
    for name, each in (("01", first), ("02", elsewhere), ("03", newer)):
        folder = tmp_path / f"2026-11-{name}" / "cifar10_lean"
        folder.mkdir(parents=True)
        (folder / "race.json").write_text(each.model_dump_json())
    kept = make_race.races(tmp_path)
    assert [each for _, each in kept] == [newer, elsewhere]  # who has no matrix units is first
    assert [place.name for place in make_race.figures(kept)] == ["race.svg", "race_2.svg"]
    assert "(docs/race_2.svg)" not in make_race.readme_picture(kept)
    told = make_race.bounds(kept)
    assert told.count("| `cifar10_lean`, batch 64 ÷ its ANN in float32 |") == 2
    assert told.count("Another CPU with matrix units") == 4


@pytest.mark.parametrize("timesteps", [1, 2])
def test_the_figure_has_every_precision_and_every_step(timesteps: int) -> None:
    svg = engine_figure(race(timesteps))
    for words in ("ANN, float32: 94.00 %", "ANN, int8", "SNN, PyTorch", "engine, 6 bits"):
        assert words in svg
    assert "one image at a time" in svg
    assert "batches of 64 images" in svg
    steps = re.findall(r"font-size: 9px[^>]*>(\d)</text>", svg)
    assert sorted(set(steps)) == ["1", "2"][:timesteps]
    assert len(steps) == 2 * 4 * timesteps  # two panels, four lines


def test_the_page_of_an_engines_race_is_about_its_run() -> None:
    page = markdown(race())
    assert page.startswith("# Race of cifar10_lean, ")
    assert "VGG9" not in page
    assert "## What was counted, over 10,000 test images" in page
