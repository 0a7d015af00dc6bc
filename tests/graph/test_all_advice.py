"""A network with several activations and gates is refused once, with advice that lifts all."""

import re

import pytest
import torch
from torch import nn

import leanspike as ls

X = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Excited(nn.Module):
    """A block with an activation and a gate, as in EfficientNet."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.SiLU()
        self.relu6 = nn.ReLU6()
        self.squeeze = nn.Conv2d(4, 4, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        x = self.act(self.conv(x))
        return x * self.gate(self.squeeze(self.relu6(x.mean((2, 3), keepdim=True))))


def test_what_it_says_is_followed_to_the_letter():
    ann = Excited().eval()
    with pytest.raises(ls.SurgeryError, match=r"for all that this network has, say ") as refused:
        ls.spike(ann, example_input=X)
    code = str(refused.value).partition("has, say ")[2]
    assert re.findall(r"\w+(?=[,)}:])", code) == ["SiLU", "ReLU6", "Sigmoid"]
    snn = ls.spike(ann, example_input=X, timesteps=2, **eval(f"dict({code})", {"nn": nn}))
    assert [path for path, _ in snn.neurons()] == ["act", "relu6"]
    assert snn(X).shape == (2, 2, 4, 4, 4)


def test_one_of_them_is_told_as_it_was():
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.SiLU())
    with pytest.raises(ls.SurgeryError) as refused:
        ls.spike(ann, example_input=X)
    assert "for all" not in str(refused.value)


def test_what_no_declaration_lifts_is_told_instead():
    class Mixed(Excited):
        def forward(self, x):
            return super().forward(x).mean(0)

    with pytest.raises(ls.SurgeryError, match="mean in the network itself: works on axis 0"):
        ls.spike(Mixed(), example_input=X)
