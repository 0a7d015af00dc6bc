"""NeuroBench's figures and leanspike's own, side by side, with the reason where they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leanspike.evaluation.result import Result
from leanspike.execute import SpikingNetwork

CLOSE = 1e-4
"""The largest relative difference: NeuroBench adds in float32 and rounds shares to 4 digits."""
GRADED = "NeuroBench takes pooled or added spikes for analog values; leanspike counts those below."
ZEROS = "NeuroBench leaves out inputs and weights that are 0; leanspike counts analog inputs whole."
MODULES = "NeuroBench sees linear layers and convolutions that are modules, and nothing else."
CHANGED = "NeuroBench counts membranes that changed; leanspike each neuron at each step."


@dataclass(frozen=True)
class Row:
    """One quantity of a sample, or of the network, by NeuroBench and by leanspike.

    >>> Row("accuracy", 0.9, 0.9).agree, Row("MACs", 1.0, 2.0, "why").agree
    (True, False)
    """

    what: str
    neurobench: float
    leanspike: float
    reason: str = ""
    """Why they may differ; empty where the definitions are the same."""

    @property
    def agree(self) -> bool:
        """Whether the figures are the same but for rounding."""
        return math.isclose(self.neurobench, self.leanspike, rel_tol=CLOSE, abs_tol=CLOSE)


@dataclass(frozen=True)
class Comparison:
    """NeuroBench's figures and leanspike's.

    >>> Comparison(2, 10, (Row("accuracy", 0.9, 0.9),)).summary
    {'timesteps': 2, 'samples': 10, 'neurobench': {'accuracy': 0.9}, 'leanspike': {'accuracy': 0.9}}
    """

    timesteps: int
    samples: int
    rows: tuple[Row, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """The figures as plain data, for programs."""
        return {
            "timesteps": self.timesteps,
            "samples": self.samples,
            "neurobench": {row.what: row.neurobench for row in self.rows},
            "leanspike": {row.what: row.leanspike for row in self.rows},
        }


def compare(snn: SpikingNetwork, result: Result, found: Mapping[str, Any]) -> Comparison:
    """Return a comparison of a result and of what NeuroBench found."""
    counted, steps = result.operations, result.timesteps
    neurons = sum(layer.neurons for layer in result.neurons)
    fired = sum(layer.neurons * layer.spikes_per_neuron for layer in result.neurons)
    held = sum(tensor.nbytes for tensor in snn.state_dict().values())
    others = MODULES if _has_others(result) else ""
    graded = GRADED if any(row.edge.startswith("graded") for row in counted) else ""
    why = " ".join(filter(None, (graded, ZEROS, others)))
    theirs = found["SynapticOperations"]
    acs, macs = sum(row.snn_acs for row in counted), sum(row.snn_macs for row in counted)
    dense = sum(row.ann_macs * (1 if row.static else steps) for row in counted)
    updates = result.energy.membrane_updates
    rows = (
        Row("accuracy", found["ClassificationAccuracy"], result.last_accuracy or 0.0),
        Row("activation sparsity", found["ActivationSparsity"], 1 - fired / (neurons * steps)),
        Row("accumulates", theirs["Effective_ACs"], acs, why),
        Row("multiply-accumulates", theirs["Effective_MACs"], macs, why),
        Row("dense operations", theirs["Dense"], dense, others),
        Row("membrane updates", found["MembraneUpdates"], updates, CHANGED),
        Row("footprint, bytes", found["Footprint"], held),
        Row("connection sparsity", found["ConnectionSparsity"], _zeros(snn)),
    )
    return Comparison(steps, result.n, rows)


def _has_others(result: Result) -> bool:
    """Tell whether work lies outside layers with weights, where NeuroBench misses it."""
    inside = any(row.edge in ("product", "inside") for row in result.operations)
    return inside or bool(result.uncounted)


def _zeros(snn: SpikingNetwork) -> float:
    """Return the share of weights that are 0."""
    layers = (snn.get_submodule(str(node.target)) for node in snn.synaptic_nodes())
    weights = [weight for layer in layers if isinstance(weight := layer.weight, Tensor)]
    used = sum(int(torch.count_nonzero(weight)) for weight in weights)
    return 1 - used / sum(weight.numel() for weight in weights)
