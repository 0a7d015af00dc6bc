"""Figures of another benchmark and leanspike's own, side by side, with the reason if they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from leanspike.evaluation.result import Result
from leanspike.execute import SpikingNetwork

CLOSE = 1e-4
"""Relative: NeuroBench adds counts in float32 and rounds shares to 4 digits."""
GRADED = "NeuroBench takes pooled or added spikes for analog values; leanspike counts those below."
ZEROS = "NeuroBench leaves out inputs and weights that are 0; leanspike counts analog inputs whole."
MODULES = "NeuroBench sees linear layers and convolutions that are modules, and nothing else."
CHANGED = "NeuroBench counts membranes that changed; leanspike each neuron at each step."


@dataclass(frozen=True)
class Row:
    """One quantity of a sample, or of the network.

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
        """For programs."""
        return {
            "timesteps": self.timesteps,
            "samples": self.samples,
            "neurobench": {row.what: row.neurobench for row in self.rows},
            "leanspike": {row.what: row.leanspike for row in self.rows},
        }


def compare(snn: SpikingNetwork, result: Result, found: Mapping[str, Any]) -> Comparison:
    """The rows, of a result and of what NeuroBench found."""
    rows, steps = result.operations, result.timesteps
    neurons = sum(layer.neurons for layer in result.neurons)
    fired = sum(layer.neurons * layer.spikes_per_neuron for layer in result.neurons)
    dense = sum(row.ann_macs * (1 if row.static else steps) for row in rows)
    synaptic = found["SynapticOperations"]
    held = [tensor.nbytes for tensor in snn.state_dict().values()]
    others = any(row.edge in ("product", "inside") for row in rows) or bool(result.uncounted)
    graded = any(row.edge.startswith("graded") for row in rows)
    why = " ".join(
        reason for applies, reason in ((graded, GRADED), (True, ZEROS), (others, MODULES)) if applies
    )
    return Comparison(
        steps,
        result.n,
        (
            Row("accuracy", found["ClassificationAccuracy"], result.last_accuracy or 0.0),
            Row("activation sparsity", found["ActivationSparsity"], 1 - fired / (neurons * steps)),
            Row("accumulates", synaptic["Effective_ACs"], sum(row.snn_acs for row in rows), why),
            Row(
                "multiply-accumulates",
                synaptic["Effective_MACs"],
                sum(row.snn_macs for row in rows),
                why,
            ),
            Row("dense operations", synaptic["Dense"], dense, MODULES if others else ""),
            Row(
                "membrane updates",
                found["MembraneUpdates"],
                result.energy.membrane_updates,
                CHANGED,
            ),
            Row("footprint, bytes", found["Footprint"], sum(held)),
            Row("connection sparsity", found["ConnectionSparsity"], _zeros(snn)),
        ),
    )


def _zeros(snn: SpikingNetwork) -> float:
    """The share of weights that are 0."""
    weights = [snn.get_submodule(str(node.target)).weight for node in snn.synaptic_nodes()]
    held = sum(weight.numel() for weight in weights)  # type: ignore[operator, misc]
    used = sum(int(torch.count_nonzero(weight)) for weight in weights)  # type: ignore[arg-type]
    return 1 - used / held
