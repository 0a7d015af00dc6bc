"""The pieces that every architecture is made of."""

import math

import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models import create_model
from leanspike.models.parts import (
    activated_convolution,
    check_counts,
    check_dropout,
    initialise_weights,
    scaled,
)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(64, 1.0, 64), (64, 0.125, 8), (16, 0.01, 1), (64, 2, 128)]
)
def test_scaled(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf, math.nan])
def test_scaled_refuses_a_width(width: float) -> None:
    with pytest.raises(LeanspikeError, match=f"width is {width}; give a number above 0"):
        scaled(64, width)


def test_scaled_refuses_no_channels() -> None:
    with pytest.raises(LeanspikeError, match="channels is 0; give a whole number"):
        scaled(0, 1.0)


@pytest.mark.parametrize("count", [0, -3, 2.0, "2"])
def test_counts(count: object) -> None:
    with pytest.raises(LeanspikeError, match=f"^pixels is {count!r}; give a whole number of 1"):
        check_counts(images=1, pixels=count)  # type: ignore[arg-type]


@pytest.mark.parametrize("probability", [-0.1, 1.0, math.nan])
def test_dropout(probability: float) -> None:
    with pytest.raises(LeanspikeError, match=f"dropout_conv is {probability}; give a probability"):
        check_dropout(dropout_conv=probability)


def test_activated_convolution_order_and_shape() -> None:
    modules = activated_convolution(4, 3, 8, stride=2, bias=True, batch_norm=True, dropout=0.3)
    assert list(modules) == ["conv4", "norm4", "relu4", "dropout4"]
    assert nn.Sequential(*modules.values())(torch.zeros(2, 3, 9, 9)).shape == (2, 8, 5, 5)
    assert list(activated_convolution(1, 3, 8)) == ["conv1", "relu1"]


def test_initial_weights_have_the_documented_spread() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(40, 50, 3), nn.BatchNorm2d(50), nn.Linear(200, 300))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0)
    model[2].reset_parameters()
    initialise_weights(model)
    conv, norm, linear = model
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 50)), rel=0.02)
    assert abs(conv.weight.mean().item()) < 0.002
    assert linear.weight.std().item() == pytest.approx(math.sqrt(1 / (3 * 200)), rel=0.02)
    assert bool((norm.weight == 1).all())
    assert all(float(m.bias.detach().abs().sum()) == 0 for m in model)


@pytest.mark.parametrize("name", ["vgg6", "resnet12", "cifar_resnet20"])
def test_the_seed_decides_the_weights(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = create_model(name, 10, image_size=8, width=0.125)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
