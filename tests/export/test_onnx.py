"""ONNX files: onnxruntime gives what the network gives, spikes included; what no file holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike import LeanspikeError, SpikingNetwork, to_onnx
from leanspike.export import ONNXFile, write
from leanspike.export.onnx_proof import ONNXLayer, ONNXProof, Ours, Session, compared
from leanspike.temporal import BNTT
from spiking_networks import PAIRS, spiking

TIMESTEPS = 3


class Mixed(nn.Module):
    """A residual branch, a max and an average pool, five activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(16)
        self.deep = nn.Conv2d(16, 8, 3)
        self.wide, self.narrow, self.last = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.relu(self.inner_norm(self.inner(x)) + x)
        x = F.relu(self.deep(F.max_pool2d(x, 2)))
        x = F.relu(self.wide(F.avg_pool2d(x, 2).flatten(1)))
        return self.last(F.relu(self.narrow(x)))


def neurons() -> Callable[[str], nn.Module]:
    """A neuron of another kind for each activation of `Mixed`."""
    kinds = iter(
        (
            ls.LIF(0.5, 0.9, initial="half", height="threshold"),
            ls.LIF(0.4, 0.8, reset="hard"),
            ls.LIF(0.3, 0.7, reset="undecayed"),
            ls.CurrentLIF(0.1, 0.9),
            ls.AdaptiveLIF(0.1, 0.9),
        )
    )
    return lambda _: next(kinds)


def norm(channels: int, timesteps: int) -> BNTT:
    return BNTT(channels, timesteps, bias=True)


@pytest.fixture
def mixed() -> SpikingNetwork:
    torch.manual_seed(0)
    snn = ls.spike(
        Mixed().eval(),
        example_input=torch.zeros(1, 3, 8, 8),
        timesteps=TIMESTEPS,
        neuron=neurons(),
        norm=norm,
    )
    for module in snn.modules():
        if isinstance(module, BNTT):  # others at each step
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
    return snn


def check(file: ONNXFile) -> None:
    """All but nothing differs: a spike whose membrane comes to its threshold but for rounding."""
    assert file.proof is not None
    assert all(layer.spikes for layer in file.proof.layers)
    assert file.proof.mismatches <= file.proof.spikes / 1000
    assert file.proof.mismatches or file.proof.difference < 1e-5


def test_the_whole_sequence_answers_in_onnxruntime_as_the_network(
    mixed: SpikingNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "snn.onnx"
    file = to_onnx(mixed, path, about={"classes": ["a", "b"], "std": [0.5]}, mode="sum")
    check(file)
    assert file.proof is not None
    assert [layer.path for layer in file.proof.layers] == [path for path, _ in mixed.neurons()]
    assert file.inputs == {"input": ("N", 3, 8, 8)}
    assert file.outputs == {"logits": (TIMESTEPS, "N", 5)}
    x = torch.randn(64, 3, 8, 8)
    for samples in (1, 3, 64):  # in the trace there were two
        (found,) = Session(path.read_bytes()).run({"input": x[:samples]}).values()
        torch.testing.assert_close(found, ls.readout(mixed(x[:samples]), "sum").detach())
    model = onnx.load(path)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["leanspike_version"] == ls.__version__
    assert json.loads(told["classes"]) == ["a", "b"]
    assert (told["timesteps"], told["readout"], told["encode"]) == ("3", "sum", "direct")
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert "last.weight" in {part.name for part in model.graph.initializer}


def test_one_step_answers_with_states_by_name(mixed: SpikingNetwork, tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    file = to_onnx(mixed, path, one_step=True)
    check(file)
    states = [
        *("neuron_0.membrane", "neuron_1.membrane", "neuron_2.membrane"),
        *("neuron_3.current", "neuron_3.membrane", "neuron_4.membrane", "neuron_4.trace"),
    ]
    assert list(file.inputs) == ["input", "step", *states]
    assert list(file.outputs) == ["output", *(f"{name}.next" for name in states)]
    session = Session(path.read_bytes())
    for samples in (1, 3, 64):
        x = torch.randn(samples, 3, 8, 8)
        given = {name: torch.full((samples, *file.inputs[name][1:]), 7.0) for name in states}
        for step, y_NK in enumerate(mixed(x)):  # what is given at step 0 does not count
            found = session.run({"input": x, "step": torch.tensor(step), **given})
            torch.testing.assert_close(found["output"], y_NK.detach())
            given = {name: found[f"{name}.next"] for name in states}


class Counted(nn.Module):
    """What no trace follows: a branch on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if bool((x < 1e9).all()) else 2 * x


class Bound(nn.Module):
    """A branch on the number of samples and timesteps."""

    def forward(self, x: Tensor) -> Tensor:
        return x if len(x) < 100 else 1 * x


class Noisy(nn.Module):
    """Draws random numbers once it is told to."""

    noise = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return x + self.noise * torch.rand_like(x) if self.noise else x


class Rare(nn.Module):
    """An operation that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0e(x)


def plain(between: nn.Module | None = None, **options: Any) -> SpikingNetwork:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.ReLU(), between or nn.Identity(), nn.Linear(8, 3)]
    ops = {type(between): "analog"} if between is not None else {}
    sample = torch.zeros(1, 4)
    neuron = options.pop("neuron", ls.LIF(0.3))
    if options.get("encode") == "frames":
        sample = torch.zeros(2, 1, 4)
    return ls.spike(
        nn.Sequential(*layers).eval(),
        example_input=sample,
        timesteps=2,
        neuron=neuron,
        ops=ops,  # type: ignore[arg-type]
        **options,
    )


def refused(snn: SpikingNetwork, path: Path, **options: Any) -> str:
    with pytest.raises(LeanspikeError) as error:
        to_onnx(snn, path / "refused.onnx", **options)
    assert list(path.iterdir()) == []
    return str(error.value)


def test_a_module_that_no_trace_follows_is_refused_by_its_path(tmp_path: Path) -> None:
    snn = plain(Counted())
    told = refused(snn, tmp_path)
    assert told.startswith("module 2: torch.export does not take it")
    ls.save(snn, tmp_path / "folder")  # as it says


def test_a_network_bound_to_the_number_of_samples_is_told_of_batch(tmp_path: Path) -> None:
    assert refused(plain(Bound()), tmp_path).endswith("give that number, as batch=1")


def test_random_numbers_inside_are_refused_by_their_path(tmp_path: Path) -> None:
    snn = plain(Noisy())
    snn.get_submodule("2").noise = 0.5  # type: ignore[assignment]
    assert refused(snn, tmp_path).startswith("2: aten.rand_like")


def test_images_that_the_file_will_not_take_are_refused(tmp_path: Path) -> None:
    images = torch.zeros(3, 4)
    assert "give 2, or another batch" in refused(plain(), tmp_path, images=images, batch=2)
    frames = torch.zeros(4, 1, 4)
    told = refused(plain(encode="frames"), tmp_path, images=frames)
    assert told.endswith("give timesteps=4")
    assert "expected [N, 4]" in refused(plain(), tmp_path, images=torch.zeros(3, 5))


def test_a_random_encoder_is_told_of_one_step(tmp_path: Path) -> None:
    told = refused(plain(encode="poisson"), tmp_path)
    assert told.startswith("encode: ")
    assert "one_step=True" in told


def test_what_is_no_float32_network_on_the_cpu_is_told_how_it_becomes_one(tmp_path: Path) -> None:
    snn = plain()
    assert "snn.float()" in refused(snn.double(), tmp_path)
    assert "snn.cpu()" in refused(snn.to("meta"), tmp_path)
    assert "ls.spike" in refused(nn.Linear(1, 1), tmp_path)  # type: ignore[arg-type]


def test_steps_for_which_a_norm_has_no_parameters_are_refused(
    mixed: SpikingNetwork, tmp_path: Path
) -> None:
    assert "BNTT has parameters for 3 timesteps" in refused(mixed, tmp_path, timesteps=4)


def test_a_spike_more_or_less_is_counted_and_too_many_are_refused() -> None:
    own = torch.zeros(2, 1, 4)
    own[0, 0, 1] = 0.5
    answer = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])
    ours = Ours({"relu": (own, False)}, [answer])
    same = compared(ours, [answer + 1e-7], {"relu": 2 * own})
    assert (same.spikes, same.mismatches, same.answers) == (1, 0, 0)
    other = own.clone()
    other[1, 0, 0] = 0.5
    found = compared(ours, [answer.flip(2)], {"relu": other})
    assert (found.layers, found.answers) == ((ONNXLayer("relu", 8, 1, 1),), 1)
    assert found.difference == 1
    with pytest.raises(LeanspikeError, match=r"relu: 1 of 8 entries differ .* verify=False"):
        found.check()


def test_graded_outputs_are_compared_as_numbers() -> None:
    own = torch.tensor([[[0.5, 1.0]]])
    ours = Ours({"relu": (own, True)}, [own])
    assert compared(ours, [own], {"relu": own + 1e-6}).mismatches == 0
    assert compared(ours, [own], {"relu": own * 1.1}).mismatches == 2
    ONNXProof(1, (ONNXLayer("relu", 1000, 500, 10),), 0.1, 1).check()


def _frames() -> SpikingNetwork:
    return plain(encode="frames")


class Windows(nn.Module):
    """Two windows of each sample along the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        samples = x.shape[0]
        x = F.relu(self.first(x.view(samples * 2, 4)))
        return self.last(x).view(samples, 2, 3).mean(1)


class Heads(nn.Module):
    """Several outputs, in containers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = F.relu(self.first(x))
        return {"logits": self.last(x), "aux": (x, None)}


def _of(ann: nn.Module, width: int) -> SpikingNetwork:
    torch.manual_seed(0)
    return ls.spike(
        ann.eval(), example_input=torch.zeros(1, width), timesteps=2, neuron=ls.LIF(0.1)
    )


@pytest.mark.slow
@pytest.mark.parametrize("one_step", [False, True])
@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (_frames, [""]),
        (lambda: plain(neuron=nn.ReLU()), [""]),
        (lambda: _of(Windows(), 8), [""]),
        (lambda: _of(Heads(), 4), [".logits", ".aux.0"]),
    ],
)
def test_frames_windows_heads_and_modules_without_state(
    make: Callable[[], SpikingNetwork], outputs: list[str], one_step: bool, tmp_path: Path
) -> None:
    file = to_onnx(make(), tmp_path / "snn.onnx", one_step)
    check(file)
    stem = "output" if one_step else "logits"
    assert list(file.outputs)[: len(outputs)] == [stem + name for name in outputs]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "neuron"), PAIRS)
def test_each_network_of_the_tests_in_one_of_the_forms(
    network: str, neuron: str, tmp_path: Path
) -> None:
    snn, number = spiking(network, neuron).float(), PAIRS.index((network, neuron))
    check(to_onnx(snn, tmp_path / "snn.onnx", one_step=number % 2 == 1))


@pytest.mark.slow
def test_one_step_takes_what_a_random_encoder_gives(tmp_path: Path) -> None:
    check(to_onnx(plain(encode="poisson"), tmp_path / "snn.onnx", one_step=True))


@pytest.mark.slow
def test_the_number_of_samples_may_be_fixed(tmp_path: Path) -> None:
    file = to_onnx(plain(Bound()), tmp_path / "snn.onnx", batch=1)
    check(file)
    assert file.inputs == {"input": (1, 4)}


@pytest.mark.slow
def test_an_operation_that_onnx_does_not_have_is_refused_by_its_path(tmp_path: Path) -> None:
    snn, x = plain(Rare()), torch.randn(2, 4)
    told = refused(snn, tmp_path)
    assert told.startswith("2: aten.special_i0e is not among the operations")
    assert "torch.export.save(torch.export.export(snn, (x,)), 'snn.pt2')" in told
    place = tmp_path / "snn.pt2"
    torch.export.save(torch.export.export(snn, (x,)), place)  # as it says
    torch.testing.assert_close(torch.export.load(place).module()(x), snn(x))


@pytest.mark.slow
def test_a_registered_exporter_writes_the_same(mixed: SpikingNetwork, tmp_path: Path) -> None:
    path = write(mixed, tmp_path / "snn.onnx", "onnx", {"timesteps": 2})
    (found,) = Session(path.read_bytes()).run({"input": torch.zeros(1, 3, 8, 8)}).values()
    assert found.shape == (2, 1, 5)


@pytest.mark.slow
def test_without_onnxruntime_the_file_is_written_and_not_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanspike.export.onnx.find_spec", lambda _: None)
    file = to_onnx(plain(), tmp_path / "snn.onnx")
    assert file.proof is None
    assert file.summary["verified"] is False
    assert file.path.is_file()
