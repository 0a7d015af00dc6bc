"""Laws that hold for every network with every neuron: no hidden state, no look ahead or aside.

A new network of the list or neuron below falls under all of them. They run in float64, where a
convolution's rounding is too small to flip a spike; exactness and float32 have tests of their own.
"""

from copy import deepcopy
from functools import cache
from itertools import cycle
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leanspike import LIF, spike
from leanspike.neuron.kernels import Reset
from networks import USERS, ZOO, build, draw
from spiking_networks import NEURONS, PAIRS, N, T, spiking

LAWFUL = [*USERS, *ZOO]
lawful = pytest.mark.parametrize(
    ("name", "neuron"),
    [*PAIRS, *zip(ZOO, cycle(NEURONS), strict=False)],  # which take turns
)


@cache
@torch.no_grad()
def direct(name, neuron):
    """A network, input, and output of direct encoding; for tests that change none of them."""
    snn, x = spiking(name, neuron), draw(name, N).double()
    return snn, x, snn(x.clone())


@cache
@torch.no_grad()
def frames(name, neuron):
    """The same with a frame for each step."""
    snn, x_TN = spiking(name, neuron, "frames"), draw(name, T, N).double()
    return snn, x_TN, snn(x_TN.clone())


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# -- a call -----------------------------------------------------------------------------------


@lawful
def test_samples_and_steps_are_told_apart_at_all(name, neuron):
    """Else the laws below would hold of a network that is silent."""
    _, _, y_TNK = direct(name, neuron)
    assert y_TNK.std(1).max() > 1e-3
    assert neuron == "relu" or y_TNK.std(0).max() > 1e-3
    _, _, y_TNK = frames(name, neuron)
    assert y_TNK.std(1).max() > 1e-3
    assert y_TNK.std(0).max() > 1e-3


@lawful
@torch.no_grad()
def test_the_same_call_gives_the_same_bits_whatever_was_called_between(name, neuron):
    snn, x, y_TNK = direct(name, neuron)
    snn(x[:1] * 2, timesteps=T + 1)
    snn.step(x[:2].clone())
    assert torch.equal(snn(x.clone()), y_TNK)


@lawful
@torch.no_grad()
def test_samples_do_not_influence_each_other(name, neuron):
    snn, x, y_TNK = direct(name, neuron)
    for samples in ([2, 1, 0], [1], [0, 0, 2, 1, 1]):
        same(snn(x[samples]), y_TNK[:, samples])
    snn, x_TN, y_TNK = frames(name, neuron)
    for samples in ([2, 1, 0], [1], [0, 0, 2, 1, 1]):
        same(snn(x_TN[:, samples]), y_TNK[:, samples])


@lawful
@torch.no_grad()
def test_later_steps_do_not_influence_earlier_ones(name, neuron):
    snn, x, y_TNK = direct(name, neuron)
    same(snn(x.clone(), timesteps=T + 3)[:T], y_TNK)
    same(snn(x.clone(), timesteps=1), y_TNK[:1])


@lawful
@torch.no_grad()
def test_later_frames_do_not_influence_earlier_answers(name, neuron):
    snn, x_TN, y_TNK = frames(name, neuron)
    later, earlier = x_TN.clone(), x_TN.clone()
    later[-1], earlier[0] = 5, 5
    same(snn(later)[:-1], y_TNK[:-1])
    assert not torch.allclose(snn(earlier), y_TNK)


@lawful
@torch.no_grad()
def test_whole_sequence_is_step_by_step(name, neuron):
    snn, x, y_TNK = direct(name, neuron)
    state = None
    for t in range(T):
        y_NK, state = snn.step(x.clone(), state)
        same(y_NK, y_TNK[t])
    snn, x_TN, y_TNK = frames(name, neuron)
    state = None
    for t in range(T):
        y_NK, state = snn.step(x_TN[t].clone(), state)
        same(y_NK, y_TNK[t])


@lawful
@torch.no_grad()
def test_a_sample_that_is_dropped_on_the_way_is_not_missed(name, neuron):
    for encode in (direct, frames):
        snn, x, y_TNK = encode(name, neuron)
        kept, state = torch.tensor([False, True, True]), None
        for t in range(T):
            x_N = (x if encode is direct else x[t]).clone()
            if t == 1:
                state = state.keep(kept)
            if t >= 1:
                x_N = x_N[kept]
            y_NK, state = snn.step(x_N, state)
            same(y_NK, y_TNK[t, kept] if t >= 1 else y_TNK[t])


@lawful
@torch.no_grad()
def test_a_copy_answers_the_same_and_is_independent(name, neuron):
    snn, x, y_TNK = direct(name, neuron)
    copy = deepcopy(snn)
    assert torch.equal(copy(x.clone()), y_TNK)
    for parameter in copy.parameters():
        parameter.zero_()
    assert not torch.allclose(copy(x.clone()), y_TNK)
    assert torch.equal(snn(x.clone()), y_TNK)


@lawful
def test_every_parameter_that_is_trained_gets_a_gradient(name, neuron):
    snn = deepcopy(direct(name, neuron)[0])
    snn(draw(name, N).double()).square().sum().backward()
    for path, parameter in snn.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, path
            assert parameter.grad.isfinite().all(), path
            assert parameter.grad.abs().sum() > 0 or path.endswith("leak"), path
        else:
            assert parameter.grad is None, path


@torch.no_grad()
def test_the_same_frame_at_every_step_is_direct_encoding():
    for name in ("padded_shortcut", "dense", "cifar_resnet20"):
        still, x, y_TNK = direct(name, "papers")
        moving = spiking(name, "papers", "frames")
        moving.load_state_dict(still.state_dict())
        same(moving(x.expand(T, *x.shape)), y_TNK)


# -- bit for bit where the arithmetic is exact ------------------------------------------------


class Dyadic(nn.Module):
    """Weights that are multiples of 1/8, so that float32 rounds nothing."""

    def __init__(self, seed):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.linear1 = nn.Linear(16, 6)
        self.linear2 = nn.Linear(6, 3)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            with torch.no_grad():
                values = torch.randint(-4, 6, parameter.shape, generator=generator)
                parameter.copy_(values / 8)

    def forward(self, x):
        static = self.conv1(x)
        x = self.relu1(static)
        x = self.relu2(self.conv2(x) + static)
        x = self.relu3(self.linear1(self.pool(x).flatten(1)))
        return self.linear2(x)


@given(
    seed=st.integers(0, 1000),
    leak=st.sampled_from([0.0, 0.5, 1.0]),
    reset=st.sampled_from(get_args(Reset)),
    frames=st.booleans(),
)
@settings(max_examples=12)
@torch.no_grad()
def test_whole_sequence_is_step_by_step_bit_for_bit_in_float32(seed, leak, reset, frames):
    generator = torch.Generator().manual_seed(seed)
    x_TN = torch.randint(-8, 9, (T, N, 2, 4, 4), generator=generator) / 8
    neuron = LIF(0.75, leak, reset=reset, initial="half")
    snn = spike(
        Dyadic(seed).eval(),
        example_input=x_TN if frames else x_TN[0],
        encode="frames" if frames else "direct",
        timesteps=T,
        neuron=neuron,
    )
    y_TNK, state = snn(x_TN if frames else x_TN[0]), None
    for t in range(T):
        y_NK, state = snn.step(x_TN[t] if frames else x_TN[0], state)
        assert torch.equal(y_NK, y_TNK[t])
    order = torch.randperm(N, generator=generator)
    permuted = x_TN[:, order] if frames else x_TN[0, order]
    assert torch.equal(snn(permuted), y_TNK[:, order])


# -- float32: rounding may flip a spike, but hardly ever ----------------------------------------


@pytest.mark.parametrize("name", ["vgg6", "cifar_resnet20", "padded_shortcut"])
@torch.no_grad()
def test_in_float32_hardly_a_spike_depends_on_the_batch(name):
    snn, x = deepcopy(direct(name, "papers")[0]).float(), draw(name, 8)
    together, one_by_one = record(snn, x), [record(snn, image[None]) for image in x]
    for path, spikes in together.items():
        alone = torch.cat([part[path] for part in one_by_one], dim=1)
        assert 0.01 < spikes.mean() < 0.99, path
        assert (spikes != alone).float().mean() < 1e-3, path


def record(snn, x):
    spikes = {}

    def observe(node, _values, value):
        if node.meta.get("neuron"):
            spikes[str(node.target)] = value

    snn.run(x, observer=observe)
    return spikes


@pytest.mark.parametrize("name", ["vgg6", "resnet12"])
@torch.no_grad()
def test_channels_last_changes_hardly_a_spike(name):
    snn, x = deepcopy(direct(name, "papers")[0]).float(), draw(name, 8)
    plain = record(snn, x)
    snn = snn.to(memory_format=torch.channels_last)
    last = record(snn, x.contiguous(memory_format=torch.channels_last))
    for path, spikes in plain.items():
        assert (spikes != last[path]).float().mean() < 1e-3, path


@pytest.mark.parametrize("name", ["vgg6", "cifar_resnet20", "dense"])
@torch.no_grad()
def test_under_autocast_whole_sequence_is_step_by_step_with_float32_membranes(name):
    snn, x, state = deepcopy(direct(name, "papers")[0]).float(), draw(name, 8), None
    with torch.autocast("cpu", torch.bfloat16):
        y_TNK = snn(x)
        assert y_TNK.dtype == torch.bfloat16
        for y_NK in y_TNK:
            found, state = snn.step(x, state)
            torch.testing.assert_close(
                found.float().mean(), y_NK.float().mean(), rtol=0.05, atol=0.05
            )
            assert {u_N.dtype for u_N in state.neurons.values()} == {torch.float32}


# -- training ----------------------------------------------------------------------------------


@torch.no_grad()
def test_in_training_all_steps_share_their_dropout_masks():
    """ReLUs for neurons: the input is the same at each step, so is the output, if masks are."""
    for name in ("dropouts", "vgg6", "resnet12"):
        snn = spiking(name, "relu")
        for module in snn.modules():
            module.training = not isinstance(module, nn.BatchNorm2d)
        x = draw(name, N).double()
        y_TNK = snn(x)
        for y_NK in y_TNK:
            same(y_NK, y_TNK[0])
        assert not torch.allclose(snn(x), y_TNK)  # each call draws others


def test_norms_in_training_see_all_steps_as_one_batch():
    snn, x = spiking("padded_shortcut", "relu").train(), draw("padded_shortcut", N).double()
    norm, seen = snn.bn2, []
    norm.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    norm.momentum = 1.0
    snn(x)
    assert seen[0].shape[0] == T * N
    same(norm.running_mean, seen[0].mean((0, 2, 3)))


# -- saving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWFUL)
@torch.no_grad()
def test_a_state_dict_makes_another_surgery_the_same_network(name):
    snn, x, y_TNK = direct(name, "papers")
    ann = build(name, seed=3)
    other = spike(ann, example_input=x[:1].float(), timesteps=T, preset="paper").double()
    other.load_state_dict(snn.state_dict())
    assert torch.equal(other(x.clone()), y_TNK)
