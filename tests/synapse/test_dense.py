"""Layers that convolve faster while a network trains."""

import copy
import pickle

import pytest
import torch
from torch import nn

from leanspike import native
from leanspike.backends import use_backend, watch_backends
from leanspike.synapse import EventConv2d, convolving_faster
from leanspike.synapse.dense import is_learning

if not native.is_built() or len(native.available_instructions()) < 2:
    pytest.skip("the native library has no vector instructions", allow_module_level=True)


class Own(nn.Conv2d):
    """A user's layer, with a convolution of its own."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 2 * weight, bias)


def network(**how):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, **how))


def ran(module, x):
    with watch_backends() as found:
        module(x)
    return found.names


X = torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def test_layers_are_faster_inside_and_as_before_outside():
    module = network()
    before, layer = dict(vars(module[0])), module[0]
    with convolving_faster(module):
        assert ran(module, X) == {"native"}
        assert type(layer) is nn.Conv2d
        torch.testing.assert_close(module(X), nn.Conv2d.forward(layer, X), rtol=1e-4, atol=1e-4)
    assert vars(layer) == before
    assert ran(module, X) == set()


def test_they_are_as_before_after_an_error():
    module = network()
    with pytest.raises(ZeroDivisionError), convolving_faster(module):
        raise ZeroDivisionError
    assert not is_learning(module[0])


def test_the_reference_leaves_them_to_pytorch():
    module = network()
    expected = module(X)
    with convolving_faster(module), use_backend("reference"):
        assert torch.equal(module(X), expected)


@pytest.mark.parametrize(
    "how", [{"padding_mode": "circular"}, {"stride": 2}, {"groups": 2}, {"dilation": 2}]
)
def test_other_convolutions_are_pytorchs(how):
    module = network(**how)
    expected = module(X)
    with convolving_faster(module):
        assert torch.equal(module(X), expected)


def test_a_users_own_convolution_is_his():
    module = nn.Sequential(Own(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding="same"))
    expected = module(X)
    with convolving_faster(module):
        assert torch.equal(module(X), expected)


def test_autocast_and_compilation_are_pytorchs():
    module = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = module(X)
    with convolving_faster(module):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module(X), expected)
        assert torch.equal(torch.func.vmap(module)(X[None])[0], network()(X))


def test_copies_made_inside_have_their_own_weights():
    module = network()
    with convolving_faster(module):
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            torch.nn.init.zeros_(other[0].weight)
            torch.nn.init.zeros_(other[0].bias)
            assert not other(X).any()
        assert module(X).any()


def test_busy_inputs_of_an_event_driven_layer_are_dense():
    layer = EventConv2d.of(nn.Conv2d(64, 64, 3, padding=1))
    spikes = (torch.rand(8, 64, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    assert ran(layer, spikes) == set()
    with convolving_faster(layer):
        assert ran(layer, spikes) == {"native"}
    torch.testing.assert_close(layer(spikes), nn.Conv2d.forward(layer, spikes), rtol=0, atol=0)
