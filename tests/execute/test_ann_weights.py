"""An ANN's weights into its spiking network: the very ANN's, whatever was wrapped around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError

X = torch.rand(2, 6)


class Clip(nn.Module):
    """A learned activation whose parameters are named as a neuron's."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(8.0))
        self.register_buffer("leak", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.leak * (x / self.threshold).clamp(0, 1) * self.threshold


class Shared(nn.Module):
    """One activation twice, in a block that has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.block = self.again = nn.Sequential(nn.Linear(6, 6), nn.PReLU(6))
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.again(self.block(x)))


def layers(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 3))


LEARNED: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "prelu": (lambda: layers(nn.PReLU()), nn.PReLU),
    "of channels": (lambda: layers(nn.PReLU(8)), nn.PReLU),
    "of a neuron's names": (lambda: layers(Clip()), Clip),
    "shared": (Shared, nn.PReLU),
}


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("neuron", [ls.LIF(0.25), nn.ReLU()])
def test_the_very_anns_weights_load(name: str, neuron: nn.Module) -> None:
    make, kind = LEARNED[name]
    torch.manual_seed(0)
    snn = ls.spike(make().eval(), example_input=X, neuron=neuron, activations=(kind,))
    neurons = {path: dict(module.state_dict()) for path, module in snn.neurons()}
    ann = make()
    snn.load_ann(ann.state_dict())
    own = ann.state_dict()
    for key, value in snn.state_dict().items():
        if key in own and not any(key.startswith(f"{path}.") for path in neurons):
            assert torch.equal(value, own[key])
    for path, module in snn.neurons():
        assert all(torch.equal(v, neurons[path][k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize("name", LEARNED)
def test_nothing_else_is_left_out(name: str) -> None:
    make, kind = LEARNED[name]
    snn = ls.spike(make().eval(), example_input=X, activations=(kind,), neuron=ls.LIF())
    state = make().state_dict()
    before = {key: value.clone() for key, value in snn.state_dict().items()}
    key = next(key for key in state if key.endswith("bias"))
    less = {name: value for name, value in state.items() if name != key}
    for wrong, why in (
        (less, rf"lacks 1 of .*: {key}"),
        ({**state, "1.other": X}, r"has 1 that are not .*: 1\.other"),
        ({**state, key: X}, rf"has other shapes for 1 of .*: {key}"),
    ):
        with pytest.raises(LeanspikeError, match=why):
            snn.load_ann(wrong)
    assert all(torch.equal(value, before[key]) for key, value in snn.state_dict().items())


class Inside(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


WRAPPED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "parallel": nn.DataParallel,
    "compiled": lambda ann: torch.compile(ann, backend="eager"),
    "compiled and parallel": lambda ann: torch.compile(nn.DataParallel(ann), backend="eager"),
    "a wrapper": Inside,
    "several": lambda ann: Inside(nn.DataParallel(ann)),
}


def partly_compiled() -> nn.Module:
    ann = nn.Sequential(layers(nn.ReLU()), nn.ReLU(), nn.Linear(3, 2))
    ann[0] = torch.compile(ann[0], backend="eager")
    return ann


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_the_names_of_wrappers_are_taken_off(wrapper: str) -> None:
    ann = layers(nn.ReLU())
    snn = ls.spike(layers(nn.ReLU()).eval(), example_input=X, neuron=ls.LIF())
    snn.load_ann(WRAPPED[wrapper](ann).state_dict())
    assert torch.equal(snn.get_parameter("2.weight"), ann[2].weight)


def test_a_compiled_part_is_taken_for_the_part() -> None:
    plain = nn.Sequential(layers(nn.ReLU()), nn.ReLU(), nn.Linear(3, 2))
    snn = ls.spike(plain.eval(), example_input=X, neuron=ls.LIF())
    ann = partly_compiled()
    snn.load_ann(ann.state_dict())
    assert torch.equal(snn.get_parameter("0.0.weight"), ann[0]._orig_mod[0].weight)


@pytest.mark.parametrize("norm", ["keep", "bntt"])
def test_a_network_that_was_wrapped_takes_the_weights_of_what_is_inside(norm: str) -> None:
    def make() -> nn.Sequential:
        return layers(nn.Sequential(nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()))

    ann = make().eval()
    wrapped = ls.Answer(nn.Sequential(make().eval()), 0)
    wrapped.path = ()
    snn = ls.spike(wrapped, example_input=X, neuron=ls.LIF(), norm=norm)
    snn.load_ann({f"0.{key}": value for key, value in ann.state_dict().items()})
    assert torch.equal(snn.get_parameter("network.0.2.weight"), ann[2].weight)
    snn.load_ann(wrapped.state_dict())


def test_what_is_no_state_dict_says_where_it_is() -> None:
    ann = layers(nn.ReLU())
    snn = ls.spike(ann.eval(), example_input=X, neuron=ls.LIF())
    with pytest.raises(LeanspikeError, match=r"snn\.load_ann\(ann\.state_dict\(\)\)"):
        snn.load_ann(ann)  # type: ignore[arg-type]
    checkpoint: Any = {"epoch": 3, "state_dict": ann.state_dict()}
    with pytest.raises(
        LeanspikeError, match=r"'epoch' holds a int, .* give the entry 'state_dict'"
    ):
        snn.load_ann(checkpoint)
    snn.load_ann(checkpoint["state_dict"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused_by_name_and_not_loaded(
    value: float,
) -> None:
    ann = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    snn = ls.spike(ann, example_input=X)
    before = {name: v.clone() for name, v in snn.state_dict().items()}
    state = {name: v + 1 for name, v in ann.state_dict().items()}
    state["2.weight"][0, :2] = value
    with pytest.raises(LeanspikeError, match=r"2\.weight: 2 of its 18 entries are NaN or infinite"):
        snn.load_ann(state)
    assert all(torch.equal(v, before[name]) for name, v in snn.state_dict().items())
