"""Objectives, against NumPy and by what they must not touch."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.train import (
    TET,
    CrossEntropy,
    Response,
    SpikeRate,
    SquaredError,
    Teacher,
    Weighted,
    renormalise,
)

LABELS = torch.tensor([0, 1, 2, 3, 0])
NO_INPUT = torch.zeros(5, 3, dtype=torch.float64)
READOUTS: tuple[Literal["sum", "mean"], ...] = ("sum", "mean")


def outputs() -> torch.Tensor:
    """Three steps, five samples, four classes."""
    return torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("readout", READOUTS)
def test_label_smoothing_and_readout_of_cross_entropy(readout: Literal["sum", "mean"]) -> None:
    y_TNK = outputs()
    log_p = np.log(softmax((y_TNK.sum(0) if readout == "sum" else y_TNK.mean(0)).numpy()))
    expected = -0.9 * log_p[range(5), LABELS].mean() - 0.1 * log_p.mean()
    loss = CrossEntropy(readout, label_smoothing=0.1)(y_TNK, LABELS, NO_INPUT)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_response_is_the_divergence_of_soft_answers(
    readout: Literal["sum", "mean"], temperature: float
) -> None:
    y_TNK, teacher = outputs(), nn.Linear(3, 4).double()
    x = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    student = (y_TNK.sum(0) if readout == "sum" else y_TNK.mean(0)).numpy()
    p = softmax(teacher(x).detach().numpy() / temperature)
    q = softmax(student / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    loss = Response(teacher, temperature, readout)(y_TNK, LABELS, x)
    assert loss.item() == pytest.approx(expected, rel=1e-5)  # the teacher's answer is float32


def test_the_teacher_is_asked_in_eval_mode_without_gradient() -> None:
    teacher = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).double().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    y_TNK = outputs().requires_grad_()
    Response(teacher)(y_TNK, LABELS, NO_INPUT).backward()  # type: ignore[no-untyped-call]
    assert y_TNK.grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_weights_add_up() -> None:
    y_TNK = outputs()
    hard, soft = CrossEntropy(), Response(nn.Linear(3, 4).double())
    parts = [objective(y_TNK, LABELS, NO_INPUT) for objective in (hard, soft)]
    loss = Weighted(((0.3, hard), (0.7, soft)))(y_TNK, LABELS, NO_INPUT)
    torch.testing.assert_close(loss, 0.3 * parts[0] + 0.7 * parts[1])


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(LeanspikeError, match=r"answers \(5, 7\), the student \(5, 4\)"):
        Response(nn.Linear(3, 7).double())(outputs(), LABELS, NO_INPUT)
    with pytest.raises(LeanspikeError, match=r"temperature is 0\.0; give a number above 0"):
        Response(nn.Identity(), temperature=0.0)


def test_a_batch_written_into_the_last_ones_memory_is_another_batch() -> None:
    teacher, x = nn.Linear(3, 4).double(), torch.rand(5, 3, dtype=torch.float64)
    response = Response(teacher)
    response(outputs(), LABELS, x)
    x.copy_(torch.rand(5, 3, dtype=torch.float64))
    assert torch.equal(response(outputs(), LABELS, x), Response(teacher)(outputs(), LABELS, x))


def test_a_teacher_of_other_inputs_is_refused() -> None:
    with pytest.raises(LeanspikeError, match=r"cannot take the student's input of shape \(5, 3\)"):
        Response(nn.Linear(2, 4).double())(outputs(), LABELS, torch.rand(5, 3).double())


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: CrossEntropy("max"), "readout is 'max'; choose one of sum, mean"),  # type: ignore[arg-type]
        (lambda: Response(nn.Identity(), readout="max"), "readout is 'max'"),  # type: ignore[arg-type]
        (lambda: Response(nn.Identity(), float("inf")), "temperature is inf"),
        (lambda: Weighted(()), "no objectives; give at least one pair"),
        (lambda: Weighted([CrossEntropy()]), r"a term is CrossEntropy\(\); give pairs"),  # type: ignore[list-item]
        (lambda: Weighted([(float("nan"), CrossEntropy())]), "a weight is nan; give a finite"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(LeanspikeError, match=why):
        make()


def test_every_step_may_have_to_answer() -> None:
    y_TNK, teacher = outputs(), nn.Linear(3, 4).double()
    x = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p = softmax(teacher(x).detach().numpy() / 2)
    q = softmax(y_TNK.numpy() / 2)
    expected = 4 * (p * np.log(p / q)).sum(-1).mean()
    loss = Response(teacher, 2.0, each_step=True)(y_TNK, LABELS, x)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_tet_is_the_mean_over_the_steps_and_a_pull_to_the_target(smoothing: float) -> None:
    y_TNK = outputs()
    log_p = np.log(softmax(y_TNK.numpy()))
    entropies = [
        -(1 - smoothing) * log_p[t, n, LABELS[n]] - smoothing * log_p[t, n].mean()
        for t in range(3)
        for n in range(5)
    ]
    expected = 0.7 * np.mean(entropies) + 0.3 * ((y_TNK.numpy() - 2) ** 2).mean()
    loss = TET(regularisation=0.3, target=2.0, label_smoothing=smoothing)(y_TNK, LABELS, NO_INPUT)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    with pytest.raises(LeanspikeError, match=r"regularisation is 1\.0; give a number in \[0, 1\)"):
        TET(regularisation=1.0)


@pytest.mark.parametrize("height", ["unit", "threshold"])
def test_the_spike_rate_is_that_of_the_evaluation_and_has_a_gradient(height: Any) -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    neuron = ls.LIF(threshold=0.3, height=height)
    snn = ls.spike(ann, example_input=torch.zeros(1, 3), timesteps=6, neuron=neuron)
    x, rate = torch.rand(5, 3), SpikeRate()
    with rate.watch(snn):
        y_TNK = snn(x)
    loss = rate(y_TNK, LABELS, x)
    measured = ls.evaluate(snn, [(x, LABELS)]).energy.spikes_per_neuron
    assert loss.item() == pytest.approx(measured, rel=1e-5)
    assert measured > 0
    loss.backward()  # type: ignore[no-untyped-call]
    assert ann[0].weight.grad is None  # the SNN is a copy
    weight = snn.get_submodule("0").weight
    assert isinstance(weight, nn.Parameter)
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    before = len(snn.get_submodule("1")._forward_hooks)
    assert before == 0


def test_the_spike_rate_pushes_thresholds_alike_whatever_the_height() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 4)).double()
    x, pushes = torch.rand(5, 3, dtype=torch.float64), []
    for height in ("unit", "threshold"):
        neuron = ls.LIF(threshold=0.3, learn=("threshold",), height=height)  # type: ignore[arg-type]
        snn = ls.spike(ann, example_input=x[:1], timesteps=6, neuron=neuron).double()
        rate = SpikeRate()
        with rate.watch(snn):
            y_TNK = snn(x)
        rate(y_TNK, LABELS, x).backward()  # type: ignore[no-untyped-call]
        threshold = snn.get_submodule("1").threshold
        assert isinstance(threshold, nn.Parameter)
        assert threshold.grad is not None
        pushes.append(threshold.grad.item())
    assert pushes[0] < 0  # a higher threshold, fewer spikes
    assert pushes[1] == pytest.approx(pushes[0], rel=1e-9)


def test_the_spike_rate_says_what_it_needs() -> None:
    with pytest.raises(LeanspikeError, match=r"inside watch\(network\)"):
        SpikeRate()(outputs(), LABELS, NO_INPUT)
    rate = SpikeRate()
    with (
        pytest.raises(LeanspikeError, match="needs a spiking network"),
        rate.watch(nn.Linear(1, 1)),
    ):
        pass


def test_objectives_that_share_a_teacher_ask_it_once() -> None:
    calls = []
    network = nn.Linear(3, 4).double()
    network.register_forward_hook(lambda *_: calls.append(1))
    teacher = Teacher(network)
    loss = Weighted([(1.0, Response(teacher)), (1.0, Response(teacher, 4.0, each_step=True))])
    loss(outputs(), LABELS, NO_INPUT)
    assert len(calls) == 1
    loss(outputs(), LABELS, NO_INPUT.clone())
    assert len(calls) == 2


def test_a_spiking_network_may_teach() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
    snn = ls.spike(ann, example_input=torch.zeros(1, 3), neuron=ls.LIF(0.3)).double()
    teacher = Teacher(snn)
    teacher.watch("1")
    x = torch.rand(5, 3, dtype=torch.float64)
    torch.testing.assert_close(teacher.logits(x), snn(x).mean(0).detach())
    assert teacher.feature("1", x).shape == (5, 8)


def test_a_teacher_is_left_as_it_was_and_can_be_saved() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
    for _ in range(3):
        teacher = Teacher(network)
        teacher.watch("1")
        teacher.feature("1", NO_INPUT.float())
    assert not any(module._forward_hooks for module in network.modules())
    torch.save(network, io.BytesIO())


def test_a_map_is_what_the_module_put_out_even_if_the_next_one_writes_into_it() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
    x = torch.randn(2, 1, 5, 5)
    teacher = Teacher(network)
    teacher.watch("0")
    torch.testing.assert_close(teacher.feature("0", x), network[0](x).detach())


def test_a_teacher_that_was_asked_may_be_watched_later() -> None:
    teacher, x = Teacher(nn.Sequential(nn.Linear(3, 4))), torch.rand(5, 3)
    teacher.logits(x)
    teacher.watch("0")
    assert teacher.feature("0", x).shape == (5, 4)


HERE, THERE = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


@pytest.mark.parametrize("spiking", [False, True])
def test_a_teacher_keeps_the_normalisation_it_was_trained_with(spiking: bool) -> None:
    pixels = torch.rand(4, 3, 5, 5)

    def normalised(mean: Any, std: Any) -> torch.Tensor:
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    torch.manual_seed(0)
    conv, relu = nn.Conv2d(3, 4, 3), nn.ReLU()
    network: nn.Module = nn.Sequential(conv, relu, nn.Flatten(), nn.Linear(36, 2)).eval()
    if spiking:
        network = ls.spike(network, example_input=pixels[:1], neuron=ls.LIF(0.3))
    expected = network(normalised(*THERE)).detach()
    renormalise(network, *HERE, own_mean=THERE[0], own_std=THERE[1])
    teacher = Teacher(network)
    teacher.watch("1")  # the path it has by itself
    x = normalised(*HERE)
    torch.testing.assert_close(teacher.logits(x), expected.mean(0) if spiking else expected)
    assert teacher.feature("1", x).shape == (4, 4, 3, 3)
    torch.save(network.state_dict(), io.BytesIO())


def test_constants_that_do_not_fit_the_channels_are_refused() -> None:
    for own_mean, own_std in (((0.1,), (0.5,)), (THERE[0], (0.5, 0.6, 0.0))):
        with pytest.raises(LeanspikeError, match="give one number per channel, std positive"):
            renormalise(nn.Identity(), *HERE, own_mean=own_mean, own_std=own_std)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (4, 3, 2)])
def test_the_squared_error_is_of_the_answer_read_out(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(5, 4, *(shape[1:] or (1,)), requires_grad=True)
    targets = torch.randn(shape)
    for readout in READOUTS:
        y = outputs.sum(0) if readout == "sum" else outputs.mean(0)
        found = SquaredError(readout)(outputs, targets, torch.zeros(1))
        expected = nn.functional.mse_loss(y, targets.reshape(y.shape))
        assert torch.allclose(found, expected)
    (gradient,) = torch.autograd.grad(found, outputs)
    assert torch.allclose(gradient[0], 2 * (y - targets.reshape(y.shape)) / y.numel() / 5)


def test_a_squared_error_needs_a_number_for_each_output() -> None:
    with pytest.raises(LeanspikeError, match=r"targets of shape \[4\] for outputs \[4, 3\]; a squ"):
        SquaredError()(torch.zeros(2, 4, 3), torch.zeros(4), torch.zeros(1))
    with pytest.raises(LeanspikeError, match=r"take squared_error \(SquaredError\) for numbers"):
        CrossEntropy()(torch.zeros(2, 4, 3), torch.rand(4, 3) + 2, torch.zeros(1))
