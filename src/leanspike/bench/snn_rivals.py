"""The SNN, eager, in SpikingJelly and in the engine, as functions from images to ``[N, K]``."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

import leanspike_runtime
from leanspike.bench.deployed import deployed
from leanspike.bench.trained import Answer, Trained
from leanspike.engine import compile_engine
from leanspike.engine.entry import channels_last
from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork, readout
from leanspike.neuron import NeuronRecord, Recorded
from leanspike.saved import load

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
    """The SNN with SpikingJelly's neurons, a call for each step: its weights, leaks, thresholds.

    Raises LeanspikeError for what the ANN's layers or those neurons cannot hold.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, neuron

        spiking = trained.snn
        self.network = deployed(_with_weights(load(trained.folder / "ann"), spiking))
        self.network.to(memory_format=torch.channels_last)
        self.steps, self.reset = trained.steps or spiking.timesteps, functional.reset_net
        places = [path for path, layer in self.network.named_modules() if type(layer) is nn.ReLU]
        neurons = dict(spiking.neurons())
        if set(places) != set(neurons):
            raise LeanspikeError(
                f"the ANN has ReLU modules at {places}, and the SNN neurons at {list(neurons)}; "
                "give a run whose network has a module for each call of a ReLU"
            )
        self.starts = []
        for path in places:
            leak, threshold, record = _numbers(path, neurons[path])
            tau = 1 / (1 - leak) if leak < 1 else math.inf
            reset = {"soft": None, "hard": 0.0}[record.reset]
            lif = neuron.LIFNode(tau, decay_input=False, v_threshold=threshold, v_reset=reset)
            self.starts.append((lif, threshold / 2 if record.initial == "half" else 0.0))
            height = 1.0 if record.height == "unit" else threshold
            self.network.set_submodule(path, nn.Sequential(lif, Times(height)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of the outputs of all steps."""
        self.reset(self.network)
        for lif, start in self.starts:
            lif.v = start
        return torch.stack([self.network(x) for _ in range(self.steps)]).mean(0)


def _with_weights(ann: nn.Module, snn: SpikingNetwork) -> nn.Module:
    """Return the ANN, in eval mode, with the SNN's weights and norms.

    Raises LeanspikeError if the SNN has others, as norms with rows for each step.
    """
    own, learned = ann.state_dict(), snn.state_dict()
    shapes = {name: value.shape for name, value in learned.items()}
    other = [name for name, value in own.items() if shapes.get(name) != value.shape]
    if other:
        raise LeanspikeError(
            f"the SNN has no {other[0]} of the ANN's shape, so that SpikingJelly's neurons cannot "
            "stand in the ANN; give a run with spike.norm=keep, or leave snn_spikingjelly out of "
            "--contenders"
        )
    ann.load_state_dict({name: learned[name] for name in own})
    return ann.eval()


def _numbers(path: str, neuron: nn.Module) -> tuple[float, float, NeuronRecord]:
    """Return leak, threshold and what else is known of neurons that SpikingJelly's can be.

    Raises LeanspikeError for others.
    """
    record = neuron.record() if isinstance(neuron, Recorded) else None
    if (
        record is None
        or bool(record.synapse_leak.any())
        or record.leak.numel() + record.threshold.numel() != 2
        or record.reset == "undecayed"
        or record.floor is not None
    ):
        raise LeanspikeError(
            f"{path} has not one leak and one threshold for its layer, a soft or hard reset and no "
            "floor, as SpikingJelly's neurons have; leave snn_spikingjelly out of --contenders"
        )
    return record.leak.item(), record.threshold.item(), record


class Times(nn.Module):
    """Spikes times their height."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times the height."""
        return x * self.height


def spikingjelly(trained: Trained) -> Answer:
    """Return the SNN with SpikingJelly's neurons; see `SpikingJelly`."""
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
