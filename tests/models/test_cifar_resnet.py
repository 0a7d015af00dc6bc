"""He et al.'s CIFAR ResNets: names, counts, the shortcut, and the published weights on real images.

The tests on published weights read ``$LEANSPIKE_DATA``: ``resnet-cifar10/*.th`` and
``cifar-10-batches-bin/test_batch.bin`` (records of 1 label byte and 3072 pixel bytes, CHW).
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.cifar_resnet import (
    CifarBlock,
    CifarResNet,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
)
from leanspike.models.published import load_published

PUBLISHED = [
    (cifar_resnet20, "resnet20-12fca82f.th", 0.9173),
    (cifar_resnet32, "resnet32-d509ac18.th", 0.9263),
]


def parameters_by_hand(n: int) -> int:
    """n blocks a stage, 10 classes: convolutions, two numbers per channel and norm, linear."""
    convs = 9 * (3 * 16 + 2 * n * 16**2 + 16 * 32 + (2 * n - 1) * 32**2)
    convs += 9 * (32 * 64 + (2 * n - 1) * 64**2)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    return convs + norms + 64 * 10 + 10


@pytest.mark.parametrize(
    ("build", "n", "millions"),
    [  # the last column is table 6 of He et al. 2016
        (cifar_resnet20, 3, 0.27),
        (cifar_resnet32, 5, 0.46),
        (cifar_resnet44, 7, 0.66),
        (cifar_resnet56, 9, 0.85),
    ],
)
def test_parameter_counts(build: object, n: int, millions: float) -> None:
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in build(10).parameters())  # type: ignore[operator]
    assert found == parameters_by_hand(n)
    assert round(found / 1e6, 2) == pytest.approx(millions, abs=0.011)


def test_resnet20_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in cifar_resnet20().parameters()) == 269_722


def test_names_are_those_of_the_published_weights() -> None:
    names = set(cifar_resnet20(width=0.125).state_dict())
    block = {f"conv{i}.weight" for i in (1, 2)} | {
        f"bn{i}.{what}"
        for i in (1, 2)
        for what in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    stem = {name for name in block if name.startswith(("conv1", "bn1"))}
    blocks = {f"layer{i}.{j}.{name}" for i in (1, 2, 3) for j in (0, 1, 2) for name in block}
    assert names == stem | blocks | {"linear.weight", "linear.bias"}


@pytest.mark.parametrize("image_size", [1, 8, 15])
def test_any_image_size(image_size: int) -> None:
    net = cifar_resnet20(7, in_channels=2, width=0.125).eval()
    assert net(torch.zeros(3, 2, image_size, image_size)).shape == (3, 7)


@pytest.mark.parametrize(("channels", "before"), [(6, 1), (9, 2)])
def test_the_shortcut_takes_every_second_pixel_and_adds_empty_channels(
    channels: int, before: int
) -> None:
    block = CifarBlock(4, channels, stride=2).eval()
    for conv in (block.conv1, block.conv2):
        nn.init.zeros_(conv.weight)  # the residual is 0: what is left is the shortcut
    x = torch.rand(2, 4, 5, 5)
    expected = torch.zeros(2, channels, 3, 3)
    for c in range(4):
        for i in range(3):
            for j in range(3):
                expected[:, before + c, i, j] = x[:, c, 2 * i, 2 * j]
    assert torch.equal(block(x), expected)


def test_a_block_of_one_shape_adds_its_input() -> None:
    torch.manual_seed(0)
    block = CifarBlock(4, 4).eval()
    x = torch.randn(2, 4, 5, 5)
    hidden = block.bn1(block.conv1(x)).clamp(min=0)
    torch.testing.assert_close(block(x), (block.bn2(block.conv2(hidden)) + x).clamp(min=0))


@pytest.mark.parametrize("depth", [2, 18, 21, 52])
def test_impossible_depths(depth: int) -> None:
    with pytest.raises(LeanspikeError, match=f"^depth is {depth}; give 6n\\+2 layers: 8, 14"):
        CifarResNet(depth)


@pytest.mark.parametrize("option", ["num_classes", "in_channels"])
def test_impossible_counts(option: str) -> None:
    with pytest.raises(LeanspikeError, match=f"^{option} is 0; give a whole number of 1 or more"):
        cifar_resnet20(**{option: 0})


@pytest.fixture
def data() -> Path:
    """The folder of real data, if this machine has one."""
    folder = Path(os.environ.get("LEANSPIKE_DATA", "nowhere"))
    for needed in ("resnet-cifar10", "cifar-10-batches-bin/test_batch.bin"):
        if not (folder / needed).exists():
            pytest.skip(f"no {needed} in the folder that LEANSPIKE_DATA names")
    return folder


def accuracy(net: nn.Module, data: Path, images: int) -> float:
    """Fraction of the first ``images`` test images that the network names correctly."""
    file = data / "cifar-10-batches-bin" / "test_batch.bin"
    records = torch.from_numpy(np.fromfile(file, np.uint8, images * 3073)).view(-1, 3073)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    correct = 0
    with torch.inference_mode():
        for batch in records.split(256):
            pixels = batch[:, 1:].reshape(-1, 3, 32, 32) / 255
            correct += int((net((pixels - mean) / std).argmax(1) == batch[:, 0]).sum())
    return correct / len(records)


@pytest.mark.parametrize(("build", "file", "published"), PUBLISHED)
def test_published_weights_on_some_images(
    data: Path, build: object, file: str, published: float
) -> None:
    net = build().eval()  # type: ignore[operator]
    load_published(net, data / "resnet-cifar10" / file)
    assert accuracy(net, data, 256) == pytest.approx(published, abs=0.06)  # 3.5 standard errors


@pytest.mark.slow
@pytest.mark.parametrize(("build", "file", "published"), PUBLISHED)
def test_published_weights_on_all_images(
    data: Path, build: object, file: str, published: float
) -> None:
    net = build().eval()  # type: ignore[operator]
    load_published(net, data / "resnet-cifar10" / file)
    assert accuracy(net, data, 10_000) == pytest.approx(published, abs=0.0005)
