"""Layers whose mean output is known: their gradients are those of the layer at the mean."""

import pytest
import torch
from torch import nn

from leanspike.synapse import step_around
from leanspike.synapse.of_mean import follows_mean, output_of_mean

LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 6)),
    "linear over rows, without bias": (nn.Linear(6, 4, bias=False), (3, 5, 6)),
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 9)),
    "conv2d": (nn.Conv2d(4, 6, 3, padding=(1, 2), dilation=2, bias=False), (3, 4, 8, 9)),
    "conv3d": (nn.Conv3d(2, 3, 2), (3, 2, 4, 5, 4)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1), (3, 4, 5, 6)),
}


def gradients(answer, layer, x_N, grad):
    y_N = answer(x_N)
    return y_N, torch.autograd.grad(y_N, (x_N, *layer.parameters()), grad(y_N))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_are_the_layers_and_the_value_is_the_one_given(name, dtype):
    layer, shape = LAYERS[name]
    layer = layer.to(torch.float32 if dtype == torch.bfloat16 else dtype)
    x_N = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(layer.weight.dtype)
    x_N.requires_grad_()
    assert follows_mean(layer, x_N)

    def grad(y_N):
        return torch.randn(y_N.shape, generator=torch.Generator().manual_seed(1)).to(y_N.dtype)

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected = gradients(layer, layer, x_N, grad)
        value = expected[0].detach() + 1
        found = gradients(lambda x_N: output_of_mean(layer, x_N, value), layer, x_N, grad)
    assert torch.equal(found[0], value)
    rounding = 1e-9 if dtype == torch.float64 else 2**-6
    for a, b in zip(found[1], expected[1], strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=rounding, atol=rounding * float(b.abs().max()))


def test_what_is_frozen_gets_no_gradient():
    layer = nn.Conv2d(2, 3, 1)
    layer.weight.requires_grad_(False)
    x_N = torch.randn(1, 2, 2, 2)
    output_of_mean(layer, x_N, torch.zeros(1, 3, 2, 2)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad.tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 3, padding="same"), nn.ReLU()])
def test_others_are_left_alone(layer):
    assert not follows_mean(layer, torch.zeros(1, 2, 5, 5))


def test_a_layer_that_is_stepped_around_is_left_alone():
    layer, x_N = nn.Conv2d(4, 8, 1, stride=2), torch.zeros(2, 4, 8, 8)
    x_N = x_N.to(memory_format=torch.channels_last)
    before = follows_mean(layer, x_N)
    step_around(layer)
    assert before
    assert follows_mean(layer, x_N) == ("_conv_forward" not in vars(layer))
