"""What ``torch.fx.wrap`` keeps whole is looked into; zeros that code fills are a constant."""

import pytest
import torch
from torch import nn

from leanspike import SurgeryError, spike

X = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def masked(x, side):
    """As torchvision's Swin does it: each quarter has a number, in a mask that is made anew."""
    mask = x.new_zeros((x.shape[2], side))
    for number, (top, left) in enumerate(((0, 0), (0, -2), (-2, 0), (-2, -2))):
        mask[top : top + 2 or None, left : left + 2 or None] = number
    mask = mask.masked_fill(mask == 3, -1.0)
    return torch.cat([x + mask.view(x.shape[2], side), x], 1)


def by_values(x, side):
    return x * side if x.sum() > 0 else x


def two(x, side):
    return x, x * side


torch.fx.wrap("masked")
torch.fx.wrap("by_values")
torch.fx.wrap("two")


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(torch.relu(x))


@torch.no_grad()
def test_it_is_traced_and_the_mask_is_a_constant():
    ann = Net(lambda x: masked(x, x.shape[3]))
    for _ in range(2):  # what is traced once leaves nothing behind
        snn = spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=2)
        for y in snn(X):
            torch.testing.assert_close(y, ann(X))


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda x: by_values(x, 2), "by_values"), (lambda x: two(x, 2)[0], "two")],
)
def test_what_cannot_be_looked_into_is_refused_by_its_name_and_the_advice_works(function, name):
    ann = Net(function)
    with pytest.raises(SurgeryError) as error:
        spike(ann, example_input=X[:1])
    message = str(error.value)
    assert f"{name} is not known to keep timesteps and samples apart" in message
    assert f"declare it with ops={{{name}: 'analog'}}" in message
    snn = spike(ann, example_input=X[:1], ops={globals()[name]: "analog"}, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))
