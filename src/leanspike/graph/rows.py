"""The rows that the table is made of. Operations that behave alike share a row."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from leanspike.graph import batch_size, costs, counts, disguise, products, rules
from leanspike.graph.operation import Norm, Operation, Synapses, at_inputs, at_outputs, at_rows
from leanspike.temporal import TemporalNorm, affine_of_norm


def batch_norm(norm: Any) -> tuple[Tensor, Tensor] | None:
    if norm.running_mean is None or norm.running_var is None:
        return None
    weight, bias = (norm.weight, norm.bias) if norm.affine else (None, None)
    return affine_of_norm(norm.running_mean, norm.running_var, norm.eps, weight, bias)


def temporal_norm(norm: TemporalNorm) -> tuple[Tensor, Tensor]:
    scale_1C, shift_1C = norm.affine(1)
    return scale_1C[0], shift_1C[0]


def temporal_norm_folds(norm: TemporalNorm) -> bool:
    return norm.folds


ALONG_DIM = partial(rules.axes, position=1, name="dim")

ANALOG = Operation(rules.analog)
MOVED = Operation(rules.same, follow=counts.moved, linear=True)

CONVOLUTION = Operation(rules.analog, synapses=Synapses(at_outputs, norm_axis=1), linear=True)
TRANSPOSED = Operation(rules.analog, synapses=Synapses(at_inputs), linear=True)
LINEAR = Operation(rules.analog, synapses=Synapses(at_rows, norm_axis=-1), linear=True)

MEASURES = Norm(priced=True, measures=True)
GROUP_NORM = Operation(rules.analog, cost=costs.group_norm, norm=MEASURES)
INSTANCE_NORM = Operation(
    rules.analog, cost=costs.instance_norm, norm=replace(MEASURES, decayed=True)
)
LOCAL_RESPONSE = Operation(rules.analog, cost=costs.local_response, norm=MEASURES)
LAYER_NORM = Operation(rules.analog, rules.normalised, cost=costs.layer_norm, norm=MEASURES)
RMS_NORM = replace(LAYER_NORM, cost=costs.rms_norm)
BATCH_NORM = Operation(
    rules.analog, rules.tracked, norm=Norm(batch=True, channels=batch_norm, priced=True)
)
SYNC_BATCH_NORM = replace(
    BATCH_NORM,
    norm=Norm(batch=True, synchronised=True, channels=batch_norm, priced=True),
)

FUNCTIONAL = Operation(rules.analog, products.weighted, synapses=Synapses(at_outputs))
FUNCTIONAL_TRANSPOSED = replace(FUNCTIONAL, synapses=Synapses(at_inputs))
FUNCTIONAL_LINEAR = replace(FUNCTIONAL, synapses=Synapses(at_rows))
MATRIX_PRODUCT = Operation(
    rules.analog, products.multiplied, synapses=Synapses(None), cost=products.matrix_product
)
EINSUM = replace(MATRIX_PRODUCT, check=products.einsum, cost=products.einsum_cost)
ATTENTION = Operation(rules.analog, products.attended, cost=products.attention_cost)
MULTIPLIED = Operation(rules.scale, follow=counts.scaled, cost=products.product)
DIVIDED = replace(MULTIPLIED, kind=rules.divide)
SQUARED = Operation(rules.analog, cost=products.squared)

MAX_POOL = Operation(rules.maximum, rules.without_indices, max_pool=True)
AVERAGE_POOL = {
    axes: Operation(rules.average, follow=partial(counts.average_pooled, axes=axes), linear=True)
    for axes in (1, 2, 3)
}
ADAPTIVE_POOL = {
    axes: Operation(rules.average, follow=partial(counts.adaptively_pooled, axes=axes), linear=True)
    for axes in (1, 2, 3)
}
FOLDED = Operation(rules.average, follow=counts.moved, linear=True)
REDUCED = Operation(rules.average, ALONG_DIM, counts.summed, linear=True)
MAXIMUM = Operation(rules.maximum, ALONG_DIM)
EXTREMUM = Operation(disguise.extreme, disguise.extremum)
ALONG_AXIS = Operation(rules.analog, ALONG_DIM)
SORTED = Operation(rules.maximum, partial(rules.axes, position=1, name="dim", default=-1))
CHOSEN = Operation(rules.maximum, partial(rules.axes, position=2, name="dim", default=-1))
SPREAD = Operation(rules.analog, rules.spread, cost=costs.squares)
LENGTH = Operation(rules.analog, partial(rules.axes, position=2, name="dim"), cost=costs.squares)
LAST_AXIS = partial(rules.axes, position=1, name="dim", default=-1)
GLU = Operation(rules.analog, LAST_AXIS, cost=products.squared)
SIMILARITY = Operation(
    rules.analog,
    partial(rules.axes, position=2, name="dim", default=1),
    cost=costs.squares,
)
DISTANCE = replace(SIMILARITY, check=partial(rules.axes, position=9, name="dim", default=-1))

RESHAPED = replace(MOVED, check=batch_size.reshaped)
SQUEEZED = replace(MOVED, check=rules.squeezed)
PERMUTED = replace(MOVED, check=rules.permuted)
TRANSPOSE = replace(MOVED, check=rules.transposed)
SPLIT = replace(MOVED, check=partial(rules.axes, position=2, name="dim", default=0))
PADDED = Operation(rules.pad, rules.padded, counts.moved, pads=True, linear=True)
EXPANDED = Operation(batch_size.expand, batch_size.expanded, counts.moved, linear=True)
MADE = Operation(batch_size.made, batch_size.made_of_sizes)
INTERPOLATED = Operation(rules.interpolate, follow=counts.interpolated, linear=True)
CONCATENATED = Operation(
    rules.concatenate, rules.concatenated, counts.moved, concatenates=True, linear=True
)
STACKED = replace(CONCATENATED, check=rules.stacked)
MOVED_AXES = replace(MOVED, check=rules.moved_axes)
FLIPPED = replace(MOVED, check=rules.flipped)
ROLLED = replace(MOVED, check=partial(rules.axes, position=2, name="dims"))
UNBOUND = replace(MOVED, check=partial(rules.axes, position=1, name="dim", default=0))
NARROWED = replace(MOVED, check=partial(rules.axes, position=1, name="dim"))
WINDOWS = replace(MOVED, check=partial(rules.axes, position=1, name="dimension"))
ADDED = Operation(rules.add, follow=counts.added, linear=True)
SUBTRACTED = replace(ADDED, kind=rules.subtract)
SIZE = Operation(rules.nothing)
TAKEN = replace(MOVED, check=ALONG_DIM, linear=False)  # by an index, which may be computed

DROPPED = replace(MOVED, dropout="elements")
CHANNELS_DROPPED = replace(MOVED, dropout="channels")
SAMPLES_DROPPED = replace(MOVED, check=rules.row_by_row, dropout="samples")
ACTIVATION = Operation(activation=True)

OURS = replace(MOVED, sequence=True)

OTHER_ACTIVATION = Operation(check=disguise.other)
GATE = Operation(check=disguise.gate)
COMPARED = Operation(check=disguise.compared)
IN_DISGUISE = Operation(check=disguise.in_disguise)


def refused(fix: str) -> Operation:
    """Return the row of an operation that has its own time or that no cost would count."""
    return Operation(refused=("{name} cannot be stacked over time or counted", fix))


DRAWN = Operation(
    refused=(
        "{name} draws other random numbers for each step and sample",
        "put it into a module of your own, say class Noise, that draws in training mode only, and "
        "declare that with ops={{Noise: 'analog'}}",
    )
)
