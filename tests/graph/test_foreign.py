"""Layers of packages that leanspike does not import, known by their full names."""

import re

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torchvision.ops import StochasticDepth

import leanspike as ls
from leanspike.temporal import TemporalDropout


class Net(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.stem = nn.Linear(4, 16)
        self.relu = nn.ReLU()
        self.branch = nn.Linear(16, 16)
        self.drop = drop

    def forward(self, x):
        x = self.relu(self.stem(x))
        return x + self.drop(self.branch(x))


@pytest.mark.parametrize("drop", [StochasticDepth(0.5, "row"), DropPath(0.5)])
def test_stochastic_depth_draws_once_for_all_timesteps(drop):
    torch.manual_seed(0)
    ann, x = Net(drop).train(), torch.rand(64, 4)
    snn = ls.spike(ann, example_input=x, timesteps=3, neuron=nn.ReLU())
    placed = snn.get_submodule("drop")
    assert isinstance(placed, TemporalDropout)
    assert (placed.p, placed.drops) == (0.5, "samples")
    y_TN = snn(x)
    assert all(torch.equal(y, y_TN[0]) for y in y_TN)
    straight = ann.relu(ann.stem(x))
    dropped = [torch.equal(y, s) for y, s in zip(y_TN[0], straight, strict=True)]
    assert 16 < sum(dropped) < 48
    torch.testing.assert_close(snn.eval()(x)[0], ann.eval()(x))


def test_stochastic_depth_of_whole_batches_is_refused_and_its_advice_works():
    with pytest.raises(ls.SurgeryError, match=re.escape("make it with mode='row'")):
        ls.spike(Net(StochasticDepth(0.5, "batch")), example_input=torch.rand(2, 4))
    ls.spike(Net(StochasticDepth(0.5, mode="row")), example_input=torch.rand(2, 4))
