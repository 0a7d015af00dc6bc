"""The network of airbench94: its parts, its first weights, and what can be done with its SNN."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from leanspike import calibrate, compile_engine, evaluate, load, save, spike
from leanspike.errors import LeanspikeError
from leanspike.models import Airbench94, create_model
from leanspike.saved import ModelSpec
from leanspike.train import create_optimizer

MACS_BY_HAND = (
    *(31**2 * 24 * 3 * 4, 31**2 * 64 * 24 * 9, 15**2 * 64 * 64 * 9),
    *(15**2 * 256 * 64 * 9, 7**2 * 256 * 256 * 9, 7**2 * 256 * 256 * 9, 3**2 * 256 * 256 * 9),
    256 * 10,
)


def small(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return create_model("airbench94", 5, width=0.125, **options)


def images(count: int = 12, channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def test_its_operations_are_counted_by_hand() -> None:
    """118.1 million multiply-accumulates an image, the products with padding counted."""
    assert round(sum(MACS_BY_HAND) / 1e6, 1) == 118.1
    net = create_model("airbench94", 10).eval()
    snn = spike(net, example_input=images(1), timesteps=1)
    rows = evaluate(snn, [(images(1), torch.zeros(1).long())]).operations
    assert [row.dense_macs for row in rows] == list(MACS_BY_HAND)
    assert rows[0].static  # the images are convolved once, not at each step


def test_its_modules_stand_in_order() -> None:
    net = create_model("airbench94", 10)
    conv = [f"{name}{number}" for number in (2, 3) for name in ("conv", "norm", "relu")]
    first = ["conv1", "relu1", conv[0], "pool1", *conv[1:]]
    assert [name for name, _ in net.features.named_children()][:9] == first
    kinds = [type(module).__name__ for module in net.features]
    group = ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds == ["Conv2d", "ReLU", *group * 3, "MaxPool2d"]
    widths = [module.out_channels for module in net.features if isinstance(module, nn.Conv2d)]
    assert widths == [24, 64, 64, 256, 256, 256, 256]
    pools = [module.kernel_size for module in net.features if isinstance(module, nn.MaxPool2d)]
    assert pools == [2, 2, 2, 3]
    biases, shifts, convolutions = 24, sum(widths[1:]), sum(9 * i * o for i, o in pairwise(widths))
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert trained == biases + shifts + convolutions + 256 * 10


def test_what_learns_and_what_stays() -> None:
    net = small()
    frozen = {name for name, value in net.named_parameters() if not value.requires_grad}
    norms = {f"features.norm{number}.weight" for number in range(2, 8)}
    assert frozen == {"features.conv1.weight", *norms}
    assert small(frozen_first=False).features.conv1.weight.requires_grad
    assert not small().features.conv1.bias.any()
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("widths", [(64, 64, 64), (64, 16, 256)])
def test_convolutions_begin_as_the_identity_in_their_first_filters(
    widths: tuple[int, int, int],
) -> None:
    net = small(widths=widths)
    for name in ("conv2", "conv3", "conv4", "conv6"):
        conv = net.features.get_submodule(name)
        x = torch.randn(2, conv.in_channels, 5, 5)
        same = min(conv.in_channels, conv.out_channels)
        assert torch.equal(conv(x)[:, :same], x[:, :same])
        others = conv.weight[same:]
        bound = (9 * conv.in_channels) ** -0.5
        assert not len(others) or 0.9 * bound < others.abs().max().item() <= bound


def test_the_answers_scale_is_a_factor() -> None:
    x = images()
    nine, one = (small(answer_scale=scale).eval()(x) for scale in (1 / 9, 1.0))
    torch.testing.assert_close(9 * nine, one)


@pytest.mark.parametrize(("size", "channels"), [(25, 1), (28, 1), (32, 3), (64, 2)])
def test_other_images_fit(size: int, channels: int) -> None:
    net = small(in_channels=channels, image_size=size)
    assert net(images(2, channels, size)).shape == (2, 5)
    assert net.features.conv1.out_channels == 8 * channels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 24}, "image_size is 24, and the last pool of airbench94 takes no image be"),
        ({"image_size": 8}, "below 25 pixels; give images of 25 or more, or take another network"),
        ({"widths": [64, 256]}, r"widths is \[64, 256\]; give 3 numbers of channels"),
        ({"widths": [64, 0, 8]}, "channels is 0; give a whole number of 1 or more"),
        ({"answer_scale": 0.0}, "answer_scale is 0.0; give a number above 0"),
        ({"norm_eps": float("nan")}, "norm_eps is nan; give a number above 0"),
        ({"in_channels": 0}, "in_channels is 0; give a whole number of 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(LeanspikeError, match=message):
        small(**options)


def test_the_first_layer_is_drawn_or_whitens() -> None:
    one, two = small(), small()
    assert torch.equal(one.features.conv1.weight, two.features.conv1.weight)
    drawn = one.features.conv1.weight.clone()
    one.features.conv1.bias.data.fill_(1)
    one.start_from(images())
    assert not torch.equal(one.features.conv1.weight, drawn)
    assert not one.features.conv1.bias.any()
    filters = one.features.conv1.weight
    assert torch.equal(filters[:12], -filters[12:])
    with pytest.raises(LeanspikeError, match="x has 1 channels, and the network takes 3; give"):
        one.start_from(images(channels=1))


@pytest.fixture(scope="module")
def snn() -> nn.Module:
    net = small().eval()
    net.start_from(images())
    found = spike(net, example_input=images(1), timesteps=4)
    calibrate(found, images())
    return found


def test_its_snn_is_compiled_saved_and_loaded(snn: nn.Module, tmp_path: Path) -> None:
    x = images()
    with torch.no_grad():
        expected = snn(x)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(compile_engine(snn, weights="f32")(x), expected)
    spec = ModelSpec(
        name="airbench94",
        num_classes=5,
        in_channels=3,
        image_size=32,
        options={"width": 0.125},
    )
    again = load(save(snn, tmp_path, spec))
    assert torch.equal(again(x), snn(x))
    for (name, ours), (_, theirs) in zip(
        snn.named_parameters(), again.named_parameters(), strict=True
    ):
        assert ours.requires_grad == theirs.requires_grad, name


@pytest.mark.parametrize("norm", ["keep", "bntt"])
def test_what_is_frozen_stays_in_the_snns_training(norm: str) -> None:
    net = small().eval()
    net.start_from(images())
    found = spike(net, example_input=images(1), timesteps=2, norm=norm)
    before = {name: value.clone() for name, value in found.state_dict().items()}
    found.train()
    optimizer = create_optimizer(found, learning_rate=0.1)
    found(images()).square().sum().backward()
    optimizer.step()
    after = found.state_dict()
    assert torch.equal(before["features.conv1.weight"], after["features.conv1.weight"])
    assert not torch.equal(before["classifier.linear1.weight"], after["classifier.linear1.weight"])


def test_it_learns_and_so_does_its_snn() -> None:
    """Four classes by their colour, from which a network without gradients learns nothing."""
    labels = torch.arange(32) % 4
    x = images(32) * 0.5
    x[:, :2] += torch.stack((labels % 2 * 2.0 - 1, labels // 2 * 2.0 - 1), 1)[..., None, None]
    ann = small()
    ann.start_from(x)
    losses = _losses(ann, x, labels, 24)
    assert losses[-1] < 0.2 * losses[0]
    found = spike(ann.eval(), example_input=x[:1], timesteps=2)
    calibrate(found, x)
    losses = _losses(found, x, labels, 16)
    assert losses[-1] < 0.3 * losses[0]


def _losses(network: nn.Module, x: Tensor, labels: Tensor, steps: int) -> list[float]:
    network.train()
    optimizer = create_optimizer(network, learning_rate=1.0)
    losses = []
    for _ in range(steps):
        out = network(x)
        loss = nn.functional.cross_entropy(out if out.dim() == 2 else out[-1], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_norms_of_silent_channels_have_no_gradients_of_a_million() -> None:
    """Why ε is not the 1e-12 of the paper's code: spikes may fail to reach a channel."""
    largest = {}
    for eps in (1e-12, 1e-5):
        norm = Airbench94(2, width=0.125, norm_eps=eps).features.norm2
        silent = torch.zeros(4, 8, 3, 3, requires_grad=True)
        (norm(silent) * images(4, 8, 3)).sum().backward()
        assert silent.grad is not None
        largest[eps] = silent.grad.abs().max().item()
    assert largest[1e-12] > 1e6
    assert largest[1e-5] < 1e3
