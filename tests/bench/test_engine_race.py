"""Part "engine" of the race: a small run's networks, what is right about them, and its tables."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from leanspike import LIF, CurrentLIF, cli, evaluate, load, models, save, spike
from leanspike.bench import RIVALS, Heat, Outcome, Plan, Race, markdown
from leanspike.bench.deployed import deployed
from leanspike.bench.engine import contest, count_run
from leanspike.bench.result import Entry
from leanspike.bench.rivals import racing
from leanspike.bench.trained import MARGIN, read_trained
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
SCORED = 300  # of 359, which fill no whole number of batches


def made(folder: Path, timesteps: int, **options) -> Path:
    """What `leanspike train` leaves, untrained."""
    torch.manual_seed(0)
    ann = models.create_model("vgg", 10, image_size=8, in_channels=1, **OPTIONS).eval()
    spec = ModelSpec(name="vgg", num_classes=10, in_channels=1, image_size=8, options=OPTIONS)
    save(ann, folder / "ann", spec)
    example = torch.zeros(1, 1, 8, 8)
    snn = spike(ann, example_input=example, timesteps=timesteps, **options)
    save(snn, folder / "snn", spec)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("race") / "run", timesteps=2)


def test_the_engine_is_as_often_right_as_its_network(run):
    named = ("ann", "snn", "engine_f32", "engine_int8", "engine_int6")
    right = {name: contest(name, run, 64, SCORED).accuracy()[0] for name in named}
    assert right["engine_f32"] == pytest.approx(right["snn"], abs=2 / SCORED)
    assert right["engine_int8"] == pytest.approx(right["snn"], abs=0.1)
    assert right["engine_int6"] == pytest.approx(right["snn"], abs=0.15)
    scores = [contest(name, run, 64, 64)(64) for name in ("snn", "engine_f32", "engine_int6_exit")]
    assert [tuple(y.shape) for y in scores] == [(64, 10)] * 3
    assert torch.allclose(scores[0], scores[1], atol=1e-3)


def test_a_rival_is_stopped_after_a_step(run):
    images = read_trained(run, 5).test
    first = load(run / "snn").eval()(images, 1)[0]
    for name in ("snn@1", "engine_f32@1"):
        assert torch.allclose(contest(name, run, 5, 5)(5), first, atol=1e-4)


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(0.4, leak=0.8, height="threshold", initial="half"),
        LIF(0.4, leak=1.0, height="unit", initial="zero"),
        LIF(0.4, leak=0.5, height="threshold", initial="half", reset="hard"),
    ],
    ids=lambda neuron: neuron.extra_repr(),
)
def test_spikingjelly_has_the_networks_weights_and_membranes(tmp_path, neuron):
    pytest.importorskip("spikingjelly", exc_type=ImportError)
    trained = read_trained(made(tmp_path / "run", timesteps=3, neuron=neuron), SCORED)
    wanted, found = (RIVALS[name].build(trained) for name in ("snn", "snn_spikingjelly"))
    scores = wanted(trained.test)
    assert scores.std() > 1e-3
    torch.testing.assert_close(found(trained.test), scores, rtol=1e-4, atol=1e-4)
    stopped = replace(trained, steps=2)
    torch.testing.assert_close(
        RIVALS["snn_spikingjelly"].build(stopped)(trained.test),
        RIVALS["snn"].build(stopped)(trained.test),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "bntt"}, r"no .*\.weight of the ANN's shape.*spike\.norm=keep"),
        (
            {"neuron": LIF(0.4, floor=1.0)},
            r"has not one leak and one threshold.*leave snn_spikingjelly out",
        ),
        ({"neuron": CurrentLIF(0.4, synapse_leak=0.5)}, r"has not one leak and one threshold"),
        (
            {"neuron": LIF(0.4, per="channel")},
            r"has not one leak and one threshold.*leave snn_spikingjelly out",
        ),
    ],
    ids=str,
)
def test_what_spikingjelly_cannot_be_is_said(tmp_path, options, message):
    pytest.importorskip("spikingjelly", exc_type=ImportError)
    trained = read_trained(made(tmp_path / "run", timesteps=2, **options), SCORED)
    with pytest.raises(LeanspikeError, match=message):
        RIVALS["snn_spikingjelly"].build(trained)


def test_images_that_leave_tell_after_how_many_steps(run):
    staying, leaving = (contest(f"engine_f32{end}", run, 64, SCORED) for end in ("", "_exit"))
    assert staying.accuracy()[1] is None
    assert 1 <= leaving.accuracy()[1] <= 2
    assert leaving.trained.margin == (MARGIN, None)


def test_the_margin_is_the_one_that_the_run_has_chosen(run, monkeypatch):
    rules = [SimpleNamespace(by="gamma", threshold=0.1, latest=None)]
    rules += [SimpleNamespace(by="margin", threshold=0.4, latest=3)]
    monkeypatch.setattr(
        "leanspike.evaluation.load_result", lambda _: SimpleNamespace(early_exit=rules)
    )
    trained = read_trained(run, 1)
    assert trained.margin == (MARGIN, None)
    (run / "result.json").touch()
    assert trained.margin == (0.4, 3)
    (run / "result.json").unlink()


def test_what_is_counted_is_what_evaluation_counts(run):
    counted = count_run(run, limit=20)
    assert counted.images == 20
    trained = read_trained(run, 20)
    result = evaluate(trained.snn, (trained.test, trained.labels))
    one, two = counted.steps
    assert two.float_pj == pytest.approx(result.energy.snn_pj)
    assert counted.ann_pj == pytest.approx(result.energy.ann_pj)
    assert 0 < one.accumulates < two.accumulates
    assert one.multiplies == two.multiplies  # of the first layer, whose input stays the same
    assert two.float_pj - two.whole_pj == pytest.approx(0.8 * two.accumulates)


def test_a_batch_that_the_data_cannot_fill_is_refused(run):
    with pytest.raises(LeanspikeError, match=r"has 359 test images, .* --batches up to 359"):
        contest("ann", run, 400, SCORED)


def test_it_needs_a_run():
    with pytest.raises(LeanspikeError, match=r"give --run runs/cifar10_t5"):
        Plan(contenders=("ann",), parts=("engine",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": (0, 64)}, "batches is 0; give 1 or more"),
        ({"scored": 0}, "limit is 0; give 1 or more"),
    ],
)
def test_numbers_that_are_none_are_refused(run, changes, message):
    with pytest.raises(LeanspikeError, match=message):
        replace(Plan(contenders=("ann",), parts=("engine",), trained=run), **changes)


def test_with_one_step_nobody_leaves_early(tmp_path):
    run = made(tmp_path / "run", timesteps=1)
    plan = Plan(contenders=("leanspike",), parts=("engine",), trained=run)
    assert plan.left_out().endswith("with one step no image can leave before the last")
    assert not [name for name in plan.engine.racing() if "@" in name or "exit" in name]
    assert len(count_run(run, limit=5).steps) == 1
    assert racing(("leanspike", "engine_f32"), 3) == ["engine_f32", "engine_f32@1", "engine_f32@2"]


def test_the_command_races_and_says_who_was_how_often_right(run, tmp_path: Path):
    out = tmp_path / "out"
    words = f"--parts engine --run {run} --rounds 1 --batches 2,1 --limit 30 --out {out}".split()
    cli.app(["bench", *words, "--contenders", "ann,engine_int6"], standalone_mode=False)
    race = Race.model_validate_json((out / "race.json").read_text())
    assert [outcome.heat.batch for outcome in race.engine] == [1, 2]
    for outcome in race.engine:
        names = [entry.contender for entry in outcome.entries]
        assert names == ["ann", "engine_int6", "engine_int6@1"]
        assert all(entry.seconds and 0 <= entry.accuracy <= 1 for entry in outcome.entries)
    assert (race.run, race.scored, race.counted.images) == ("run", 30, 30)
    assert str(run) not in (out / "race.json").read_text()
    page = (out / "race.md").read_text()
    assert "The engine: inference, float32, batch 1, T = 2" in page
    assert "leanspike bench --parts engine --run runs/run --rounds 1 --limit 30" in page
    assert "engine, 6 bits" in (out / "race.svg").read_text()


def test_what_was_found_is_kept_before_the_end(run):
    kept: list[Race] = []
    plan = Plan(("engine_f32",), 1, ("engine",), trained=run, batches=(1,), scored=5)

    def stop(race: Race) -> None:
        kept.append(race)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.run("x", lambda _: None, stop)
    assert kept[0].engine[0].entries[0].seconds


def test_a_batch_that_is_no_number_is_told(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--batches", "1,many"])
    assert "batches is '1,many'; give whole numbers" in " ".join(capsys.readouterr().err.split())


def test_who_failed_says_why_in_the_table():
    heat = Heat(train=False, dtype="float32", batch=1, timesteps=2)
    entries = (Entry(contender="ann_openvino", version="", failure="no module named 'openvino'"),)
    outcome = Outcome(heat=heat, entries=entries)
    page = markdown(Race(outcomes=(), engine=(outcome,), provenance=provenance(command="x")))
    assert f"| {RIVALS['ann_openvino'].title}  | no module named 'openvino' |" in page


class Scaled(nn.Module):
    """A norm behind a pool, and a factor behind the last layer, as fast networks have them."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.conv, self.pool, self.norm = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4)
        self.relu, self.answer = nn.ReLU(), nn.Linear(4 * 9, 5)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.constant_(self.norm.weight, sign)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.relu(self.norm(self.pool(self.conv(x)))).flatten(1)) * 0.125


@pytest.mark.parametrize(("sign", "norms"), [(0.5, 0), (-0.5, 1)])
def test_norms_behind_pools_are_deployed_where_that_changes_nothing(sign, norms):
    torch.manual_seed(0)
    network, x = Scaled(sign).eval(), torch.randn(4, 3, 8, 8)
    before = network(x)
    made = deployed(network)
    assert torch.allclose(made(x), before, atol=1e-6)
    assert torch.equal(network(x), before)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in made.modules()) == norms
    assert "mul" not in made.code
