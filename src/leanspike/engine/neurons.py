"""Neurons with nothing but a leaky membrane as layers of a program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from leanspike.engine.values import Builder, Value
from leanspike.errors import LeanspikeError
from leanspike.neuron import NeuronRecord, Recorded
from leanspike_runtime.program import Array, Neuron


def check_neurons(root: nn.Module, paths: Sequence[str]) -> None:
    """Raise LeanspikeError, with the path, for a neuron that a program cannot hold."""
    for path in paths:
        neuron = root.get_submodule(path)
        if not isinstance(neuron, Recorded) or bool(neuron.record().synapse_leak.any()):
            raise LeanspikeError(
                f"{path} is a {type(neuron).__name__}, but the engine computes neurons with a "
                "leaky membrane only; make the network with spike(..., neuron=leanspike.LIF()), or "
                "run it as it is"
            )


def neuron_layer(builder: Builder, path: str, record: NeuronRecord, value: Value) -> Value:
    """Return the spikes of neurons that a value enters.

    Raises LeanspikeError for spikes whose height differs between pixels.
    """
    threshold, leak = _of_entries(record.threshold), _of_entries(record.leak)
    initial = 0.5 if record.initial == "half" else 0.0
    made = Neuron(leak, threshold, record.reset, initial, record.floor)
    spikes = builder.layer(path, value, made)
    if record.height == "unit":
        return spikes
    channels = value.shape[0]
    if threshold.size not in (1, channels):
        raise LeanspikeError(
            f"{path} has another spike height at each pixel, which no weights can take up; make "
            "its LIF with per='channel', or with height='unit'"
        )
    heights = threshold.astype(np.float64)
    return spikes.scaled(np.broadcast_to(heights, (1, channels)))


def _of_entries(values: Tensor) -> Array:
    """Return one value for a layer, each channel, or each entry in the order ``[H, W, C]``."""
    values = values.float()
    if values.numel() == 1 or values.numel() == values.shape[0]:
        found: Array = values.reshape(-1).numpy().copy()
        return found
    image = values.reshape(values.shape[0], *(1, 1, *values.shape[1:])[-2:])
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy()).reshape(-1)
