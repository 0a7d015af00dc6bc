"""A row of the table: everything that an operation means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from leanspike.graph.costs import CostRule
from leanspike.graph.counts import Follow
from leanspike.graph.rules import Check, Rule
from leanspike.synapse.stand_in import StandIn

Shape = Sequence[int]


def at_outputs(inputs: Shape, outputs: Shape) -> Shape:  # noqa: ARG001
    """Return where a convolution uses each weight: at each pixel of its output ``[C, ...]``."""
    return outputs[1:]


def at_inputs(inputs: Shape, outputs: Shape) -> Shape:  # noqa: ARG001
    """Where a transposed convolution uses each weight: at each pixel of its input ``[C, ...]``."""
    return inputs[1:]


def at_rows(inputs: Shape, outputs: Shape) -> Shape:  # noqa: ARG001
    """Where a linear layer uses each weight: once for each row of its output ``[..., K]``."""
    return outputs[:-1]


@dataclass(frozen=True)
class Synapses:
    """Weights, whose multiplications (or accumulations) make up the cost of a network.

    A layer holds the weights as ``weight``, or a function is given them. Both are linear in their
    input.
    ``positions``: the shape of the places where each weight is used. It follows from the shapes of
    a sample before and after the layer: :func:`at_outputs`, :func:`at_inputs` or :func:`at_rows`.
    None where nothing is padded: the textbook's number is then the counted one.
    ``norm_axis``: the output axis whose channels are the rows of ``weight``. A norm over that axis
    folds into the weights. None where there is no such axis.
    """

    positions: Callable[[Shape, Shape], Shape] | None
    norm_axis: int | None = None

    def dense_macs(self, layer: nn.Module, inputs: Shape, outputs: Shape) -> float:
        """Return the textbook number of multiply-accumulates for one sample, zero padding included.

        >>> conv = nn.Conv2d(3, 64, 3, padding=1)
        >>> Synapses(at_outputs).dense_macs(conv, (3, 32, 32), (64, 32, 32))
        1769472.0
        """
        weight = layer.weight
        assert isinstance(weight, Tensor)
        return self.macs_of(weight, inputs, outputs)

    def macs_of(self, weight: Tensor, inputs: Shape, outputs: Shape) -> float:
        """Return the multiply-accumulates for one sample, of weights that a function is given."""
        assert self.positions is not None
        return float(weight.numel() * torch.Size(self.positions(inputs, outputs)).numel())


def always(norm: nn.Module) -> bool:  # noqa: ARG001
    """Return a norm without a time of its own is the same at each step."""
    return True


@dataclass(frozen=True)
class Norm:
    """What becomes of a norm.

    ``batch``: the norm has statistics of a batch for each channel. Another norm may take its place
    where time reaches it.
    ``synchronised``: the statistics are those of the batches of all processes. The norm that takes
    its place synchronises its own, too.
    ``channels``: gives the scale and the shift per channel in eval mode, ``[C]`` each. It gives
    None for a norm without statistics. A norm without such a function stays.
    ``folds``: whether scale and shift are the same at each step, so that weights can take them up.
    ``priced``: a norm that weights cannot take up costs what ``cost`` of the row says. The default
    is a multiply-accumulate per entry.
    ``measures``: the norm takes statistics of each sample. No weights take it up in the ANN either.
    ``decayed``: weight decay reaches its scale.
    """

    batch: bool = False
    synchronised: bool = False
    channels: Callable[[Any], tuple[Tensor, Tensor] | None] | None = None
    folds: Callable[[Any], bool] = always
    priced: bool = False
    measures: bool = False
    decayed: bool = False


@dataclass(frozen=True)
class Inner:
    """A function as the inside of a layer, whose forward calls it with attributes of its own.

    ``layers``: the layers that call it. ``arguments``: its arguments after the input, named as the
    attributes are, each with its default.
    """

    layers: tuple[type[nn.Module], ...]
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """What the surgery, the passes, the energy and the reports know of an operation.

    Args:
        kind: the rule for the kind of what it emits; None where it never runs in an SNN.
        check: refuses calls that reach axis 0, where time and samples lie together.
        follow: how many spikes lie under what it emits. None is unknown: its readers then pay for
            multiplications.
        synapses: its weights, if it is a layer that has some, or a function that is given some.
        cost: what it costs beside: a norm, or a product of signals.
        inside: it is counted by what it computes inside, as what is declared for one call is.
        norm: what becomes of it, if it is a norm.
        activation: it becomes a neuron.
        dropout: what it drops; one mask for all timesteps takes its place. ``rate`` is the
            attribute that holds how often.
        max_pool: spikes that enter it are more than the maximum over their rates.
        pads: it may put entries of 0 around its input, which nobody multiplies.
        concatenates: its inputs lie beside each other, so that their spike rates are averaged.
        twin: the operation that does the same, overwrites nothing and takes any layout. It runs in
            its place, by its own row.
        takes: the axes of its input, where one sample would pass for a batch.
        event_driven: the layer that does the same for less where only spikes enter.
        tiled: the layer that does the same for less.
        inner: for a function that layers call inside. A subclass of such a layer may have a forward
            of its own that calls the function as the layer does. The subclass is then opened into
            the layer and what is around it.
        linear: it turns the mean of inputs into the mean of their outputs (it may add what is
            fixed). Gradients of means go through it as they are; others are linearised at the mean.
        sequence: ours, and takes ``[T, N, ...]`` or makes it: not for a user's network.
        family: subclasses with code of their own count as it, too.
        refused: why, and the way out; ``{name}`` and ``{code}`` stand for the operation.
    """

    kind: Rule | None = None
    check: Check | None = None
    follow: Follow | None = None
    synapses: Synapses | None = None
    cost: CostRule | None = None
    inside: bool = False
    norm: Norm | None = None
    activation: bool = False
    dropout: Literal["elements", "channels", "samples"] | None = None
    rate: str = "p"
    max_pool: bool = False
    pads: bool = False
    concatenates: bool = False
    twin: Any = None
    takes: str | None = None
    event_driven: type[StandIn] | None = None
    tiled: type[StandIn] | None = None
    inner: Inner | None = None
    linear: bool = False
    sequence: bool = False
    family: bool = False
    refused: tuple[str, str] | None = None


UNKNOWN = Operation()
"""What has no row: it might mix timesteps or samples, and is refused."""
