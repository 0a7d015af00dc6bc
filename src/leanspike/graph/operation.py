"""A row of the table of operations: everything that an operation means."""

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
    """Return where a transposed convolution uses each weight: at each input pixel ``[C, ...]``."""
    return inputs[1:]


def at_rows(inputs: Shape, outputs: Shape) -> Shape:  # noqa: ARG001
    """Return where a linear layer uses each weight: at each row of its output ``[..., K]``."""
    return outputs[:-1]


@dataclass(frozen=True)
class Synapses:
    """The weights of an operation. Their multiplications or accumulates make up a network's cost.

    A layer holds the weights as ``weight``, a function gets them as an argument. Both are linear in
    their input.
    ``positions`` returns the shape of the places where each weight is used. It takes the shapes of
    a sample before and after the layer: :func:`at_outputs`, :func:`at_inputs` or :func:`at_rows`.
    It is None where nothing is padded: the textbook's number is then the counted one.
    ``norm_axis`` is the output axis whose channels are the rows of ``weight``. A norm over that
    axis folds into the weights. It is None where there is no such axis.
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
        """Return the multiply-accumulates for one sample and the given weights."""
        assert self.positions is not None
        return float(weight.numel() * torch.Size(self.positions(inputs, outputs)).numel())


def always(norm: nn.Module) -> bool:  # noqa: ARG001
    """Return True: a norm that does not depend on time is the same at each step."""
    return True


@dataclass(frozen=True)
class Norm:
    """The part of a row that describes a norm.

    ``batch``: the norm has statistics of a batch for each channel. Another norm may take its place
    where time reaches it.
    ``synchronised``: the statistics are those of the batches of all processes. A norm that takes
    its place synchronises its statistics, too.
    ``channels``: a function that returns scale and shift per channel in eval mode, ``[C]`` each. It
    returns None for a norm without statistics. A norm without such a function is not folded.
    ``folds``: whether scale and shift are the same at each step, so that weights can take them up.
    ``priced``: a norm that weights cannot take up has the ``cost`` of its row. The default cost is
    a multiply-accumulate per entry.
    ``measures``: the norm takes statistics of each sample. It does not fold in the ANN either.
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
    """A function that the forward of a layer calls with the layer's own attributes.

    ``layers`` are the layers that call it. ``arguments`` are its arguments after the input, with
    the names of the attributes, each with its default.
    """

    layers: tuple[type[nn.Module], ...]
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """All that the surgery, the passes, the energy and the reports know of an operation.

    Args:
        kind: the rule for the kind of its output; None if it never runs in an SNN.
        check: the rule that refuses calls which reach axis 0, where time and samples are stacked.
        follow: the function for the number of spikes under its output. If it is None, that number
            is unknown, and its readers pay for multiplications.
        synapses: the weights of a layer, or of a function that takes weights.
        cost: the function for its other costs: those of a norm, or of a product of signals.
        inside: whether its cost is counted by what it computes inside, as for a module that is
            declared for one call.
        norm: the description of a norm.
        activation: whether it becomes a neuron.
        dropout: what it drops; one mask for all timesteps takes its place. ``rate`` is the
            name of the attribute with the probability.
        max_pool: whether spikes that enter it give more than the maximum over their rates.
        pads: whether it may put zeros around its input, which are not multiplied.
        concatenates: whether it joins its inputs, so that their spike rates are averaged.
        twin: the operation that computes the same, overwrites nothing and takes any layout. It
            runs instead, by its own row.
        takes: the axes of its input, if it would take one sample for a batch.
        event_driven: the layer that computes the same at a lower cost if only spikes enter.
        tiled: the layer that computes the same at a lower cost.
        inner: the layers that call this function inside. A subclass of such a layer may have its
            own forward that calls the function as the layer does. The subclass is then opened
            into the layer and what surrounds it.
        linear: whether it turns the mean of inputs into the mean of their outputs (it may add a
            constant). Gradients of means pass it unchanged; other operations are linearised at the
            mean.
        sequence: whether it is leanspike's and takes or makes ``[T, N, ...]``. It is then not for
            a user's network.
        family: whether subclasses with code of their own have this row, too.
        refused: the reason and the way out, if it is refused; ``{name}`` and ``{code}`` stand for
            the operation.
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
"""The row of operations without a row: they might mix timesteps or samples, and are refused."""
