"""VGG: the published lists, sizes and parameter counts, names, and the errors."""

import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.vggs import (
    VGG,
    mnist_net,
    vgg,
    vgg6,
    vgg9,
    vgg9_bntt,
    vgg11,
    vgg11_bntt,
    vgg16,
)

# Written down from the papers' tables: c = convolution, A = pool, then the head's hidden sizes.
PUBLISHED = {
    "vgg6": (vgg6, "64 A 128 128 A", [4096, 4096]),
    "vgg9": (vgg9, "64 A 128 256 A 256 512 A 512 A 512", [4096, 4096]),
    "vgg11": (vgg11, "64 A 128 256 A 512 512 A 512 A 512 512", [4096, 4096]),
    "vgg16": (
        vgg16,
        "64 64 A 128 128 A 256 256 256 A 512 512 512 A 512 512 512",
        [4096, 4096],
    ),
    "vgg9_bntt": (vgg9_bntt, "64 64 A 128 128 A 256 256 256 A", [1024]),
    "vgg11_bntt": (vgg11_bntt, "64 A 128 A 256 256 A 512 512 A 512 512", [4096]),
}


def read_back(net: VGG) -> str:
    """The list of channels and pools that a built network has."""
    words = []
    for module in net.features:
        if isinstance(module, nn.Conv2d):
            words.append(str(module.out_channels))
        elif isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
            words.append("A")
    return " ".join(words)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_lists(name: str) -> None:
    build, layers, head = PUBLISHED[name]
    with torch.device("meta"):  # full size, no memory
        net = build(10)
    linears = [module for module in net.classifier if isinstance(module, nn.Linear)]
    assert read_back(net) == layers
    assert [module.out_features for module in linears] == [*head, 10]
    assert not any(
        name.endswith("bias") and "norm" not in name for name, _ in net.named_parameters()
    )
    assert all(
        isinstance(m, nn.AvgPool2d)
        for n, m in net.features.named_children()
        if "pool" in n and n != "global_pool"
    )


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        # 9·(3·64 + 64·128 + 128·128) + 128·8·8·4096 + 4096² + 4096·10
        (vgg6, 9 * 24_768 + 8192 * 4096 + 4096 * 4096 + 40_960),
        # 9·(3·64 + 64² + 64·128 + 128² + 128·256 + 2·256² + 256·512 + 5·512²) + the head on 2×2×512
        (vgg16, 9 * 1_634_496 + 2048 * 4096 + 4096 * 4096 + 40_960),
        # 9·(3·64 + 64² + 64·128 + 128² + 128·256 + 2·256²) + 4·4·256·1024 + 1024·10, norms 2 each
        (vgg9_bntt, 9 * 192_704 + 4096 * 1024 + 10_240 + 2 * (128 + 256 + 768 + 1024)),
        # 9·(3·64 + 64·128 + 128·256 + 256² + 256·512 + 3·512²) + 512·4096 + 4096·10, norms
        (vgg11_bntt, 9 * 1_024_192 + 512 * 4096 + 40_960 + 2 * (64 + 128 + 512 + 2048 + 4096)),
    ],
)
def test_parameter_counts_by_hand(build: object, expected: int) -> None:
    with torch.device("meta"):
        assert count(build(10)) == expected  # type: ignore[operator]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("image_size", [16, 28])
def test_shapes(name: str, image_size: int) -> None:
    build, _, head = PUBLISHED[name]
    net = build(7, in_channels=1, image_size=image_size, width=1 / 32)
    assert net(torch.zeros(3, 1, image_size, image_size)).shape == (3, 7)
    assert net.features.conv1.out_channels == 2
    assert net.classifier.linear1.out_features == head[0] // 32


@pytest.mark.parametrize("build", [vgg6, vgg9_bntt])
def test_digits_of_8_pixels(build: object) -> None:
    net = build(10, in_channels=1, image_size=8, width=0.125)  # type: ignore[operator]
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("build", [vgg9, vgg11, vgg16, vgg11_bntt])
def test_more_pools_than_pixels(build: object) -> None:
    with pytest.raises(
        LeanspikeError,
        match=r"^4 pools do not fit an image of 8 pixels, at most 3 do; give an image_size of 16",
    ):
        build(10, in_channels=1, image_size=8, width=0.125)  # type: ignore[operator]


def test_names_do_not_move_with_norm_and_dropout() -> None:
    def names(batch_norm: bool, dropout: float) -> set[str]:
        net = vgg(
            layers=(4, "A", 8, 8),
            head=(16,),
            image_size=4,
            batch_norm=batch_norm,
            dropout_conv=dropout,
            dropout_linear=dropout,
        )
        return {name for name, _ in net.named_modules()}

    plain, full = names(False, 0.0), names(True, 0.5)
    assert plain < full
    assert full - plain == {
        *("features.norm1", "features.norm2", "features.norm3", "classifier.norm1"),
        *("features.dropout2", "features.dropout3", "classifier.dropout1"),
    }


def test_order_in_a_block_and_dropout_only_where_no_pool_follows() -> None:
    net = vgg(layers=(4, "A", 8), head=(16,), image_size=4, batch_norm=True)
    assert list(dict(net.features.named_children())) == [
        *("conv1", "norm1", "relu1", "pool1"),
        *("conv2", "norm2", "relu2", "dropout2"),
    ]
    assert list(dict(net.classifier.named_children())) == [
        *("linear1", "norm1", "relu1", "dropout1", "linear2"),
    ]
    assert net.features.dropout2.p == 0.2
    assert net.classifier.dropout1.p == 0.5


def test_pools_head_bias_and_global_pool() -> None:
    net = vgg(5, layers=[4, "A", 8], head=[], pool="max", bias=True, global_pool=True, image_size=9)
    assert isinstance(net.features.pool1, nn.MaxPool2d)
    assert net.classifier.linear1.in_features == 8
    assert net.features.conv2.bias is not None
    assert net.classifier.linear1.bias is not None
    assert net(torch.zeros(2, 3, 9, 9)).shape == (2, 5)


def test_the_forward_pass_is_what_the_modules_say() -> None:
    torch.manual_seed(0)
    net = vgg(3, layers=(4, "A", 6), head=(5,), image_size=6).eval()
    x = torch.randn(2, 3, 6, 6)
    conv = torch.nn.functional.conv2d
    h = conv(x, net.features.conv1.weight, padding=1).clamp(min=0)
    h = h.reshape(2, 4, 3, 2, 3, 2).mean((3, 5))
    h = conv(h, net.features.conv2.weight, padding=1).clamp(min=0)
    h = (h.reshape(2, -1) @ net.classifier.linear1.weight.T).clamp(min=0)
    torch.testing.assert_close(net(x), h @ net.classifier.linear2.weight.T)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (4, "M")}, "layers holds 'M'; give numbers of channels, and 'A' for a pool"),
        ({"layers": (4, 0)}, "channels is 0; give a whole number of 1 or more"),
        ({"layers": ("A",)}, "layers is ['A']; give at least one number of channels"),
        ({"layers": ()}, "layers is []; give at least one number of channels"),
        ({"pool": "mean"}, "pool is 'mean'; give 'avg' or 'max'"),
        ({"head": (0,)}, "channels is 0; give a whole number of 1 or more"),
        ({"num_classes": 0}, "num_classes is 0; give a whole number of 1 or more"),
        ({"in_channels": 0}, "in_channels is 0; give a whole number of 1 or more"),
        ({"image_size": -4}, "image_size is -4; give a whole number of 1 or more"),
        ({"dropout_conv": 1.0}, "dropout_conv is 1.0; give a probability in [0, 1)"),
        ({"dropout_linear": -0.5}, "dropout_linear is -0.5; give a probability in [0, 1)"),
        ({"width": 0}, "width is 0; give a number above 0 (1 is the published size)"),
    ],
)
def test_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(LeanspikeError) as error:
        vgg(**{"layers": (4, "A"), "head": (8,), "image_size": 8} | options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_the_class_itself_checks_channels_and_head() -> None:
    with pytest.raises(LeanspikeError, match="layers holds 0; give numbers of channels"):
        VGG((4, 0), (), 10)
    with pytest.raises(LeanspikeError, match=r"head\[1\] is 0; give a whole number"):
        VGG((4,), (8, 0), 10)


def test_the_small_network_for_mnist() -> None:
    net = mnist_net(10).eval()
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    weights = 9 * 32 + 9 * 32 * 64 + 64 * 7 * 7 * 128 + 128 * 10
    assert count(net) == weights + 2 * (32 + 64 + 128)
    assert [name for name, _ in net.features.named_children() if "pool" in name] == [
        *("pool1", "pool2"),
    ]
    assert isinstance(net.features.pool1, nn.MaxPool2d)
