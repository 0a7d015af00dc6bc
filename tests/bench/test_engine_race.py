"""Part "engine" of the race: a small run's networks, what is right about them, and its tables."""

from pathlib import Path

import pytest
import torch

from leanspike import cli, models, save, spike
from leanspike.bench import RIVALS, Heat, Outcome, Plan, Race, markdown
from leanspike.bench.engine import BATCHES, contest
from leanspike.bench.result import Entry
from leanspike.bench.rivals import racing
from leanspike.bench.trained import SCORED
from leanspike.errors import LeanspikeError
from leanspike.evaluation import provenance
from leanspike.saved import ModelSpec
from leanspike_runtime.library import what_is_missing

if what_is_missing():
    pytest.skip(what_is_missing(), allow_module_level=True)

OPTIONS = {"layers": [8, "A", 16], "head": [], "batch_norm": True, "global_pool": True}
RECIPE = """
name: race
data: {name: digits}
model: {name: vgg, options: {layers: [8, A, 16], head: [], batch_norm: true, global_pool: true}}
spike: {timesteps: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What `leanspike train` leaves, untrained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("race") / "run"
    ann = models.create_model("vgg", 10, image_size=8, in_channels=1, **OPTIONS).eval()
    spec = ModelSpec(name="vgg", num_classes=10, in_channels=1, image_size=8, options=OPTIONS)
    save(ann, folder / "ann", spec)
    save(spike(ann, example_input=torch.zeros(1, 1, 8, 8), timesteps=2), folder / "snn", spec)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def test_the_engine_is_as_often_right_as_its_network(run):
    named = ("ann", "snn", "engine_f32", "engine_int8", "engine_int6")
    right = {name: contest(name, run, 64).accuracy() for name in named}
    assert right["engine_f32"] == pytest.approx(right["snn"], abs=2 / SCORED)
    assert right["engine_int8"] == pytest.approx(right["snn"], abs=0.1)
    assert right["engine_int6"] == pytest.approx(right["snn"], abs=0.15)
    scores = [contest(name, run, 64)() for name in ("snn", "engine_f32", "engine_int6_exit")]
    assert [tuple(y.shape) for y in scores] == [(64, 10)] * 3
    assert torch.allclose(scores[0], scores[1], atol=1e-3)


def test_a_batch_that_the_data_cannot_fill_is_refused(run):
    with pytest.raises(LeanspikeError, match=r"has 359 test images, but batch 400 needs more"):
        contest("ann", run, 400)


def test_it_needs_a_run():
    with pytest.raises(LeanspikeError, match=r"give --run runs/cifar10_t5"):
        Plan(contenders=("ann",), parts=("engine",))
    assert racing(("leanspike", "engine_f32")) == ["engine_f32"]


def test_the_command_races_and_says_who_was_how_often_right(run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("leanspike.bench.engine.BATCHES", BATCHES[:1])
    words = [
        "--parts",
        "engine",
        "--run",
        str(run),
        "--rounds",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    cli.app(["bench", *words, "--contenders", "ann,engine_int6"], standalone_mode=False)
    race = Race.model_validate_json((tmp_path / "out" / "race.json").read_text())
    (outcome,) = race.engine
    assert [entry.contender for entry in outcome.entries] == ["ann", "engine_int6"]
    assert all(entry.seconds and 0 <= entry.accuracy <= 1 for entry in outcome.entries)
    assert (
        "The engine: inference, float32, batch 1, T = 2" in (tmp_path / "out/race.md").read_text()
    )


def test_who_failed_says_why_in_the_table():
    heat = Heat(train=False, dtype="float32", batch=1, timesteps=2)
    entries = (Entry(contender="ann_openvino", version="", failure="no module named 'openvino'"),)
    outcome = Outcome(heat=heat, entries=entries)
    page = markdown(Race(outcomes=(), engine=(outcome,), provenance=provenance(command="x")))
    assert f"| {RIVALS['ann_openvino'].title} | no module named 'openvino' |" in page
