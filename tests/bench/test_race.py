"""The race runs: every part of it, small, with a contender that is missing and one that breaks."""

from dataclasses import replace
from unittest.mock import patch

import pytest

from leanspike import cli, native
from leanspike.bench import CONTENDERS, Heat, Outcome, Plan, Race, figure
from leanspike.bench.profile import REST
from leanspike.bench.race import run_heat
from leanspike.bench.result import Entry
from leanspike.errors import LeanspikeError
from leanspike.memory import resident_bytes

HEAT = Heat(train=True, dtype="float32", batch=2, timesteps=2, width=0.05)


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    """The smallest whole race from the command line."""
    out = tmp_path_factory.mktemp("race") / "bench"
    heats = [HEAT, replace_heat(dtype="bfloat16"), replace_heat(train=False)]
    with (
        patch("leanspike.bench.race.heats", lambda _: heats),
        patch("leanspike.bench.race.curve", lambda _: [HEAT, replace_heat(timesteps=3)]),
        patch.object(Plan, "profiled", lambda _: [HEAT]),
        patch("leanspike.bench.race.has_bfloat16", return_value=True),
    ):
        arguments = ["--contenders", "ann,leanspike,loop", "--rounds", "2", "--out", str(out)]
        cli.app(["bench", *arguments], standalone_mode=False)
    return out


def replace_heat(**changes):
    return HEAT.model_copy(update=changes)


def test_it_writes_what_it_measured(race):
    found = Race.model_validate_json((race / "race.json").read_text())
    assert [len(found.outcomes), len(found.curve), len(found.profiles)] == [3, 2, 2]
    for outcome in (*found.outcomes, *found.curve):
        assert [entry.contender for entry in outcome.entries] == ["ann", "leanspike", "loop"]
        assert all(len(entry.seconds) == 2 for entry in outcome.entries)
    assert found.provenance.versions["torch"]
    assert found.provenance.seconds["bench"] > 0


def test_bfloat16_is_left_out_where_it_is_emulated(tmp_path, capsys):
    out = tmp_path / "bench"
    with (
        patch("leanspike.bench.race.heats", lambda _: [HEAT, replace_heat(dtype="bfloat16")]),
        patch("leanspike.bench.race.has_bfloat16", return_value=False),
    ):
        arguments = ["--contenders", "ann", "--rounds", "1", "--parts", "race", "--out", str(out)]
        cli.app(["bench", *arguments], standalone_mode=False)
    found = Race.model_validate_json((out / "race.json").read_text())
    assert [outcome.heat.dtype for outcome in found.outcomes] == ["float32"]
    said = "bfloat16 is left out: this processor only emulates bfloat16"
    assert found.left_out.startswith(said)
    assert f"- {found.left_out}\n" in (out / "race.md").read_text()
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("computes", [True, False])
def test_no_heat_of_any_part_is_emulated(computes):
    plan = Plan(contenders=("ann", "leanspike"))
    with patch("leanspike.bench.race.has_bfloat16", return_value=computes):
        dtypes = {heat.dtype for heat in (*plan.heats(), *plan.curve(), *plan.profiled())}
        assert dtypes == ({"float32", "bfloat16"} if computes else {"float32"})
        assert len(plan) == (12 * 10 + 6 * 10 + 2 * 2 if computes else 6 * 10 + 6 * 10 + 2)
        assert (plan.left_out() is None) == computes
        assert replace(plan, parts=("curve",)).left_out() is None  # which is float32's


def test_it_says_what_of_leanspikes_computed(race):
    found = Race.model_validate_json((race / "race.json").read_text())
    name = "native" if native.is_built() else "reference"
    for outcome in (*found.outcomes, *found.curve):
        assert [entry.backend for entry in outcome.entries] == [None, name, None]
    ours = found.outcomes[0].entries[1]
    assert found.provenance.backend == ours.backend
    assert found.provenance.instructions == ours.instructions
    words = ", ".join(filter(None, (ours.backend, ours.instructions)))
    assert f"leanspike's backend: {words}; python" in (race / "race.md").read_text()


def test_memory_is_each_process_own(race):
    if resident_bytes() is None:
        pytest.skip("this system does not tell a process's memory")
    found = Race.model_validate_json((race / "race.json").read_text())
    for entry in found.outcomes[0].entries:
        assert 0 < entry.own_bytes < entry.peak_bytes


def test_a_profile_adds_up_to_the_wall_clock(race):
    found = Race.model_validate_json((race / "race.json").read_text())
    ours = next(p for p in found.profiles if p.contender == "leanspike").milliseconds
    assert {"convolution", "matrix product", "neuron kernel", "pooling", REST} <= set(ours)
    assert (
        "neuron kernel" not in next(p for p in found.profiles if p.contender == "ann").milliseconds
    )
    assert all(value >= 0 for value in ours.values())


def test_the_page_shows_every_heat(race):
    page = (race / "race.md").read_text()
    for title in (
        "training, float32, batch 2, T = 2",
        "inference",
        "over T",
        "Where the time goes",
    ):
        assert title in page
    svg = (race / "race.svg").read_text()
    assert svg.startswith("<svg")
    assert "a plain time loop" in svg


def test_a_finished_race_is_not_overwritten(race, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--out", str(race)])
    assert "--fresh" in capsys.readouterr().err
    assert (race / "race.json").is_file()


def test_who_fails_is_told_and_the_others_go_on():
    with patch.dict(CONTENDERS, ghost=replace(CONTENDERS["norse"], title="ghost")):
        outcome = run_heat(HEAT, ["ann", "ghost"], rounds=1, tell=lambda _: None)
    ann, ghost = outcome.entries  # the worker does not know the ghost
    assert len(ann.seconds) == 1
    assert "KeyError" in ghost.failure
    assert ghost.seconds == ()


def test_ratios_are_taken_round_by_round():
    a = Entry(contender="ann", version="", seconds=(1.0, 10.0, 100.0))
    b = Entry(contender="loop", version="", seconds=(2.0, 20.0, 200.0))
    spread = Outcome(heat=HEAT, entries=(a, b)).ratio("loop", to="ann")
    assert (spread.low, spread.median, spread.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contenders": ("ann", "nobody")}, "no contender 'nobody'; choose from ann, leanspike"),
        ({"parts": ("races",)}, "no part 'races'; choose from race, curve, profile"),
        ({"rounds": 0}, "rounds is 0; give 1 or more"),
        ({"width": 0.0}, "width is 0.0; give a number above 0"),
    ],
)
def test_mistakes_are_told_in_one_line(changes, message):
    with pytest.raises(LeanspikeError, match=message):
        Plan(**{"contenders": ("ann",)} | changes)


def test_an_empty_race_is_drawn():
    """As with --parts curve: what was not raced is not shown."""
    empty = Race.model_construct(outcomes=(), curve=(), profiles=())
    assert figure(empty).startswith("<svg")
