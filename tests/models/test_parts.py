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


@pytest.mark.parametrize("name", ["vgg6", "vgg9_bntt", "resnet12"])
def test_linear_layers_start_as_in_diet_snns_code_if_asked_for(name: str) -> None:
    """Also beside BNTT's Xavier gain, which then is the convolutions'."""

    def weights(kind: type[nn.Module], **options: float) -> torch.Tensor:
        torch.manual_seed(0)
        model = create_model(name, 10, width=0.125, **options)
        found = [m.get_parameter("weight") for m in model.modules() if isinstance(m, kind)]
        return torch.cat([weight.detach().flatten() for weight in found])

    normal = weights(nn.Linear, linear_std=0.01)
    assert normal.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(normal.mean().item()) < 0.001
    assert normal.abs().max().item() > 0.03  # a uniform one of that spread ends at 0.0173
    ours = weights(nn.Linear)
    assert abs(ours.std().item() - 0.01) > 0.005
    convolutions = weights(nn.Conv2d, linear_std=0.01).std(), weights(nn.Conv2d).std()
    assert convolutions[0].item() == pytest.approx(convolutions[1].item(), rel=0.05)


@pytest.mark.parametrize("std", [0.0, -0.01, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(LeanspikeError, match=f"linear_std is {std}; give a number above 0, or"):
        initialise_weights(nn.Linear(2, 3), linear_std=std)


@pytest.mark.parametrize("name", ["vgg6", "resnet12", "cifar_resnet20"])
def test_the_seed_decides_the_weights(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = create_model(name, 10, image_size=8, width=0.125)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
