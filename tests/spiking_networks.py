"""The networks of the tests with every kind of neuron, spiking: what laws are held for."""

from copy import deepcopy

from torch import nn

from leanspike import LIF, Arctan, Sigmoid, SpikingNetwork, calibrate, spike
from leanspike.neuron import create_neuron
from leanspike.temporal import temporal_norm
from networks import USERS, build, draw

T, N = 4, 3
NEURONS = {
    "papers": LIF(learn=("leak", "threshold")),
    "leaky-hard-half": LIF(
        leak=0.5, reset="hard", initial="half", learn=("threshold",), surrogate=Sigmoid(1.0)
    ),
    "height": LIF(leak=0.9, height="threshold", surrogate=Arctan()),
    "undecayed": LIF(leak=0.75, reset="undecayed", learn=("leak", "threshold")),
    "current": create_neuron("cuba_lif", {"synapse_leak": 0.25, "learn": ["threshold"]}),
    "adaptive": create_neuron("adaptive_lif", {"leak": 0.9, "height": "threshold"}),
    "per-channel": LIF(leak=0.9, per="channel", learn=("leak", "threshold")),
    "relu": nn.ReLU(),
}
PAIRS = [
    (name, neuron)
    for row, name in enumerate(USERS)
    for column, neuron in enumerate(NEURONS)
    if neuron == "papers" or (row + column) % 3 == 1
]
"""Each network with the papers' neuron and two or three others, so each neuron with two or more
networks: a graph and a neuron meet in spikes and states alone, which are of any shape."""


def spiking(
    name: str, neuron: str = "papers", encode: str = "direct", norm: str = "keep"
) -> SpikingNetwork:
    """In float64 and eval mode, calibrated so that its neurons fire."""
    lead = (1, 1) if encode == "frames" else (1,)
    snn = spike(
        build(name),
        example_input=draw(name, *lead),
        encode=encode,
        timesteps=T,
        neuron=deepcopy(NEURONS[neuron]),
        norm=temporal_norm("bntt", {"bias": True}) if norm == "bntt" else norm,
    ).double()
    if neuron != "relu":
        lead = (T, 8) if encode == "frames" else (8,)
        images = draw(name, *lead, seed=5).double()
        steps, percentile = (T, 99) if neuron == "current" else (2, 95)  # it rises from 0
        calibrate(
            *(snn, images),
            percentile=percentile,
            scale=0.4,
            timesteps=steps,
            statistics="reestimate",
        )
    return snn
