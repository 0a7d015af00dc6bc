"""Assignments to entries: what they are in a graph, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LIF, SurgeryError, spike

X = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A forward of its own behind a convolution."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.compute = nn.Conv2d(4, 8, 3, padding=1), forward
        self.linear = nn.Linear(2, 8)
        self.register_buffer("mask", torch.ones(8, 1, 1))

    def forward(self, x):
        return self.compute(self, F.relu(self.conv(x)))


def zeros(_net, h):
    h[:, 0] = 0
    return h


def doubled(_net, h):
    h[..., 2:] = h[..., 2:] * 2
    return h


def updated(_net, h):
    h[:, :, 2:] += h[:, :, 1:5] * 2
    h[:, :, :, 1:] *= 0.5
    return h


def under_two_names(_net, h):
    also = h
    also[:, 0] = 0
    return h


def mask_of_sizes(_net, h):
    side = h.shape[2]
    mask = torch.zeros(1, side, side, device=h.device)
    mask[:, :, 0] = 1
    mask[:, 1] = torch.arange(side)
    mask[0, 2] += 3
    return h * mask


def relative_positions(net, h):
    side = h.shape[2]
    positions = torch.zeros(1, side, side, 2)
    distance = torch.arange(int(side)).view(1, -1) - torch.arange(int(side)).view(-1, 1)
    positions[:, :, :, 0] = distance.unsqueeze(0)
    positions[:, :, :, 1] = (distance**2).unsqueeze(0)
    return h + net.linear(positions).permute(0, 3, 1, 2)


def into_zeros(_net, h):
    y = torch.zeros(h.shape[0], h.shape[1] + 1, 6, 6)
    y[:, :8] = h
    y[:, 8] = h[:, 0]
    return y


def method_in_a_line(_net, h):
    h.add_(1)
    return h * 2


def grid_of_the_batch(_net, h):
    n, _, height, width = h.shape
    rows = (~torch.zeros((n, height, width), dtype=torch.bool)).cumsum(1, dtype=torch.float32)
    return h + (rows / 6).sin().unsqueeze(1) + rows.cos().unsqueeze(1)


def grid_by_axes(_net, h):
    ticks = [torch.arange(side) / side for side in h.shape[2:]]
    return h + torch.stack(torch.meshgrid(ticks, indexing="ij"), 0).sum(0)


def computed_number(_net, h):
    return h + torch.ones(h.shape[0] * 1, 1, 1, 1)


def of_a_shape(_net, h):
    return torch.cat([h.view(h.shape[:1] + h.shape[1:]), torch.ones(h.shape)], 1)


def by_methods(net, h):
    bias = net.linear.bias.clone()
    bias[2:4].zero_()  # as Swin Transformer V2 does with that of its keys
    h[:, 0].zero_()
    h[:, 1].fill_(0.5)
    h[..., 2:].mul_(0.5)
    h[:, :, 1:].add_(h[:, :, :-1] * 2)
    h[:, 2].copy_(h[:, 3])
    return h + bias.view(-1, 1, 1)


CONVERTS = {
    "zeros": zeros,
    "doubled": doubled,
    "updated": updated,
    "two names": under_two_names,
    "a mask of sizes": mask_of_sizes,
    "relative positions": relative_positions,
    "into zeros": into_zeros,
    "a method in a line": method_in_a_line,
    "a grid": grid_of_the_batch,
    "a grid by axes": grid_by_axes,
    "a computed number": computed_number,
    "as many as a sample has": of_a_shape,
    "methods": by_methods,
}


@pytest.mark.parametrize("case", CONVERTS)
@torch.no_grad()
def test_it_converts(case):
    ann = Net(CONVERTS[case]).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=2)
    torch.testing.assert_close(snn(X)[1], ann(X))
    firing = spike(ann, example_input=X[:1], neuron=LIF(0.2), timesteps=3).eval()
    whole, state = firing(X), None
    for y in whole:
        step, state = firing.step(X, state)
        torch.testing.assert_close(step, y)


def updated_above_one(_net, h):
    y = h + 1
    y[:, :, 2:] += h[:, :, 1:5] * 2
    y[..., 0] = h[..., 1]
    return y


def test_gradients_go_through_as_in_the_network():
    ann = Net(updated_above_one)
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=1)
    ann(X).square().sum().backward()
    snn(X).square().sum().backward()
    torch.testing.assert_close(snn.get_submodule("conv").weight.grad, ann.conv.weight.grad)


def update_read_later(_net, h):
    part = h[:, :4]
    part += 1
    h[:, :4] = part
    return h.sum(1, keepdim=True) + part


def through_a_view(_net, h):
    part = h[:, :4]
    part[:, 0] = 0
    return h


def read_under_a_view(_net, h):
    first = h[:, 0]
    h[:, 0] = 0
    return h + first.unsqueeze(1)


def buffer(net, h):
    net.mask[0] = 2
    return h * net.mask


def buffer_method(net, h):
    net.mask.add_(1)
    return h * net.mask


def first_sample(_net, h):
    h[0] = 0
    return h


def first_sample_by_dots(_net, h):
    h[..., 0, :, :, :] = 0
    return h


def where_an_index_says(net, h):
    h[:, net.mask.flatten() > 0] = 1
    return h


def signal_into_a_constant(_net, h):
    y = torch.zeros(1, h.shape[1], 6, 6)
    y[:, :4] = h[:, :4]
    return h + y


def samples_meet(_net, h):
    y = h * 1
    y[:, 0] = h[:, 0, 0]
    return y


def constant_per_sample(_net, h):
    h[:, 0] = torch.ones(2, 6, 6)
    return h


def per_sample_numbers(_net, h):
    return h + torch.arange(h.shape[0]).view(-1, 1, 1, 1)


REFUSED = {
    "an update that is read": (update_read_later, "differ from its graph's at SliceBackward0"),
    "through a view": (through_a_view, "assigned in the network itself: overwrites its input"),
    "read under a view": (read_under_a_view, "and unsqueeze in the network itself reads it"),
    "a buffer": (buffer, "in the network itself: writes to a parameter or buffer"),
    "a method": (buffer_method, "in the network itself: writes to a parameter or buffer"),
    "a sample": (first_sample, "assigns to samples (axis 0); begin the index with ':'"),
    "a sample, by dots": (first_sample_by_dots, "assigns to samples (axis 0)"),
    "where": (where_an_index_says, "assigns where an index says; use x * mask"),
    "a constant": (signal_into_a_constant, "make it for each sample, as torch.zeros(x.shape[0]"),
    "samples meet": (samples_meet, "a signal of 2 axes to entries of 3, where samples would meet"),
    "a constant for two": (constant_per_sample, "constant of shape (2, 6, 6) to the batch"),
    "numbers of samples": (per_sample_numbers, "arange in the network itself: makes a tensor of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(case):
    forward, message = REFUSED[case]
    with pytest.raises(SurgeryError) as error:
        spike(Net(forward).eval(), example_input=X if case == "a constant for two" else X[:1])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def for_one_sample(_net, h):
    return h + torch.arange(h.shape[2]).view(1, 1, 1, -1)


def with_its_axes(_net, h):
    y = h * 1
    y[:, 0] = h[:, 0, :1]
    return y


def without_a_batch(_net, h):
    h[:, 0] = torch.ones(6, 6)
    return h


MENDED = {
    "a sample": zeros,
    "where": lambda net, h: h * net.mask,
    "a constant": into_zeros,
    "samples meet": with_its_axes,
    "a constant for two": without_a_batch,
    "numbers of samples": for_one_sample,
}


@pytest.mark.parametrize("case", MENDED)
def test_what_the_advice_says_converts(case):
    ann = Net(MENDED[case]).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))
