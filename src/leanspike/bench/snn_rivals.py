"""The SNN, eager, in SpikingJelly and in the engine, as functions from images to ``[N, K]``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import leanspike_runtime
from leanspike.bench.trained import Answer, Trained
from leanspike.engine import compile_engine
from leanspike.engine.entry import channels_last
from leanspike.errors import LeanspikeError
from leanspike.execute import readout

Weights = Literal["f32", "int8", "int6"]


def snn(trained: Trained) -> Answer:
    """Return the trained spiking network, run eagerly."""
    network = trained.snn

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        y_TNK = network(x.contiguous(memory_format=torch.channels_last), trained.steps)
        scores: Tensor = readout(y_TNK, "mean")[-1]
        return scores

    return answer


class SpikingJelly(nn.Module):
    """SpikingJelly's neurons in the ANN, a call for each step, with the SNN's leaks and thresholds.

    Its membranes begin at 0, so its answers are not the SNN's. It is raced for its time.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, neuron

        spiking = trained.snn
        self.network, self.steps, self.reset = trained.ann, spiking.timesteps, functional.reset_net
        places = [path for path, layer in self.network.named_modules() if type(layer) is nn.ReLU]
        neurons = dict(spiking.neurons())
        if set(places) != set(neurons):
            raise LeanspikeError(
                f"the ANN has ReLU modules at {places}, and the SNN neurons at {list(neurons)}; "
                "give a run whose network has a module for each call of a ReLU"
            )
        for path in places:
            shown = {name: mean_of(value) for name, value in neurons[path].readings().items()}  # type: ignore[operator]
            tau, threshold = 1 / (1 - min(0.999, shown["leak"])), shown["threshold"]
            lif = neuron.LIFNode(tau, decay_input=False, v_threshold=threshold, v_reset=None)
            self.network.set_submodule(path, nn.Sequential(lif, Times(threshold)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of the outputs of all steps."""
        self.reset(self.network)
        return torch.stack([self.network(x) for _ in range(self.steps)]).mean(0)


def mean_of(value: Tensor) -> float:
    """Return the mean of a reading, since SpikingJelly has one number for each layer.

    >>> mean_of(torch.tensor([0.5, 1.5]))
    1.0
    """
    return value.double().mean().item()


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


def _native(trained: Trained, weights: Weights) -> leanspike_runtime.Engine:
    compiled = compile_engine(trained.snn, trained.calibration, weights=weights, readout="mean")
    return leanspike_runtime.Engine(leanspike_runtime.to_bytes(compiled.program))


def engine(trained: Trained, weights: Weights) -> Answer:
    """Return the engine, whose images all take the same steps."""
    native, threads = _native(trained, weights), torch.get_num_threads()

    def answer(x: Tensor) -> Tensor:
        logits_TNK = native(channels_last(x, 1), trained.steps, threads)
        return torch.from_numpy(logits_TNK.mean(0))

    return answer


class Leaving:
    """The engine with early exit: images leave by a margin. Its calls are `Answer`."""

    def __init__(self, trained: Trained, weights: Weights) -> None:
        self.native, self.threads = _native(trained, weights), torch.get_num_threads()
        self.margin, self.latest = trained.margin

    def __call__(self, x: Tensor) -> Tensor:
        """Return the scores with which images left."""
        return self.left(x)[0]

    def left(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores with which images left, and the steps that they took."""
        exits = self.native.answer(channels_last(x, 1), self.margin, self.latest, self.threads)
        return torch.from_numpy(exits.logits_NK), torch.from_numpy(exits.steps_N)


def engine_exit(trained: Trained, weights: Weights) -> Answer:
    """Return the engine with early exit; see `Leaving`."""
    return Leaving(trained, weights)
