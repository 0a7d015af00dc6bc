"""Attacks: the analytic optimum, the true surrogate gradient, and nothing left behind."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation.attack import fgsm, network_input, pgd, pixel_gradient

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CONSTANTS = {"mean": MEAN, "std": STD}


def pixels(n: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, 4, 4, generator=generator)
    return x, torch.randint(2, (n,), generator=generator)


def linear(gain: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    nn.init.normal_(net[1].weight, 0, gain)
    return net.eval()


def small_snn(timesteps: int = 4) -> ls.SpikingNetwork:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU()
    ann = nn.Sequential(*layers, nn.Linear(24, 3)).eval()
    neuron = ls.LIF(threshold=0.6, leak=0.9, learn=("leak", "threshold"))
    return ls.spike(ann, example_input=torch.zeros(1, 3, 4, 4), timesteps=timesteps, neuron=neuron)


def test_on_a_linear_model_both_find_the_analytic_optimum() -> None:
    """The margin w·x between two classes falls fastest along −sign(w), up to ε or the border."""
    net, (x, labels) = linear(), pixels()
    weight = net[1].weight.detach()
    towards_other = (weight[1 - labels] - weight[labels]).view(-1, 3, 4, 4)
    for epsilon in (0.01, 0.1, 0.5):
        expected = (x + epsilon * towards_other.sign()).clamp(0, 1)
        torch.testing.assert_close(fgsm(net, x, labels, epsilon, **CONSTANTS), expected)
        found = pgd(net, x, labels, epsilon, **CONSTANTS, steps=5)
        torch.testing.assert_close(found, expected)


def margins(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """By how much the label's logit is above the other one, ``[N]``."""
    with torch.no_grad():
        logits = net(network_input(x, MEAN, STD))
    return (logits[:, 0] - logits[:, 1]) * (1 - 2 * labels)


@pytest.mark.parametrize("gain", [3.0, 10.0, 30.0])
def test_a_sure_answer_masks_no_gradient(gain: float) -> None:
    """Where float64, too, takes the answer for certain, the optimum is found."""
    net, (x, _) = linear(gain), pixels(64)
    labels = net(network_input(x, MEAN, STD)).argmax(1)  # right, and sure of it
    assert margins(net, x, labels).max() > 20 * gain
    weight = net[1].weight.detach()
    towards_other = (weight[1 - labels] - weight[labels]).view(-1, 3, 4, 4)
    found = pixel_gradient(net, x, labels, **CONSTANTS)
    assert (found != 0).all()
    assert torch.equal(found.sign(), towards_other.sign())


def test_restarts_are_told_apart_where_the_answer_is_sure() -> None:
    net, (x, _) = linear(30.0), pixels(64)
    labels = net(network_input(x, MEAN, STD)).argmax(1)
    options = {**CONSTANTS, "steps": 1, "step_size": 1e-6}
    one, eight = (
        margins(net, pgd(net, x, labels, 0.01, **options, restarts=n), labels) for n in (1, 8)
    )
    assert (eight <= one + 1e-3).all()
    assert (eight < one).double().mean() > 0.7


class Step(torch.autograd.Function):
    """A step with the triangle as its derivative, written down once more."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return (z > 0).float()

    @staticmethod
    def backward(ctx, gradient):
        (z,) = ctx.saved_tensors
        return gradient * 0.3 * (1 - z.abs()).clamp(min=0)


def plain_loop(snn: ls.SpikingNetwork, x: Tensor) -> Tensor:
    """The sum of the outputs of all steps, by a loop over time in plain PyTorch."""
    first, second, last = (snn.get_submodule(name) for name in ("1", "3", "5"))
    v, leak = 0.6, 0.9
    u1, u2, total = 0.0, 0.0, 0.0
    for _ in range(snn.timesteps):
        u1 = leak * u1 + first(x.flatten(1))
        o1 = Step.apply(u1 / v - 1)
        u1 = u1 - v * o1.detach()
        u2 = leak * u2 + second(o1)
        o2 = Step.apply(u2 / v - 1)
        u2 = u2 - v * o2.detach()
        total = total + last(o2)
    return total


def test_the_gradient_is_that_of_a_plain_loop_over_time() -> None:
    """Cross-entropy's is that of the loss, times the probability of a wrong answer."""
    snn, (x, labels) = small_snn(), pixels()
    snn.train()  # the attack itself puts it into eval mode
    leaf = x.clone().requires_grad_()
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (MEAN, STD))
    logits = plain_loop(snn, (leaf - mean) / std)
    nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    wrong = 1 - logits.detach().softmax(1).gather(1, labels[:, None])
    found = pixel_gradient(snn, x, labels, **CONSTANTS)
    torch.testing.assert_close(found * wrong[:, :, None, None], leaf.grad, rtol=1e-4, atol=1e-6)
    assert (found != 0).flatten(1).any(1).double().mean() > 0.9
    expected = (x + 0.03 * leaf.grad.sign()).clamp(0, 1)
    assert (fgsm(snn, x, labels, 0.03, **CONSTANTS) == expected).double().mean() > 0.99


def loss(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    y = net(network_input(x, MEAN, STD))
    y = y.sum(0) if isinstance(net, ls.SpikingNetwork) else y
    return nn.functional.cross_entropy(y, labels, reduction="none")


@pytest.mark.parametrize("make", [linear, small_snn])
def test_attacks_hurt_and_pgd_hurts_more(make) -> None:
    net, (x, labels) = make().eval(), pixels(64)
    with torch.no_grad():
        clean = loss(net, x, labels).sum()
        fast = loss(net, fgsm(net, x, labels, 0.05, **CONSTANTS), labels).sum()
        slow = loss(net, pgd(net, x, labels, 0.05, **CONSTANTS, restarts=2), labels).sum()
    assert clean < fast < slow + 1e-3


@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.3, 1.0])
def test_no_value_moves_further_than_epsilon_or_leaves_its_range(epsilon: float) -> None:
    net, (x, labels) = small_snn(), pixels()
    x[0], x[1] = 0, 1
    for attacked in (
        fgsm(net, x, labels, epsilon, **CONSTANTS),
        pgd(net, x, labels, epsilon, **CONSTANTS, steps=3, restarts=2),
        pgd(net, x, labels, epsilon, **CONSTANTS, steps=2, step_size=0.5),
    ):
        assert (attacked - x).abs().max() <= epsilon + 1e-6
        assert attacked.min() >= 0
        assert attacked.max() <= 1
        assert not attacked.requires_grad
        assert epsilon > 0 or torch.equal(attacked, x)


def test_more_restarts_never_hurt_less() -> None:
    net, (x, labels) = small_snn(), pixels()
    losses = [
        loss(net, pgd(net, x, labels, 0.1, **CONSTANTS, steps=2, restarts=n), labels)
        for n in (1, 2, 4)
    ]
    assert (losses[1] >= losses[0] - 1e-6).all()
    assert (losses[2] >= losses[1] - 1e-6).all()


def test_starts_depend_on_seed_and_position_not_on_the_batch() -> None:
    net, (x, labels) = linear(), pixels()
    options = {**CONSTANTS, "steps": 1, "step_size": 1e-4, "seed": 7}
    whole = pgd(net, x, labels, 0.2, **options)
    where = torch.tensor([9, 3])
    part = pgd(net, x[where], labels[where], 0.2, **options, positions=where)
    torch.testing.assert_close(part, whole[where])
    torch.manual_seed(1)
    assert torch.equal(whole, pgd(net, x, labels, 0.2, **options))
    assert not torch.equal(whole, pgd(net, x, labels, 0.2, **{**options, "seed": 8}))


def test_parameters_gradients_statistics_and_modes_are_left_alone() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten()
    ann = nn.Sequential(*layers, nn.Linear(16, 2))
    snn = ls.spike(ann, example_input=torch.zeros(1, 3, 4, 4), timesteps=3)
    x, labels = pixels()
    for net in (ann, snn):
        net.train()
        net.get_submodule("1").eval()
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, 7.0)
        state = {key: value.clone() for key, value in net.state_dict().items()}
        modes = [module.training for module in net.modules()]
        before = x.clone()
        for attacked in (
            fgsm(net, x, labels, 0.1, **CONSTANTS),
            pgd(net, x, labels, 0.1, **CONSTANTS, steps=2),
        ):
            assert not torch.equal(attacked, x)
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        assert all(p.requires_grad and bool((p.grad == 7).all()) for p in net.parameters())
        assert modes == [module.training for module in net.modules()]
        assert torch.equal(x, before)
        assert x.grad is None


def test_dropout_is_off_and_the_same_attack_is_the_same_twice() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(48, 2)).train()
    x, labels = pixels()
    with torch.no_grad():
        first, second = (fgsm(net, x, labels, 0.1, **CONSTANTS) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon is -0.1; give a number in [0, 1], such as 8/255"),
        ({"epsilon": math.nan}, "epsilon is nan; give a number in [0, 1], such as 8/255"),
        ({"epsilon": 8}, "epsilon is 8; give a number in [0, 1], such as 8/255"),
        ({"x": torch.full((16, 3, 4, 4), 2.0)}, "pixels range from 2 to 2; give them in [0, 1]"),
        (
            {"x": torch.zeros(16, 3, 4, 4, dtype=torch.uint8)},
            "pixels are torch.uint8 [16, 3, 4, 4]; give floating point [N, C, H, W] in [0, 1]",
        ),
        ({"x": torch.zeros(3, 4, 4)}, "pixels are torch.float32 [3, 4, 4]; give floating point"),
        ({"mean": (0.5,)}, "mean (0.5,) and std (0.2, 0.25, 0.3) do not fit images of 3 channels"),
        ({"std": (0.0, 1.0, 1.0)}, "mean (0.4, 0.5, 0.6) and std (0.0, 1.0, 1.0) do not fit"),
    ],
)
def test_errors(change: dict[str, object], message: str) -> None:
    x, labels = pixels()
    arguments = {"network": linear(), "x": x, "labels": labels, "epsilon": 0.1} | CONSTANTS
    for attack in (fgsm, pgd):
        with pytest.raises(LeanspikeError) as error:
            attack(**(arguments | change))
        assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("option", "value"), [("steps", 0), ("restarts", 0), ("step_size", 0.0), ("step_size", -1.0)]
)
def test_errors_of_pgd(option: str, value: float) -> None:
    x, labels = pixels()
    with pytest.raises(LeanspikeError, match=f"^{option} is {value}; give "):
        pgd(linear(), x, labels, 0.1, **CONSTANTS, **{option: value})


def test_an_input_drawn_as_spikes_is_refused() -> None:
    ann = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2))
    snn = ls.spike(ann, example_input=torch.zeros(1, 3, 4, 4), encode="poisson")
    x, labels = pixels()
    with pytest.raises(LeanspikeError, match="drawn as spikes, which let no gradient through"):
        fgsm(snn, x, labels, 0.1, **CONSTANTS)


def test_one_logit_is_attacked_like_its_two_classes() -> None:
    net, (x, labels) = linear(), pixels()
    one = nn.Sequential(nn.Flatten(), nn.Linear(48, 1)).eval()
    with torch.no_grad():
        one[1].weight.copy_(net[1].weight[1:] - net[1].weight[:1])
        one[1].bias.copy_(net[1].bias[1:] - net[1].bias[:1])
    for network in (one, nn.Sequential(one, nn.Flatten(0))):
        found = pixel_gradient(network, x, labels, **CONSTANTS)
        torch.testing.assert_close(found, pixel_gradient(net, x, labels, **CONSTANTS))


def test_answers_that_are_not_one_for_each_sample_are_not_attacked() -> None:
    x, labels = pixels()
    pixelwise = nn.Conv2d(3, 2, 1)
    for several in (labels, torch.zeros(16, 4, 4).long()):
        with pytest.raises(LeanspikeError, match=r"an attack is on one answer for each sample"):
            pixel_gradient(pixelwise, x, several, **CONSTANTS)
    rows = torch.stack([labels, labels], 1)
    with pytest.raises(LeanspikeError, match=r"attack is on .* yes or no \[N, 1\], with labels"):
        fgsm(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), x, rows, 0.1, **CONSTANTS)
