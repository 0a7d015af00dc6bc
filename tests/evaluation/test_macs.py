"""Multiply-accumulates by the shapes of operations: those of PyTorch's counter, and more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from leanspike import native
from leanspike.backends import watch_backends
from leanspike.evaluation import MacCounter, Macs
from leanspike.synapse import EventConv2d


def counted(call: nn.Module, x: Tensor) -> MacCounter:
    with MacCounter() as counter:
        call(x).sum().backward()
    return counter


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 4, 5, stride=2, padding=2), (2, 3, 17)),
        (nn.Conv2d(3, 8, (3, 1), stride=(2, 1), padding=1, dilation=(2, 1)), (2, 3, 9, 8)),
        (nn.Conv3d(2, 4, 3, padding=1), (2, 2, 4, 5, 6)),
        (nn.ConvTranspose2d(3, 8, 3, stride=2, padding=1, output_padding=1), (2, 3, 5, 7)),
        (nn.Linear(6, 5), (2, 3, 6)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 3)), (2, 3, 6, 6)),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, nn.Module) else "",
)
@pytest.mark.parametrize("needs_gradient", [True, False])
def test_convolutions_and_linear_layers_count_as_by_pytorch(
    layer: nn.Module, shape: tuple[int, ...], needs_gradient: bool
) -> None:
    x = torch.rand(shape, requires_grad=needs_gradient)
    with FlopCounterMode(display=False) as flops:
        layer(x).sum().backward()
    assert 2 * counted(layer, x).products.macs == flops.get_total_flops() > 0


def test_groups_count_what_their_weights_meet() -> None:
    # PyTorch's counter takes the gradient of the weights for that of one group.
    layer, x = nn.Conv2d(4, 8, 3, groups=2), torch.rand(1, 4, 5, 5, requires_grad=True)
    assert counted(layer, x).products.macs == 3 * (9 * 8 * (2 * 9))


def test_products_with_padding_are_counted_apart() -> None:
    layer, x = nn.Conv2d(1, 2, 3, padding=1, bias=False), torch.zeros(1, 1, 4, 4)
    with MacCounter() as counter:
        layer(x)
    ones = F.conv2d(torch.ones(1, 1, 4, 4), torch.ones(2, 1, 3, 3), padding=1)  # taps inside
    assert counter.products.macs == 2 * 16 * 9
    assert counter.products.padding == 2 * 16 * 9 - int(ones.sum())


def test_a_transposed_convolution_pads_where_it_cuts_off() -> None:
    layer, x = nn.ConvTranspose2d(1, 1, 3, padding=1, bias=False), torch.ones(1, 1, 4, 4)
    nn.init.ones_(layer.weight)
    with MacCounter() as counter:
        y = layer(x)
    assert counter.products.macs - counter.products.padding == int(y.sum())


@pytest.mark.skipif(not native.is_built(), reason="the native library is not built")
def test_event_driven_convolutions_count_as_dense_ones() -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    spikes = (torch.rand(8, 64, 16, 16) < 0.05).float().requires_grad_()
    spikes = spikes.to(memory_format=torch.channels_last)
    with watch_backends() as ran:
        events = counted(EventConv2d.of(layer), spikes)
    assert ran.backend == "native"
    assert events.products == counted(layer, spikes).products


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 2, 5, 4)], ids=["3 axes", "heads"])
def test_attention_counts_scores_and_answers(shape: tuple[int, ...]) -> None:
    q, k, v = (torch.rand(shape, requires_grad=True) for _ in range(3))
    with MacCounter() as counter:
        y = F.scaled_dot_product_attention(q, k, v)
    forward = counter.products.macs
    assert forward == 2 * y.numel() * shape[-2]
    with MacCounter() as counter:
        y.sum().backward()
    assert counter.products.macs in (2 * forward, 5 * forward // 2)  # the scores once more, or kept


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_what_runs_without_gradients_is_told(context: type[torch.no_grad]) -> None:
    layer = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 3))
    x = torch.ones(1, 1, 2, 2)
    with MacCounter() as counter:
        layer(x)
        with context():
            layer(x)
    assert (counter.products.macs, counter.untracked.macs) == (2 * 16, 16)


def test_what_hides_its_products_is_named() -> None:
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    x = torch.rand(1, 3, 4)
    with torch.no_grad(), MacCounter() as counter:
        attention(x, x, x, need_weights=False)
    assert counter.unknown == {"aten._native_multi_head_attention"}


def test_counting_changes_no_bit() -> None:
    layer, x = nn.Conv2d(8, 8, 3, padding=1), torch.rand(4, 8, 8, 8)
    with MacCounter():
        y = layer(x)
    assert torch.equal(y, layer(x))


def test_macs_add_up() -> None:
    parts = [Macs(forward=1, backward=2, teacher=3, validation=4, padding=5)] * 3
    assert Macs.sum(parts) == Macs(forward=3, backward=6, teacher=9, validation=12, padding=15)
    assert Macs.sum(parts).total == 30
