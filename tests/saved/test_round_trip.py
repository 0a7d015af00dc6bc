"""What is saved loads: every setting of a spiking network comes back, or `save` refuses at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.graph import rules
from leanspike.graph.ops import Operation
from leanspike.graph.outputs import tensors
from leanspike.graph.plan import Plan
from leanspike.lower import fold_norms
from leanspike.neuron import Surrogate, neurons, surrogates
from leanspike.saved import SPEC
from leanspike.temporal import BNTT, Encoder, Poisson, TemporalNorm, encoders, norms
from networks import NETWORKS, build, draw

X = torch.linspace(-1, 2, 24).view(4, 6)


class Swish(nn.Module):
    """An activation of the user's own."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(beta))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class Halved(nn.Module):
    """An operation of the user's own, which branches."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2 if len(x) else x


def roll(x: Tensor) -> Tensor:
    return torch.roll(x, 1, 1)


torch.fx.wrap("roll")


class Rolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(roll(F.relu(self.a(x))))


class Heads(NamedTuple):
    policy: Tensor
    value: Tensor


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = F.silu(self.a(x)).sigmoid()
        return {"heads": Heads(self.b(h), self.c(h)), "none": None}


def layers(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, 3))


def normed() -> nn.Sequential:
    return layers(nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())


def norm_of_other_eps(channels: int, timesteps: int) -> TemporalNorm:
    return BNTT(channels, timesteps, eps=0.125)


LIF = ls.LIF(0.3, 0.9)
SETTINGS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "a type of torch's": (lambda: layers(nn.ReLU6()), {"activations": (nn.ReLU6,)}),
    "with a parameter": (lambda: layers(nn.PReLU()), {"activations": (nn.PReLU,)}),
    "a type of one's own": (lambda: layers(Swish(2.0)), {"activations": [Swish]}),
    "a function, a method": (Critic, {"activations": {F.silu, "sigmoid"}}),
    "ops of torch's": (
        lambda: layers(nn.ReLU(), nn.Sigmoid()),
        {"ops": {nn.Sigmoid: "analog", torch.special.expit: None, "sigmoid": "graded"}},
    ),
    "ops of one's own": (lambda: layers(nn.ReLU(), Halved()), {"ops": {Halved: "graded"}}),
    "hard reset": (
        lambda: layers(nn.ReLU()),
        {"neuron": ls.LIF(0.3, reset="hard", height="threshold", initial="half", per="channel")},
    ),
    "adaptive": (lambda: layers(nn.ReLU()), {"neuron": ls.AdaptiveLIF(0.3)}),
    "filtered": (lambda: layers(nn.ReLU()), {"neuron": ls.CurrentLIF(0.3, surrogate=ls.Arctan())}),
    "poisson": (lambda: layers(nn.ReLU()), {"encode": Poisson(gain=0.75, seed=5), "timesteps": 9}),
    "frames": (lambda: layers(nn.ReLU()), {"encode": "frames"}),
    "no passes": (lambda: layers(nn.ReLU()), {"lower": ()}),
    "folded by a pass": (normed, {"norm": "keep", "lower": ["fold_norms"]}),
    "folded": (lambda: layers(nn.BatchNorm1d(8), nn.ReLU()), {"norm": "fold"}),
    "folded beside the weights": (
        lambda: layers(nn.ReLU(), nn.BatchNorm1d(8)),
        {"norm": "keep", "lower": ["fold_norms"]},
    ),
    "bntt": (normed, {"norm": "bntt"}),
    "tebn": (normed, {"norm": "tebn"}),
    "other norms": (normed, {"norm": norm_of_other_eps}),
    "as the papers": (normed, {"neuron": None, "preset": "paper"}),
    "by the network": (normed, {"neuron": None}),
}


def spiking(setting: str, **options: Any) -> tuple[ls.SpikingNetwork, Tensor]:
    """The network of a setting with numbers of its own, and input for it."""
    torch.manual_seed(3)
    make, given = SETTINGS[setting]
    x = torch.stack([X, X / 2]) if given.get("encode") == "frames" else X
    ann = make().eval()
    snn = ls.spike(ann, example_input=x, **{"neuron": LIF, "timesteps": 3, **given, **options})
    with torch.no_grad():
        for module in snn.modules():
            if isinstance(module, BNTT):
                module.running_mean.normal_(0, 0.1)
    return snn, x


def assert_same(found: nn.Module, saved: ls.SpikingNetwork, x: Tensor) -> None:
    assert isinstance(found, ls.SpikingNetwork)
    torch.testing.assert_close(tensors(found(x)), tensors(saved(x)), rtol=0, atol=0)
    assert (found.timesteps, found.plan.encoder) == (saved.timesteps, saved.plan.encoder)
    assert found.plan.declared == saved.plan.declared
    assert (found.plan.passes, found.plan.norm) == (saved.plan.passes, saved.plan.norm)
    assert found.plan.sample_dtype == saved.plan.sample_dtype
    facts = [[node.meta["signal"] for node in snn.plan.graph.nodes] for snn in (found, saved)]
    assert facts[0] == facts[1]
    for (path, ours), (other, theirs) in zip(saved.neurons(), found.neurons(), strict=True):
        assert (path, str(ours)) == (other, str(theirs))


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_comes_back(setting: str, tmp_path: Path) -> None:
    snn, x = spiking(setting)
    again = ls.load(ls.save(snn, tmp_path), ann=SETTINGS[setting][0]())
    assert_same(again, snn, x)
    assert isinstance(again, ls.SpikingNetwork)
    ls.save(again, tmp_path / "again")
    for name in (SPEC, "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
    other, _ = spiking(setting)
    assert ls.load(tmp_path, ann=other) is other
    assert_same(other, snn, x)


@pytest.mark.parametrize("name", [n for n in NETWORKS if "vgg16" not in n and "121" not in n])
def test_networks_come_back(name: str, tmp_path: Path) -> None:
    snn = ls.spike(build(name), example_input=draw(name, 1), neuron=LIF, timesteps=2)
    again = ls.load(ls.save(snn, tmp_path), ann=build(name, seed=2))
    assert_same(again, snn, draw(name, 2))


# -- types of numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("setting", ["with a parameter", "bntt", "folded by a pass"])
def test_any_floating_point_type_comes_back(
    setting: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    make = SETTINGS[setting][0]
    x = X.to(dtype)
    options = {"example_input": x, "neuron": LIF, "timesteps": 3, **SETTINGS[setting][1]}
    snn = ls.spike(make().to(dtype).eval(), **options)
    ls.save(snn, tmp_path)
    for ann in (make(), make().to(dtype), ls.spike(make().to(dtype).eval(), **options)):
        again = ls.load(tmp_path, ann=ann)
        assert_same(again, snn, x)
        for name, value in snn.state_dict().items():
            assert again.state_dict()[name].dtype == value.dtype


def test_a_network_that_was_cast_comes_back(tmp_path: Path) -> None:
    snn = ls.spike(normed().eval(), example_input=X, neuron=LIF, norm="bntt").bfloat16()
    ls.save(snn, tmp_path)
    for ann in (normed(), normed().bfloat16()):
        again = ls.load(tmp_path, ann=ann)
        assert torch.equal(again(X.bfloat16()), snn(X.bfloat16()))
        assert {value.dtype for value in again.state_dict().values()} == {torch.bfloat16}


def test_mixed_types_come_back(tmp_path: Path) -> None:
    snn = ls.spike(layers(nn.ReLU(), nn.LayerNorm(8), nn.ReLU()).eval(), example_input=X)
    snn.get_submodule("0").double()
    types = {name: value.dtype for name, value in snn.state_dict().items()}
    assert set(types.values()) == {torch.float64, torch.float32}
    ls.save(snn, tmp_path)
    fresh = ls.spike(layers(nn.ReLU(), nn.LayerNorm(8), nn.ReLU()).eval(), example_input=X)
    again = ls.load(tmp_path, ann=fresh)
    assert {name: value.dtype for name, value in again.state_dict().items()} == types


def test_an_ann_comes_back_in_its_type_and_tied(tmp_path: Path) -> None:
    tied = layers(nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).bfloat16()
    tied[4].weight = tied[2].weight
    ls.save(tied, tmp_path)
    fresh = layers(nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    fresh[4].weight = fresh[2].weight
    again = ls.load(tmp_path, ann=fresh)
    assert torch.equal(again(X.bfloat16()), tied(X.bfloat16()))
    assert again[4].weight is again[2].weight  # type: ignore[index]


# -- what the files do not hold --------------------------------------------------------------------


def test_what_is_not_in_the_network_is_passed_again(tmp_path: Path) -> None:
    snn = ls.spike(Rolled().eval(), example_input=X, neuron=LIF, ops={roll: "same"})
    ls.save(snn, tmp_path)
    with pytest.raises(
        LeanspikeError, match=r"test_round_trip\.roll is not in the network; .*ops=\{roll: \.\.\.\}"
    ):
        ls.load(tmp_path, ann=Rolled())
    assert_same(ls.load(tmp_path, ann=Rolled(), ops={roll: "same"}), snn, X)
    with pytest.raises(LeanspikeError, match=r"roll is 'same' there, but 'analog' in ops; leave"):
        ls.load(tmp_path, ann=Rolled(), ops={roll: "analog"})
    with pytest.raises(LeanspikeError, match=r"ops of load has torch\.nn\.Tanh, but the network"):
        ls.load(tmp_path, ann=Rolled(), ops={roll: "same", nn.Tanh: "analog"})
    with pytest.raises(LeanspikeError, match=r"activations of load has \.tanh, .*; leave it out"):
        ls.load(tmp_path, ann=Rolled(), ops={roll: "same"}, activations=["tanh"])


def test_a_whole_row_is_passed_again(tmp_path: Path) -> None:
    row = Operation(rules.same)
    snn = ls.spike(layers(nn.ReLU(), Halved()).eval(), example_input=X, ops={Halved: row})
    ls.save(snn, tmp_path)
    fresh = layers(nn.ReLU(), Halved())
    with pytest.raises(LeanspikeError, match=r"as ops=\{Halved: Operation\(\.\.\.\)\}"):
        ls.load(tmp_path, ann=fresh)
    assert_same(ls.load(tmp_path, ann=fresh, ops={Halved: row}), snn, X)


def test_files_of_before_are_told_what_they_do_not_hold(tmp_path: Path) -> None:
    snn, x = spiking("a type of torch's")
    ls.save(snn, tmp_path)
    spec = json.loads((tmp_path / SPEC).read_text())
    for name in ("activations", "ops", "lower", "sample_dtype"):
        del spec["spike"][name]
    (tmp_path / SPEC).write_text(json.dumps(spec))
    ann = SETTINGS["a type of torch's"][0]()
    assert_same(ls.load(tmp_path, ann=ann, activations=(nn.ReLU6,)), snn, x)
    other, _ = spiking("a type of torch's")
    assert_same(ls.load(tmp_path, ann=other), snn, x)


def test_a_pass_of_ones_own_is_passed_again(tmp_path: Path) -> None:
    def mine(plan: Plan) -> Plan:
        return plan.copied().after("mine")

    snn, x = spiking("hard reset", lower=[mine])
    ls.save(snn, tmp_path)
    with pytest.raises(LeanspikeError, match=r"a pass 'mine' of your own .*; .*lower=\[\.\.\.\]\)"):
        ls.load(tmp_path, ann=layers(nn.ReLU()))
    assert_same(ls.load(tmp_path, ann=spiking("hard reset", lower=[mine])[0]), snn, x)


def test_a_folded_copy_comes_back(tmp_path: Path) -> None:
    snn, x = spiking("folded by a pass", lower=())
    folded = snn.replanned(fold_norms(snn.plan))
    assert_same(ls.load(ls.save(folded, tmp_path), ann=normed()), folded, x)


# -- a spiking network that is loaded into ---------------------------------------------------------

OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "encode": ({"encode": "poisson"}, "encode is direct there, but poisson in"),
    "neuron": (
        {"neuron": ls.LIF(initial="half")},
        "initial of neuron 1 is zero there, but half in",
    ),
    "neurons": ({"neuron": ls.AdaptiveLIF()}, "neuron 1 is lif there, but adaptive_lif in"),
    "norm": ({"norm": "bntt"}, r"temporal_norm is none there, but \{'name': 'bntt'"),
    "ops": ({"ops": {nn.Sigmoid: "graded"}}, r"ops is \{\} there, but \{'torch\.nn\.Sigmoid'"),
    "lower": ({"lower": ()}, r"lower is \('event_driven', 'tiled_pooling'\) there, but \(\) in"),
}


@pytest.mark.parametrize("other", OTHER)
def test_a_network_of_other_settings_is_refused(other: str, tmp_path: Path) -> None:
    options, message = OTHER[other]
    snn = ls.spike(normed().eval(), example_input=X, neuron=LIF, norm="keep")
    ls.save(snn, tmp_path)
    made = {"neuron": LIF, "norm": "keep", **options}
    fresh = ls.spike(normed().eval(), example_input=X, **made)
    with pytest.raises(LeanspikeError, match=message) as error:
        ls.load(tmp_path, ann=fresh)
    assert "pass the ANN instead, as load(path, ann=Net())" in str(error.value)
    assert_same(ls.load(tmp_path, ann=normed()), snn, X)


def test_the_number_of_steps_is_taken_over(tmp_path: Path) -> None:
    snn, x = spiking("hard reset")
    snn.timesteps = 7
    other, _ = spiking("hard reset")
    assert_same(ls.load(ls.save(snn, tmp_path), ann=other), snn, x)


def test_an_ann_is_not_loaded_into_a_spiking_network(tmp_path: Path) -> None:
    ann = layers(nn.ReLU())
    ls.save(ann, tmp_path)
    snn, _ = spiking("hard reset")
    with pytest.raises(LeanspikeError, match=r"holds an ANN, .*; use snn\.load_ann\(load\(path"):
        ls.load(tmp_path, ann=snn)
    snn.load_ann(ls.load(tmp_path, ann=layers(nn.ReLU())).state_dict())
    assert torch.equal(snn.get_parameter("0.weight"), ann[0].weight)
    ls.save(snn, tmp_path / "snn")
    for wrong, folder in ((snn, tmp_path / "snn"), (ann, tmp_path)):
        with pytest.raises(LeanspikeError, match="activations and ops of load are for an ANN that"):
            ls.load(folder, ann=wrong, activations=(nn.PReLU,))
    with pytest.raises(LeanspikeError, match=r"ann is <class .*; pass a network, as ann=Net\(\)"):
        ls.load(tmp_path, ann=nn.Linear)  # type: ignore[arg-type]


# -- parts of one's own ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Weaker(Encoder):
    factor: float = 0.5
    timed = False

    def sequence(self, x: Tensor, timesteps: int, training: bool) -> tuple[Tensor, int]:  # noqa: ARG002
        return self.factor * x, timesteps


class Hidden(Encoder):
    timed = False

    def __init__(self, factor: float = 0.5) -> None:
        self._factor = factor

    def sequence(self, x: Tensor, timesteps: int, training: bool) -> tuple[Tensor, int]:  # noqa: ARG002
        return self._factor * x, timesteps


class Whole(ls.Neuron):
    """Without a state, and without options."""

    def initial(self, x_N: Tensor) -> Tensor:
        return torch.zeros_like(x_N)

    def step(self, x_N: Tensor, state: Any) -> tuple[Tensor, Tensor]:
        return (x_N > 0).to(x_N.dtype), self.initial(x_N) if state is None else state

    def spike_height(self) -> Tensor:
        return torch.ones(())

    def update_cost(self) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Flat(Surrogate):
    height: float = 0.25

    def derivative(self, z: Tensor) -> Tensor:
        return torch.full_like(z, self.height)


class OwnNorm(BNTT):  # type: ignore[misc]
    """BNTT is final for readers; a subclass has no name."""


REGISTERED: dict[str, tuple[Any, type, dict[str, Any], str]] = {
    "encoder": (encoders, Weaker, {"encode": Weaker(0.75)}, "leanspike.temporal.encoders"),
    "neuron": (neurons, Whole, {"neuron": Whole()}, "leanspike.neuron.neurons"),
    "surrogate": (
        surrogates,
        Flat,
        {"neuron": ls.LIF(0.3, surrogate=Flat(0.75))},
        "leanspike.neuron.surrogates",
    ),
    "norm": (norms, OwnNorm, {"norm": lambda c, t: OwnNorm(c, t)}, "leanspike.temporal.norms"),
}


@pytest.fixture
def registered() -> Iterator[list[tuple[Any, str]]]:
    names: list[tuple[Any, str]] = []
    yield names
    for registry, name in names:
        registry.unregister(name)


@pytest.mark.parametrize("part", REGISTERED)
def test_a_part_of_ones_own_is_registered_first(
    part: str, registered: list[tuple[Any, str]], tmp_path: Path
) -> None:
    registry, kind, options, place = REGISTERED[part]
    snn, x = spiking("by the network", **{"neuron": LIF, "norm": "keep", **options})
    with pytest.raises(
        LeanspikeError, match="has no name in the registry; register its class"
    ) as e:
        ls.save(snn, tmp_path)
    assert f'@{place}.register("its_name")' in str(e.value)
    registry.register("its_name")(kind)
    registered.append((registry, "its_name"))
    assert_same(ls.load(ls.save(snn, tmp_path), ann=normed()), snn, x)


@pytest.mark.parametrize("case", ["plain module", "hidden option", "several norms"])
def test_what_no_file_brings_back_is_kept_by_its_numbers(
    case: str, registered: list[tuple[Any, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "hidden option":
        encoders.register("hidden")(Hidden)
        registered.append((encoders, "hidden"))
    counts = iter(range(1, 9))
    options: dict[str, dict[str, Any]] = {
        "plain module": {"neuron": nn.ReLU()},
        "hidden option": {"encode": Hidden(0.25)},
        "several norms": {"norm": lambda c, t: BNTT(c, t, eps=next(counts) / 8)},
    }

    def make() -> ls.SpikingNetwork:
        ann = layers(nn.ReLU(), *normed()[2:5], *normed()[2:5])
        return ls.spike(ann.eval(), example_input=X, **{"neuron": LIF, **options[case]})

    snn = make()
    with pytest.raises(LeanspikeError, match=r"save its numbers alone by torch\.save") as error:
        ls.save(snn, tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    counts = iter(range(1, 9))
    one, two = str(error.value).partition("torch.save")[2].split(", and load them by ")
    exec(f"torch.save{one}", {"torch": torch, "snn": snn})
    again = make()
    exec(two.partition(" into a network")[0], {"torch": torch, "snn": again})
    assert torch.equal(again(X), snn(X))


# -- what is not a network alone -------------------------------------------------------------------


def test_a_wrapped_network_is_saved_from_inside(tmp_path: Path) -> None:
    snn, x = spiking("hard reset")
    compiled = torch.compile(snn, backend="eager")
    for wrapped, way in (
        (compiled, "wrapped in a OptimizedModule; save network._orig_mod"),
        (nn.DataParallel(snn), "wrapped in a DataParallel; save network.module"),
        (nn.DataParallel(layers(nn.ReLU())), "wrapped in a DataParallel; save"),
        (
            nn.Sequential(snn, nn.Softmax(2)),
            "is at 0 in a Sequential; save it alone, as network.get_",
        ),
    ):
        with pytest.raises(LeanspikeError) as error:
            ls.save(wrapped, tmp_path)
        assert way in str(error.value)
        inner = eval(str(error.value).rpartition(" ")[2], {"network": wrapped})
        ls.save(inner, tmp_path)
    assert_same(ls.load(tmp_path, ann=layers(nn.ReLU())), snn, x)


@pytest.mark.parametrize("case", ["lazy", "meta", "sparse", "extra"])
def test_what_is_no_tensor_with_values_is_named(case: str, tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 3}

        def set_extra_state(self, state: Any) -> None:
            """Nothing."""

    made = {
        "lazy": lambda: nn.LazyLinear(2),
        "meta": lambda: nn.Linear(2, 2, device="meta"),
        "extra": lambda: Extra(2, 2),
        "sparse": lambda: nn.Linear(2, 2),
    }
    network = nn.Sequential(made[case]())
    if case == "sparse":
        network[0].weight = nn.Parameter(torch.eye(2).to_sparse())
    with pytest.raises(LeanspikeError, match=r"^0\.\w+ is a \w+ that no file can hold; give dense"):
        ls.save(network, tmp_path)


# -- hostile files ---------------------------------------------------------------------------------

HOSTILE = ("os.system", "torch.os.system", "torch.nn.os", "builtins.exec", "subprocess.Popen", "a")


@pytest.mark.parametrize("field", ["activations", "ops"])
@pytest.mark.parametrize("name", [*HOSTILE, "hostile_module.Swish", "torch.nn.functional.nope"])
def test_a_name_in_a_file_imports_nothing(
    name: str,
    field: Literal["activations", "ops"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    snn, _ = spiking("hard reset")
    folder = ls.save(snn, tmp_path / "model")
    spec = json.loads((folder / SPEC).read_text())
    spec["spike"][field] = [name] if field == "activations" else {name: "same"}
    (folder / SPEC).write_text(json.dumps(spec))
    with pytest.raises(LeanspikeError, match=r"spec\.json: operation .* is not in the net"):
        ls.load(folder, ann=layers(nn.ReLU()))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ops": {"torch.roll": "worse"}}, "spike.ops.torch.roll"),
        ({"ops": {"torch.roll": {"kind": "analog"}}}, "spike.ops.torch.roll"),
        ({"activations": "torch.nn.ReLU6"}, "spike.activations: Input should be a valid array"),
        ({"activations": [3]}, r"spike.activations.0: Input should be a valid string"),
        ({"sample_dtype": "os"}, "spike.sample_dtype: Input should be 'float16', 'bfloat16'"),
        ({"lower": ["os.system"]}, r"a pass 'os\.system' of your own"),
        ({"unknown": 1}, "spike.unknown: Extra inputs are not permitted"),
    ],
)
def test_other_settings_than_there_are_is_one_line(
    change: dict[str, Any], why: str, tmp_path: Path
) -> None:
    snn, _ = spiking("hard reset")
    ls.save(snn, tmp_path)
    spec = json.loads((tmp_path / SPEC).read_text())
    (tmp_path / SPEC).write_text(json.dumps({**spec, "spike": {**spec["spike"], **change}}))
    with pytest.raises(LeanspikeError, match=why) as error:
        ls.load(tmp_path, ann=layers(nn.ReLU()))
    assert "\n" not in str(error.value)
