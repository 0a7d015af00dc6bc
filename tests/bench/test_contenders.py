"""The race is fair: everybody computes the same thing."""

import pytest
import torch

from leanspike.bench.contenders import CONTENDERS, LEAK, THRESHOLD, Leanspike, layers, network
from leanspike.bench.result import Heat
from leanspike.bench.worker import work
from leanspike.surgery import spike

HEAT = Heat(train=False, dtype="float32", batch=4, timesteps=3, width=0.125)
SNNS = [name for name in CONTENDERS if name != "ann"]


def reference(delayed_reset=False) -> torch.Tensor:
    """The same network by hand: float64, a loop over timesteps, and in it one over layers."""
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    modules = list(layers(network(0.125).double()))
    membranes, total = {}, 0
    for _ in range(3):
        signal = x
        for place, module in enumerate(modules):
            if isinstance(module, torch.nn.ReLU):
                before = membranes.get(place, torch.zeros(()))
                u = LEAK * before + signal
                if delayed_reset:
                    u = u - THRESHOLD * (before > THRESHOLD)
                signal = (u > THRESHOLD).double()
                membranes[place] = u if delayed_reset else u - THRESHOLD * signal
            else:
                signal = module(signal)
        total = total + signal
    return total.detach()


@pytest.mark.filterwarnings("ignore")  # of other people's imports
@pytest.mark.parametrize("name", SNNS)
def test_every_contender_computes_the_same(name):
    if CONTENDERS[name].version is None:
        pytest.skip(f"{name} is not installed")
    expected = reference(delayed_reset=name == "snntorch")
    torch.testing.assert_close(work(name, HEAT)().double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_trains(name):
    """A training step gives every weight a gradient that is not zero."""
    row = CONTENDERS[name]
    if row.version is None:
        pytest.skip(f"{name} is not installed")
    module = row.build(network(0.125), 3)
    module(torch.randn(4, 3, 32, 32)).pow(2).mean().backward()
    weights = [p for p in module.parameters() if p.ndim > 1]
    assert len(weights) == 9
    assert all(p.grad.abs().sum() > 0 for p in weights)


def test_every_layer_fires_but_not_always():
    """Else the race would be run with silent neurons, or with a constant."""
    snn = Leanspike(network(), 3).snn
    rates = []
    for _, module in snn.neurons():
        module.register_forward_hook(lambda _m, _x, spikes: rates.append(spikes.mean().item()))
    snn(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert len(rates) == 8
    assert all(0.02 < rate < 0.9 for rate in rates), rates


def test_the_network_is_the_papers():
    counted = spike(network(), example_input=torch.zeros(1, 3, 32, 32)).synaptic_nodes()
    assert len(counted) == 9
