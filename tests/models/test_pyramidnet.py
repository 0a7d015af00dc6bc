"""PyramidNets: the paper's sizes, the ramp of channels, the block, and the errors."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.pyramidnet import PyramidBlock, PyramidNet, pyramidnet18


@pytest.mark.parametrize(("alpha", "millions"), [(48, 1.7), (84, 3.8), (270, 28.3)])
def test_pyramidnet_110_has_the_published_number_of_parameters(alpha: int, millions: float) -> None:
    """Table 4 of Han et al. 2017."""
    with torch.device("meta"):
        net = PyramidNet((18, 18, 18), 10, alpha=alpha)
    found = sum(parameter.numel() for parameter in net.parameters())
    assert found / 1e6 == pytest.approx(millions, rel=0.05)  # norms seem not to be in theirs


def test_parameters_of_the_18_layers_by_hand() -> None:
    with torch.device("meta"):
        net = pyramidnet18(10)
    widths = [16, 50, 84, 117, 151, 185, 218, 252, 286]
    assert [block.conv1.out_channels for block in net.blocks] == widths[1:]
    convs = 9 * (3 * 16 + sum(c * (b + c) for b, c in pairwise(widths)))
    norms = 2 * (16 + sum(b + 2 * c for b, c in pairwise(widths)) + 286)
    assert sum(p.numel() for p in net.parameters()) == convs + norms + 286 * 10 + 10
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 18


def test_the_ramp_ends_at_16_plus_alpha_whatever_is_rounded_on_the_way() -> None:
    for alpha in (0, 1, 7, 48, 100.4):
        net = PyramidNet((2, 3), 10, alpha=alpha)
        widths = [block.conv2.out_channels for block in net.blocks]
        assert widths[-1] == math.floor(16 + alpha + 0.5)
        assert widths == sorted(widths)


@pytest.mark.parametrize("image_size", [1, 8, 15])
def test_any_image_size(image_size: int) -> None:
    net = pyramidnet18(7, in_channels=2, width=0.125).eval()
    assert net(torch.zeros(3, 2, image_size, image_size)).shape == (3, 7)


def test_the_map_is_halved_where_a_stage_begins() -> None:
    net = PyramidNet((1, 2, 3), 10, alpha=6)
    assert [block.conv1.stride[0] for block in net.blocks] == [1, 2, 1, 2, 1, 1]


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (7, 1), (7, 2)])
def test_the_block_and_its_shortcut(channels: int, stride: int) -> None:
    torch.manual_seed(0)
    block = PyramidBlock(4, channels, stride=stride).eval()
    for norm in (block.norm1, block.norm2, block.norm3):
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 4, 6, 6)
    conv = torch.nn.functional.conv2d
    hidden = conv(block.norm1(x), block.conv1.weight, padding=1, stride=stride)
    expected = block.norm3(conv(block.norm2(hidden).clamp(min=0), block.conv2.weight, padding=1))
    shortcut = x.reshape(2, 4, 6 // stride, stride, 6 // stride, stride).mean((3, 5))
    expected[:, :4] += shortcut
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": ()}, "stages is 0; give a whole number of 1 or more"),
        ({"blocks": (1, 0)}, "blocks[1] is 0; give a whole number of 1 or more"),
        ({"alpha": -1}, "alpha is -1; give the channels to add, 0 or more"),
        ({"alpha": math.nan}, "alpha is nan; give the channels to add, 0 or more"),
        ({"num_classes": 0}, "num_classes is 0; give a whole number of 1 or more"),
        ({"in_channels": 0}, "in_channels is 0; give a whole number of 1 or more"),
        ({"width": -1}, "width is -1; give a number above 0 (1 is the published size)"),
    ],
)
def test_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(LeanspikeError) as error:
        PyramidNet(**{"blocks": (1, 1)} | options)  # type: ignore[arg-type]
    assert str(error.value) == message
