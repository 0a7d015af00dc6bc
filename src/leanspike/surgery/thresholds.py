"""Measuring the percentile of each neuron layer's input, over all images and steps.

Shapes: T timesteps, N images; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from torch import Tensor, fx

from leanspike.distributed import Group
from leanspike.errors import LeanspikeError
from leanspike.execute.network import SpikingNetwork
from leanspike.neuron import SMALLEST_THRESHOLD, Calibrated
from leanspike.surgery.percentile import Percentile
from leanspike.surgery.sweep import Sweep
from leanspike.temporal import broadcast


def calibrated(snn: SpikingNetwork) -> dict[str, Calibrated]:
    """Return the neurons by path, after checking that all of them can be calibrated.

    Raises LeanspikeError for one that cannot, by its path.
    """
    layers: dict[str, Calibrated] = {}
    for path, module in snn.neurons():
        if not isinstance(module, Calibrated):
            raise LeanspikeError(
                f"neurons {path}: a {type(module).__name__} has no threshold to set; use neurons "
                "that have one, as spike(neuron=LIF()), or leave the calibration out (in a "
                "recipe spike.calibrate=null)"
            )
        layers[path] = module
    return layers


def check_percentile(percentile: float) -> None:
    """Raise LeanspikeError unless the percentile is in (1, 100].

    >>> check_percentile(0.997)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: percentile is 0.997, but counts in percent; did you mean 99.7?
    """
    if 0 < percentile <= 1:
        raise LeanspikeError(
            f"percentile is {percentile:g}, but counts in percent; did you mean "
            f"{100 * percentile:g}?"
        )
    if not 1 < percentile <= 100:
        raise LeanspikeError(f"percentile is {percentile:g}; give a number in (1, 100]")


@dataclass(frozen=True)
class Measured:
    """A measured layer of neurons: its size per sample, and the percentile of its input."""

    path: str
    neurons: int
    percentile_value: float


def measure(sweep: Sweep, percentile: float, rule: str, method: str) -> list[Measured]:
    """Return the percentile of each layer's input. "layerwise" sets each at once as a threshold.

    Raises LeanspikeError for a percentile that cannot be a threshold.
    """
    layers = calibrated(sweep.snn)
    nodes = {node: str(node.target) for node in sweep.nodes if node.target in layers}
    if method == "one_pass":
        return _measure_at_once(sweep, percentile, rule, nodes)
    rows: list[Measured] = []

    def visit(node: fx.Node, inputs: Iterable[Tensor]) -> None:
        found = _Steps(node, nodes[node], percentile, rule)
        while found.wants_more:
            for x_TN in inputs:
                found.add(x_TN)
            found.end_round(sweep.group)
        rows.append(found.row())
        layers[nodes[node]].set_scale(rows[-1].percentile_value)

    with ExitStack() as measuring:
        for neuron in layers.values():
            measuring.enter_context(neuron.while_measured())
        sweep.halting(nodes, visit)
    return rows


def _measure_at_once(
    sweep: Sweep, percentile: float, rule: str, nodes: dict[fx.Node, str]
) -> list[Measured]:
    """Measure all layers in each round, on the ANN's pre-activations: no threshold changes them."""
    found = {node: _Steps(node, path, percentile, rule) for node, path in nodes.items()}

    def observe(node: fx.Node, values: Mapping[fx.Node, Any], _value: Any) -> None:
        if node in found and found[node].wants_more:
            found[node].add(values[node.all_input_nodes[0]])

    while any(steps.wants_more for steps in found.values()):
        sweep.answers(observe, relu=True)
        for steps in found.values():
            if steps.wants_more:
                steps.end_round(sweep.group)
    return [steps.row() for steps in found.values()]


@final
class _Steps:
    """Finds the largest of the steps' percentiles of what enters a layer of neurons."""

    def __init__(self, node: fx.Node, path: str, percentile: float, rule: str) -> None:
        self.path, self.percentile, self.rule = path, percentile, rule
        self.same = node.all_input_nodes[0].target is broadcast  # the same current at every step
        self.neurons = 0
        self.steps: list[Percentile] = []

    @property
    def wants_more(self) -> bool:
        """Whether another round through all images is needed."""
        return not self.steps or any(step.wants_more for step in self.steps)

    def add(self, x_TN: Tensor) -> None:
        """Show the currents of a batch."""
        if not self.steps:
            many = 1 if self.same else len(x_TN)
            self.steps = [Percentile(self.percentile, self.rule) for _ in range(many)]
            self.neurons = x_TN[0, 0].numel()
        for step, x_N in zip(self.steps, x_TN, strict=False):
            step.add(x_N)

    def end_round(self, group: Group) -> None:
        """End a round, in which all images were shown, some to each process."""
        for step in self.steps:
            step.end_round(group)

    def row(self) -> Measured:
        """Return the layer's row. Raise LeanspikeError if the percentile cannot be a threshold."""
        found = [step.value() for step in self.steps]
        if not np.isfinite(found).all():
            raise LeanspikeError(
                f"neurons {self.path}: their input holds NaN or infinity; check the network's "
                "weights"
            )
        value = max(found)
        _check_threshold(self.path, self.percentile, value)
        return Measured(self.path, self.neurons, value)


def _check_threshold(path: str, percentile: float, value: float) -> None:
    """Raise LeanspikeError unless a percentile of the input may be a threshold."""
    if 0 < value < SMALLEST_THRESHOLD:
        factor = 10.0 ** math.ceil(-math.log10(value))
        raise LeanspikeError(
            f"neurons {path}: the {percentile} percentile of their input is {value:.3g}, but no "
            f"threshold may be below {SMALLEST_THRESHOLD:g}; multiply weight and bias of the layer "
            f"before them by {factor:g}, and divide the weight of the layer behind by {factor:g}: "
            "an ANN of ReLUs then answers as before"
        )
    if value <= 0:
        raise LeanspikeError(
            f"neurons {path}: the {percentile} percentile of their input is {value:.3g}, so they "
            "would hardly ever fire; give a higher percentile or other images"
        )
