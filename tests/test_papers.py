"""What the papers' official code computes, derived again from its equations, in float64.

DIET-SNN and BNTT as their repositories have them (docs/methods.md names the commits): a loop over
timesteps, in it one over layers, autograd through all of it. Nothing here uses leanspike's own
kernels, surgery or norms. Where arithmetic is exact, so is the comparison: by itself a neuron
rounds as the equation is written, and weights that are multiples of 1/8 leave nothing to round.

Shapes: T timesteps, N samples, K classes; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls

T, N, K = 5, 6, 3
Step = Callable[[Any, Tensor, Tensor, Tensor], tuple[Tensor, Any]]


class Fire(torch.autograd.Function):
    """1 above 0; its derivative a triangle of height 0.3 and width 1."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z > 0).double()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grads[0] * (0.3 * torch.relu(1 - z.abs()))


def soft(state: Any, x: Tensor, leak: Tensor, threshold: Tensor) -> tuple[Tensor, Any]:
    """HEAD of both repositories: the membrane loses the threshold in the step of the spike."""
    u = leak * (0 if state is None else state) + x
    z = u / threshold - 1
    return Fire.apply(z), u - threshold * (z > 0)


def paper(state: Any, x: Tensor, leak: Tensor, threshold: Tensor) -> tuple[Tensor, Any]:
    """DIET-SNN's equation 1: u_t = λ·u_{t-1} + x_t - v·o_{t-1}."""
    u, o = (torch.zeros_like(x), torch.zeros_like(x)) if state is None else state
    u = leak * u + x - threshold * o
    o = Fire.apply(u / threshold - 1)
    return o, (u, o.detach())


RESETS: dict[str, Step] = {"soft": soft, "undecayed": paper}
every_reset = pytest.mark.parametrize("reset", RESETS)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def eighths(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-5, 8, shape, generator=generator).double() / 8


# -- the neuron --------------------------------------------------------------------------------


@every_reset
def test_spikes_and_gradients_of_a_neuron_to_the_last_bit(reset: str) -> None:
    found = []
    for ours in (True, False):
        x_TN = (drawn(T, 40) + 0.4).requires_grad_()
        neuron = ls.LIF(0.7, 0.9, learn=("leak", "threshold"), reset=reset).double()  # type: ignore[arg-type]
        if ours:
            o_TN = neuron(x_TN)
        else:
            state, steps = None, []
            for x_N in x_TN:
                o_N, state = RESETS[reset](state, x_N, neuron.leak, neuron.threshold)
                steps.append(o_N)
            o_TN = torch.stack(steps)
        o_TN.backward(drawn(T, 40, seed=1))
        found.append((o_TN.detach(), x_TN.grad, neuron.leak.grad, neuron.threshold.grad))
    assert 0.2 < found[0][0].mean() < 0.8
    for mine, theirs in zip(*found, strict=True):
        assert mine is not None
        assert theirs is not None
        assert torch.equal(mine, theirs)


def test_before_2021_diet_snns_code_had_the_papers_membranes_and_spikes_a_step_late() -> None:
    """It decided from the membrane before the input whether the neuron fires."""
    neuron = ls.LIF(0.7, 0.9, reset="undecayed").double()
    x_TN, state = drawn(T, 40) + 0.4, None
    u_N, before_N = torch.zeros(40).double(), torch.zeros(40).double()
    for x_N in x_TN:
        late_N = (u_N / neuron.threshold - 1 > 0).double()
        u_N = neuron.leak * u_N + x_N - neuron.threshold * late_N
        assert torch.equal(late_N, before_N)
        before_N, state = neuron.step(x_N, state)
        assert torch.equal(state, u_N)
    assert 0.2 < before_N.mean() < 0.8


# -- DIET-SNN ----------------------------------------------------------------------------------


def diet_ann() -> nn.Sequential:
    ann = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(24, 8, bias=False), nn.ReLU(), nn.Linear(8, K, bias=False)),
    ).double()
    with torch.no_grad():
        for seed, parameter in enumerate(ann.parameters()):
            parameter.copy_(eighths(*parameter.shape, seed=seed))
    return ann.eval()


def run(
    ann: nn.Sequential,
    image: Tensor,
    neuron: Step,
    settings: list[tuple[Tensor, Tensor]],
    timesteps: int,
    see: Callable[[int, Tensor], None] = lambda *_: None,
) -> Tensor:
    """What the output layer, which neither leaks nor fires, has added up; ``settings`` by layer.

    ``see`` is shown the current into each layer of neurons; without settings the pass ends there.
    """
    states: dict[int, Any] = {}
    answer: Any = 0
    for _ in range(timesteps):
        signal, layer = image, 0
        for module in ann:
            if not isinstance(module, nn.ReLU):
                signal = module(signal)
                continue
            see(layer, signal)
            if layer == len(settings):
                break
            signal, states[layer] = neuron(states.get(layer), signal, *settings[layer])
            layer += 1
        else:
            answer = answer + signal
    return answer


def diet_snn(ann: nn.Sequential, image: Tensor, **neuron: Any) -> ls.SpikingNetwork:
    template = ls.LIF(learn=("leak", "threshold"), **neuron)
    return ls.spike(ann, example_input=image[:1], timesteps=T, neuron=template).double()


def official_thresholds(
    ann: nn.Sequential, image: Tensor, neuron: Step, timesteps: int, percentile: float
) -> list[float]:
    """Layer by layer, without leak: the entry of the rounded rank, the largest of all steps."""
    one, found = torch.ones(()).double(), []
    for _ in range(3):
        settings = [(one, torch.tensor(value).double()) for value in found]
        best = [0.0]

        def see(layer: int, x_N: Tensor, best: list[float] = best, last: int = len(found)) -> None:
            if layer == last:
                entries = sorted(x_N.flatten().tolist())
                best.append(entries[round(0.01 * percentile * (len(entries) - 1))])

        run(ann, image, neuron, settings, timesteps, see)
        found.append(max(best))
    return found


@every_reset
@torch.no_grad()
def test_diet_snns_calibration_to_the_last_bit(reset: str) -> None:
    ann, image = diet_ann(), eighths(N, 2, 4, 4, seed=9)
    for percentile in (99.7, 90.0, 81.0):
        snn = diet_snn(ann, image, leak=0.75, reset=reset)
        settings = {"percentile_rule": "nearest", "timesteps": 20, "scale": 0.2}
        table = ls.calibrate(snn, image, percentile=percentile, **settings)  # type: ignore[arg-type]
        expected = official_thresholds(ann, image, RESETS[reset], 20, percentile)
        assert [row.percentile_value for row in table.layers] == expected
        assert [row.threshold for row in table.layers] == [0.2 * value for value in expected]


@every_reset
def test_diet_snns_network_and_its_gradients(reset: str) -> None:
    ann, image = diet_ann(), eighths(N, 2, 4, 4, seed=9)
    labels = torch.arange(N) % K
    snn = diet_snn(ann, image, leak=0.75, reset=reset)
    thresholds = (0.375, 1.25, 1.625)
    for (_, neuron), threshold in zip(snn.neurons(), thresholds, strict=True):
        neuron.get_parameter("threshold").data.fill_(threshold)
    answers = ls.readout(snn(image), "sum")[-1]
    F.cross_entropy(answers, labels).backward()

    pairs = [(torch.tensor(0.75).double(), torch.tensor(v).double()) for v in thresholds]
    pairs = [(leak.requires_grad_(), threshold.requires_grad_()) for leak, threshold in pairs]
    theirs = run(ann, image, RESETS[reset], pairs, T)
    F.cross_entropy(theirs, labels).backward()

    assert torch.equal(answers, theirs)
    for (_, neuron), (leak, threshold) in zip(snn.neurons(), pairs, strict=True):
        assert_same_gradient(neuron.get_parameter("leak"), leak)
        assert_same_gradient(neuron.get_parameter("threshold"), threshold)
    for path, parameter in ann.named_parameters():
        assert_same_gradient(snn.get_parameter(path), parameter)


def assert_same_gradient(ours: Tensor, theirs: Tensor) -> None:
    """But for the rounding of sums in another order: gradients are not multiples of 1/8."""
    assert ours.grad is not None
    assert theirs.grad is not None
    assert theirs.grad.abs().max() > 1e-3
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-11, atol=1e-13)


# -- BNTT --------------------------------------------------------------------------------------


def test_bntts_network_its_gradients_and_its_statistics() -> None:
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-4), nn.ReLU()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 8, bias=False)),
        *(nn.BatchNorm1d(8, eps=1e-4), nn.ReLU(), nn.Linear(8, K, bias=False)),
    ]
    ann = nn.Sequential(*layers).double()
    frames_TN = torch.randint(-1, 2, (T, N, 2, 4, 4)).double()  # Poisson's: -1, 0 and 1
    labels = torch.arange(N) % K
    snn = ls.spike(
        ann.eval(),
        example_input=frames_TN[:, :1],
        encode="frames",
        timesteps=T,
        neuron=ls.LIF(1.0, 0.95),
        norm="bntt",
    )
    snn = snn.double().train()
    norms: dict[int, list[Any]] = {}
    for place in (1, 6):
        norms[place] = [type(ann[place])(ann[place].num_features, eps=1e-4) for _ in range(T)]
        for norm in norms[place]:
            norm.double().train().bias = None

    answers = ls.readout(snn(frames_TN), "mean")[-1]
    F.cross_entropy(answers, labels).backward()

    leak, threshold = snn.get_parameter("2.leak"), snn.get_parameter("2.threshold")
    states: dict[int, Any] = {}
    total: Any = 0
    for t in range(T):
        signal = frames_TN[t]
        for place, module in enumerate(ann):
            if isinstance(module, nn.ReLU):
                signal, states[place] = soft(states.get(place), signal, leak, threshold)
            else:
                signal = norms[place][t](signal) if place in norms else module(signal)
        total = total + signal
    F.cross_entropy(total / T, labels).backward()

    torch.testing.assert_close(answers, total / T, rtol=1e-12, atol=1e-12)
    for place in (0, 5, 8):
        assert_same_gradient(snn.get_parameter(f"{place}.weight"), ann[place].weight)
    for place, steps in norms.items():
        ours: Any = snn.get_submodule(str(place))
        expected = torch.stack([norm.weight.grad for norm in steps])
        torch.testing.assert_close(ours.weight.grad, expected, rtol=1e-11, atol=1e-13)
        for name in ("running_mean", "running_var"):
            kept = torch.stack([getattr(norm, name) for norm in steps])
            torch.testing.assert_close(getattr(ours, name), kept, rtol=1e-12, atol=1e-13)
