"""DIET-SNN's ResNets: structure, sizes, parameter counts, and the errors."""

import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.resnet import BasicBlock, ResNet, ResNet18, resnet12, resnet20


def parameters_by_hand(blocks: int) -> int:
    """Weights of the network at full size for 3×32×32 images and 10 classes, no norm, no bias."""
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 64)
    first = blocks * 2 * 9 * 64 * 64
    others = sum(
        9 * c * 2 * c + c * 2 * c + (2 * blocks - 1) * 9 * (2 * c) ** 2 for c in (64, 128, 256)
    )
    return stem + first + others + 512 * 2 * 2 * 10


@pytest.mark.parametrize(("build", "blocks"), [(resnet12, 1), (resnet20, 2)])
def test_parameter_counts_by_hand(build: object, blocks: int) -> None:
    with torch.device("meta"):
        net = build(10)  # type: ignore[operator]
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters_by_hand(blocks)
    # 12 and 20 count the layers with weights on the main path
    main = [
        m
        for n, m in net.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n
    ]
    assert len(main) == 4 + 8 * blocks


@pytest.mark.parametrize("build", [resnet12, resnet20])
@pytest.mark.parametrize("image_size", [2, 8, 17, 28])
def test_shapes(build: object, image_size: int) -> None:
    net = build(7, in_channels=1, image_size=image_size, width=1 / 32)  # type: ignore[operator]
    assert net(torch.zeros(3, 1, image_size, image_size)).shape == (3, 7)


def test_the_stem_and_its_dropout() -> None:
    net = resnet12(width=0.125)
    assert list(dict(net.stem.named_children())) == [
        *("conv1", "relu1", "dropout1", "conv2", "relu2", "dropout2", "conv3", "relu3", "pool"),
    ]
    assert isinstance(net.stem.pool, nn.AvgPool2d)
    assert list(dict(net.layer1[0].residual.named_children())) == [
        *("conv1", "relu1", "dropout1", "conv2"),
    ]


def test_norms_follow_every_convolution_if_asked() -> None:
    net = resnet20(width=0.125, batch_norm=True, dropout_conv=0.0)
    convs = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert convs == norms == 3 + 16 + 3
    assert list(dict(net.layer2[0].shortcut.named_children())) == ["conv", "norm"]
    assert not any(isinstance(module, nn.Dropout) for module in net.modules())


def test_shortcuts_are_convolutions_only_where_the_shape_changes() -> None:
    net = resnet20(width=0.125)
    kinds = {
        name: isinstance(module.shortcut, nn.Identity)
        for name, module in net.named_modules()
        if isinstance(module, BasicBlock)
    }
    changes = {"layer2.0", "layer3.0", "layer4.0"}
    assert kinds == {
        f"layer{i}.{j}": f"layer{i}.{j}" not in changes for i in (1, 2, 3, 4) for j in (0, 1)
    }
    assert net.layer3[0].shortcut.conv.kernel_size == (1, 1)
    assert net.layer3[0].shortcut.conv.stride == (2, 2)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_block_adds_before_the_second_activation(stride: int) -> None:
    torch.manual_seed(0)
    block = BasicBlock(3, 5, stride=stride)
    x = torch.randn(2, 3, 6, 6)
    conv = torch.nn.functional.conv2d
    hidden = conv(x, block.residual.conv1.weight, padding=1, stride=stride).clamp(min=0)
    total = conv(hidden, block.residual.conv2.weight, padding=1)
    total = total + conv(x, block.shortcut.conv.weight, stride=stride)
    torch.testing.assert_close(block(x), total.clamp(min=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 1}, "image_size is 1; the stem's pool needs 2 or more"),
        ({"image_size": 0}, "image_size is 0; give a whole number of 1 or more"),
        ({"num_classes": 0}, "num_classes is 0; give a whole number of 1 or more"),
        ({"in_channels": 0}, "in_channels is 0; give a whole number of 1 or more"),
        ({"dropout_conv": 1.5}, "dropout_conv is 1.5; give a probability in [0, 1)"),
        ({"blocks": (1, 0, 1, 1)}, "blocks[1] is 0; give a whole number of 1 or more"),
        ({"width": -1}, "width is -1; give a number above 0 (1 is the published size)"),
    ],
)
def test_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(LeanspikeError) as error:
        ResNet(**{"blocks": (1, 1, 1, 1)} | options)  # type: ignore[arg-type]
    assert str(error.value) == message


class TestResNet18:
    """He et al.'s ResNet-18 in the form for small images."""

    def test_parameter_count(self) -> None:
        with torch.device("meta"):
            net = ResNet18(10)
        stages = 9 * (4 * 64**2 + 64 * 128 + 128 * 256 + 256 * 512)
        stages += 27 * (128**2 + 256**2 + 512**2) + 64 * 128 + 128 * 256 + 256 * 512
        norms = 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512))
        found = sum(parameter.numel() for parameter in net.parameters())
        assert found == 9 * 3 * 64 + stages + norms + 512 * 10 + 10
        assert found == 11_173_962  # 11.17 M

    def test_its_blocks_are_torchvisions(self) -> None:
        models = pytest.importorskip("torchvision.models")
        with torch.device("meta"):
            ours, theirs = ResNet18(1000), models.resnet18(weights=None)
        stem = {"ours": 9 * 3 * 64, "theirs": 49 * 3 * 64}
        counts = [sum(p.numel() for p in net.parameters()) for net in (ours, theirs)]
        assert counts[0] - stem["ours"] == counts[1] - stem["theirs"]

    @pytest.mark.parametrize("image_size", [1, 15, 32])
    def test_any_image_size(self, image_size: int) -> None:
        net = ResNet18(7, in_channels=2, width=1 / 32).eval()
        assert net(torch.zeros(3, 2, image_size, image_size)).shape == (3, 7)

    def test_nothing_is_pooled_before_the_stages(self) -> None:
        net = ResNet18(width=1 / 32).eval()
        assert list(dict(net.stem.named_children())) == ["conv1", "norm1", "relu1"]
        assert net.layer1(net.stem(torch.zeros(1, 3, 32, 32))).shape[2:] == (32, 32)

    def test_errors(self) -> None:
        with pytest.raises(LeanspikeError, match=r"^num_classes is 0; give a whole number"):
            ResNet18(0)
        with pytest.raises(LeanspikeError, match=r"^width is 0; give a number above 0"):
            ResNet18(width=0)
