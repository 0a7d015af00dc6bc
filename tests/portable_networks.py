"""Networks that other libraries can have too, with numbers that no rounding can move.

Weights and images lie on a grid of binary fractions and thresholds between its points. So sums are
exact in any order, and a spike that differs is one that was computed otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from leanspike import LIF, CurrentLIF, Neuron, SpikingNetwork, spike

T = 4


class Skip(nn.Module):
    """An identity shortcut, and the mean over all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.conv1, self.relu2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU()
        self.conv2, self.relu3 = nn.Conv2d(4, 4, 3, padding="same"), nn.ReLU()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.stem(x))
        x = self.relu3(self.conv2(self.relu2(self.conv1(x))) + x)
        return self.fc(x.mean((2, 3)))


class Parallel(nn.Module):
    """Two branches with convolutions of their own, and one that is halved, as ResNets have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.conv1, self.relu2 = nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()
        self.conv2, self.relu3 = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.shortcut, self.fc = nn.Conv2d(4, 8, 1, stride=2), nn.Linear(8 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.stem(x))
        x = self.relu3(self.conv2(self.relu2(self.conv1(x))) / 2 + self.shortcut(x) * 0.5)
        return self.fc(x.view(x.size(0), -1))


def pooled() -> nn.Module:
    """Average pools, grouped convolutions and a head, in a row."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 3)),
    )


def dense() -> nn.Module:
    """Linear layers alone."""
    return nn.Sequential(
        *(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16, bias=False), nn.ReLU(), nn.Linear(16, 3))
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pooled": (pooled, (3, 8, 8)),
    "dense": (dense, (4,)),
    "skip": (Skip, (3, 8, 8)),
    "parallel": (Parallel, (3, 8, 8)),
}
NEURONS: dict[str, Callable[[], Neuron]] = {
    "soft": lambda: LIF(),
    "soft leaky": lambda: LIF(leak=0.5),
    "floor": lambda: LIF(floor=1.0),
    "hard": lambda: LIF(reset="hard"),
    "hard leaky": lambda: LIF(leak=0.75, reset="hard"),
    "high": lambda: LIF(height="threshold"),
    "hard high": lambda: LIF(height="threshold", reset="hard"),
    "channels": lambda: LIF(leak=0.5, per="channel"),
    "current": lambda: CurrentLIF(leak=0.5, synapse_leak=0.5),
    "channels current": lambda: CurrentLIF(leak=0.75, synapse_leak=0.25, per="channel"),
    "hard current": lambda: CurrentLIF(leak=0.5, synapse_leak=0.5, reset="hard"),
}


def portable_network(name: str, neuron: str = "soft") -> SpikingNetwork:
    """A network on the grid, in eval mode."""
    build, shape = NETWORKS[name]
    torch.manual_seed(7)
    snn = spike(
        build().eval(),
        example_input=torch.zeros(1, *shape),
        timesteps=T,
        neuron=NEURONS[neuron](),
        norm="keep",
    )
    snn.doubts.uncalibrated = False
    on_grid(snn)
    return snn


@torch.no_grad()
def on_grid(snn: SpikingNetwork) -> None:
    """Weights to multiples of 1/16, thresholds between those of the sums."""
    neurons = {id(p) for _, neuron in snn.neurons() for p in neuron.parameters()}
    for parameter in snn.parameters():
        if id(parameter) not in neurons:
            parameter.copy_((parameter * 48).round() / 16)
    for number, (_, neuron) in enumerate(snn.neurons()):
        channels = torch.linspace(-0.125, 0.125, neuron.threshold.numel())
        spread = (channels * 64).round() / 64 if neuron.threshold.numel() > 1 else torch.zeros(1)
        finest = 10 + 2 * number if neuron.keeps_scale() else 18
        wanted = 0.375 + spread + 2.0**-finest
        neuron.threshold.copy_(wanted.view(neuron.threshold.shape))


def images(name: str, samples: int = 8, seed: int = 3) -> Tensor:
    """Images on the grid of 1/8, from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 9, (samples, *NETWORKS[name][1]), generator=generator) / 8
