"""Comparing an ONNX model with its network: spikes and answers on the same input.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from leanspike.errors import LeanspikeError, one_line
from leanspike.execute import SpikingNetwork
from leanspike.graph.outputs import tensors
from leanspike.modes import eval_mode
from leanspike.optional import import_optional

Arrays = Mapping[str, NDArray[Any]]
MOST = 0.01
"""The largest share of a layer's entries whose difference rounding may explain."""


@dataclass(frozen=True)
class ONNXLayer:
    """A layer of neurons: its entries and spikes, and how many entries differ in the file's run.

    >>> ONNXLayer("relu", entries=80, spikes=12, mismatches=1).mismatches
    1
    """

    path: str
    entries: int
    spikes: int
    mismatches: int


@dataclass(frozen=True)
class ONNXProof:
    """The comparison of network and file, run by onnxruntime, on the same input.

    Attributes:
        samples: the number of samples.
        layers: the layers of neurons, in order.
        difference: the largest difference of an answer's entries, in their units.
        answers: the number of samples with another largest output after the last step.

    >>> proof = ONNXProof(2, (ONNXLayer("relu", 80, 12, 1),), 1e-6, 0)
    >>> proof.mismatches, proof.spikes
    (1, 12)
    """

    samples: int
    layers: tuple[ONNXLayer, ...]
    difference: float
    answers: int

    @property
    def spikes(self) -> int:
        """The number of outputs of all neurons that are not 0."""
        return sum(layer.spikes for layer in self.layers)

    @property
    def mismatches(self) -> int:
        """The number of differing entries: a spike on one side, or graded beyond rounding."""
        return sum(layer.mismatches for layer in self.layers)

    def check(self) -> None:
        """Raise LeanspikeError if more entries differ than rounding explains."""
        for layer in self.layers:
            if layer.mismatches > MOST * layer.entries:
                raise LeanspikeError(
                    f"{layer.path}: {layer.mismatches} of {layer.entries} entries differ in "
                    "onnxruntime, more than rounding explains, so the file was not written; "
                    "write it unverified with verify=False to examine it"
                )


@dataclass(frozen=True)
class Ours:
    """The network's own spikes, by the path of the neurons, and answers."""

    spikes: Mapping[str, tuple[Tensor, bool]]
    answers: Sequence[Tensor]


def observed(snn: SpikingNetwork, x: Tensor, timesteps: int) -> Ours:
    """Run the network; return spikes ``[T, N, ...]``, whether they are graded, and outputs."""
    spikes: dict[str, tuple[Tensor, bool]] = {}
    neurons = set(snn.neuron_nodes())

    def keep(node: fx.Node, _: Mapping[fx.Node, Any], value: Any) -> None:
        if node in neurons:
            spikes[str(node.target)] = value.clone(), node.meta["signal"].kind != "spike"

    with torch.no_grad(), eval_mode(snn):
        y_TNK = snn.run(x, timesteps, observer=keep)
    return Ours(spikes, tensors(y_TNK))


def compared(ours: Ours, theirs: Sequence[Tensor], spikes: Mapping[str, Tensor]) -> ONNXProof:
    """Return the differences between network and file. Answers are ``[T, N, ...]``."""
    layers = []
    for path, (own_TN, graded) in ours.spikes.items():
        other_TN = spikes[path]
        if graded:
            differ = ~torch.isclose(own_TN, other_TN, rtol=1e-3, atol=1e-4)
        else:
            differ = (own_TN != 0) != (other_TN != 0)
        fired = int(torch.count_nonzero(own_TN))
        layers.append(ONNXLayer(path, own_TN.numel(), fired, int(differ.sum())))
    pairs = list(zip(ours.answers, theirs, strict=True))
    furthest = max(float((own - other).abs().max()) for own, other in pairs)
    own_TN, other_TN = pairs[0]
    last = own_TN[-1].flatten(1).argmax(1) != other_TN[-1].flatten(1).argmax(1)
    return ONNXProof(own_TN.shape[1], tuple(layers), furthest, int(last.sum()))


class Session:
    """A model in onnxruntime, on the CPU, in one thread."""

    def __init__(self, model: bytes) -> None:
        runtime = import_optional("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has its own exception classes
            raise LeanspikeError(
                f"onnxruntime does not load the model ({one_line(error)}); write it unverified "
                "with verify=False, for another reader"
            ) from error
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name."""
        given = {name: np.ascontiguousarray(x.detach().numpy()) for name, x in inputs.items()}
        found = self._session.run(self.outputs, given)
        return {
            name: torch.from_numpy(np.array(value))
            for name, value in zip(self.outputs, found, strict=True)
        }
