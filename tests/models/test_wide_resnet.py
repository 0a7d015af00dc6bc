"""Wide ResNets: published sizes, the order within a block, and the errors."""

import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.wide_resnet import PreActivationBlock, WideResNet, wrn16_2, wrn28_4


def parameters_by_hand(n: int, k: int) -> int:
    """n blocks a group, widening k, 10 classes: convolutions, two numbers a norm, linear."""
    convs, norms, before = 9 * 3 * 16, 0, 16
    for channels in (16 * k, 32 * k, 64 * k):
        convs += 9 * before * channels + (2 * n - 1) * 9 * channels**2 + before * channels
        norms += 2 * (before + (2 * n - 1) * channels)
        before = channels
    return convs + norms + 2 * before + before * 10 + 10


@pytest.mark.parametrize(
    ("build", "n", "k", "millions"),
    [(wrn16_2, 2, 2, 0.69), (wrn28_4, 4, 4, 5.85)],
)
def test_parameter_counts(build: object, n: int, k: int, millions: float) -> None:
    with torch.device("meta"):
        net = build(10)  # type: ignore[operator]
    found = sum(parameter.numel() for parameter in net.parameters())
    assert found == parameters_by_hand(n, k)
    assert found / 1e6 == pytest.approx(millions, abs=0.005)
    main = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(main) + 3 == 6 * n + 4  # with the three shortcuts, without the linear layer


def test_wrn_28_10_has_the_36_5_million_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        net = WideResNet(28, 10, 10)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(36.5, abs=0.05)


@pytest.mark.parametrize("image_size", [1, 8, 15])
def test_any_image_size(image_size: int) -> None:
    net = wrn16_2(7, in_channels=2, width=0.125).eval()
    assert net(torch.zeros(3, 2, image_size, image_size)).shape == (3, 7)


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (6, 1), (4, 2)])
def test_the_block_activates_before_it_convolves(channels: int, stride: int) -> None:
    torch.manual_seed(0)
    block = PreActivationBlock(4, channels, stride=stride).eval()
    for norm in (block.norm1, block.norm2):
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 4, 6, 6)
    conv = torch.nn.functional.conv2d
    a = block.norm1(x).clamp(min=0)
    hidden = conv(a, block.conv1.weight, padding=1, stride=stride)
    expected = conv(block.norm2(hidden).clamp(min=0), block.conv2.weight, padding=1)
    if (channels, stride) == (4, 1):
        assert block.shortcut is None
        expected = expected + x
    else:
        expected = expected + conv(a, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), expected)


def test_dropout_lies_between_the_convolutions_if_asked() -> None:
    net = wrn16_2(width=0.125, dropout_conv=0.3)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.3] * 6
    assert not any(isinstance(m, nn.Dropout) for m in wrn16_2(width=0.125).modules())
    assert set(net.state_dict()) == set(wrn16_2(width=0.125).state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 18}, "depth is 18; give 6n+4 convolutions: 10, 16, 22, 28, 34, ..."),
        ({"depth": 4}, "depth is 4; give 6n+4 convolutions: 10, 16, 22, 28, 34, ..."),
        ({"widening": 0}, "widening is 0; give a whole number of 1 or more"),
        ({"num_classes": 0}, "num_classes is 0; give a whole number of 1 or more"),
        ({"in_channels": 0}, "in_channels is 0; give a whole number of 1 or more"),
        ({"width": 0}, "width is 0; give a number above 0 (1 is the published size)"),
        ({"dropout_conv": 1.0}, "dropout_conv is 1.0; give a probability in [0, 1)"),
    ],
)
def test_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(LeanspikeError) as error:
        WideResNet(**{"depth": 10, "widening": 1} | options)  # type: ignore[arg-type]
    assert str(error.value) == message
