"""The SNN, eager, in SpikingJelly and in the engine, as functions from images to ``[N, K]``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import leanspike_runtime
from leanspike.bench.trained import Answer, Trained
from leanspike.engine import compile_engine
from leanspike.engine.entry import channels_last
from leanspike.execute import SpikingNetwork, readout
from leanspike.saved import load

EXIT_MARGIN = 0.9


def snn(trained: Trained) -> Answer:
    """Return the trained spiking network, run eagerly."""
    network = load(trained.folder / "snn").eval()

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        scores: Tensor = readout(network(x.contiguous(memory_format=torch.channels_last)), "mean")[
            -1
        ]
        return scores

    return answer


class SpikingJelly(nn.Module):
    """SpikingJelly's neurons in the ANN, a call for each step, with the SNN's leaks and thresholds.

    Its membranes begin at 0, so its answers are not the SNN's. It is raced for its time.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, neuron

        spiking = load(trained.folder / "snn")
        assert isinstance(spiking, SpikingNetwork)
        self.network, self.steps, self.reset = trained.ann, spiking.timesteps, functional.reset_net
        for path, layer in list(self.network.named_modules()):
            if isinstance(layer, nn.ReLU):
                shown = spiking.get_submodule(path).readings()  # type: ignore[operator]
                tau, threshold = 1 / (1 - min(0.999, shown["leak"])), shown["threshold"]
                lif = neuron.LIFNode(tau, decay_input=False, v_threshold=threshold, v_reset=None)
                self.network.set_submodule(path, nn.Sequential(lif, Times(threshold)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of the outputs of all steps."""
        self.reset(self.network)
        return torch.stack([self.network(x) for _ in range(self.steps)]).mean(0)


class Times(nn.Module):
    """Spikes times their height."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times the height."""
        return x * self.height


def spikingjelly(trained: Trained) -> Answer:
    """Return the ANN with SpikingJelly's neurons; see `SpikingJelly`."""
    network = SpikingJelly(trained).eval()

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        scores: Tensor = network(x.contiguous(memory_format=torch.channels_last))
        return scores

    return answer


def engine(
    trained: Trained, weights: Literal["f32", "int8", "int6"], *, exits: bool = False
) -> Answer:
    """Return the engine. With ``exits`` images leave when their margin is 0.9."""
    network = load(trained.folder / "snn").eval()
    assert isinstance(network, SpikingNetwork)
    compiled = compile_engine(network, trained.calibration, weights=weights, readout="mean")
    native = leanspike_runtime.Engine(leanspike_runtime.to_bytes(compiled.program))
    threads = torch.get_num_threads()

    def answer(x: Tensor) -> Tensor:
        images = channels_last(x, 1)
        if exits:
            return torch.from_numpy(native.answer(images, EXIT_MARGIN, threads=threads).logits_NK)
        return torch.from_numpy(native(images, threads=threads).mean(0))

    return answer
