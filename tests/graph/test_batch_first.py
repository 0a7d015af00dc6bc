"""Attention that moves the samples for a moment computes the same with the samples first."""

import pytest
import torch
from torch import nn

import leanspike as ls

X = torch.rand(3, 5, 8, generator=torch.Generator().manual_seed(0))


def unbound(qkv):
    return qkv.permute(2, 0, 3, 1, 4).unbind(0)


def indexed(qkv):
    qkv = torch.permute(qkv, (2, 0, 3, 1, 4))
    return qkv[0], qkv[1], qkv[2, :, :]


def summed(qkv):
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    stacked = torch.stack([q, k, v])
    again = torch.stack(tensors=(q, k), dim=0)
    return torch.stack([q, k, v]).mean(0), stacked.sum(dim=0), again[1] + again[-1]


def unpacked(qkv):
    qkv = qkv.permute(dims=(2, 0, 3, 1, 4))
    return torch.unbind(qkv)


def taken_apart(qkv):
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return q, k, v


def one_by_one(qkv):
    qkv = qkv.permute(2, 0, 3, 1, 4)
    return [part * len(qkv) for part in qkv]


class Attention(nn.Module):
    """Gates by elements in the place of the product of matrices."""

    def __init__(self, parts):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.relu, self.scale = nn.ReLU(), nn.Parameter(torch.ones(24))
        self.parts = parts

    def forward(self, x):
        qkv = (self.scale * self.relu(self.qkv(x))).reshape(-1, 5, 3, 2, 4)
        q, k, v = self.parts(qkv)
        return (q * k + v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("parts", [unbound, indexed, unpacked, summed, taken_apart, one_by_one])
@torch.no_grad()
def test_the_samples_stay_apart(parts):
    torch.manual_seed(0)
    ann = Attention(parts).eval()
    snn = ls.spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=2).eval()
    for y in snn(X):
        torch.testing.assert_close(y, ann(X))


def test_samples_that_stay_behind_another_axis_are_refused():
    ann = Attention(lambda qkv: [qkv.permute(2, 0, 3, 1, 4).mean((0, 2))] * 3)
    with pytest.raises(ls.SurgeryError, match="permute in the network itself: moves the batch"):
        ls.spike(ann, example_input=X[:1])


def test_a_stack_of_constants_is_left_alone():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return torch.stack([self.a, self.b]).sum(0) * torch.relu(x)

    ann = Scaled()
    snn = ls.spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=2)
    torch.testing.assert_close(snn(X)[-1], ann(X))
