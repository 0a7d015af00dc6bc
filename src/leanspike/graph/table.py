"""The table: a row for each operation that leanspike knows, of PyTorch and of its own.

A module type, a function or the name of a method is what a row stands under. Rows are read with
:mod:`leanspike.graph.ops`; nobody keeps a list of operations beside them.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.graph import counts, rules
from leanspike.graph.operation import (
    Inner,
    Norm,
    Operation,
    Synapses,
    at_inputs,
    at_outputs,
    at_rows,
)
from leanspike.synapse import EventConv2d, TiledAvgPool2d
from leanspike.temporal import (
    Affine,
    ChannelAffine,
    TemporalDropout,
    TemporalNorm,
    affine_of_norm,
    broadcast,
    repeat,
    stack,
    unstack,
)


def _batch_norm(norm: Any) -> tuple[Tensor, Tensor] | None:
    if norm.running_mean is None or norm.running_var is None:
        return None
    weight, bias = (norm.weight, norm.bias) if norm.affine else (None, None)
    return affine_of_norm(norm.running_mean, norm.running_var, norm.eps, weight, bias)


def _temporal_norm(norm: TemporalNorm) -> tuple[Tensor, Tensor]:
    scale_1C, shift_1C = norm.affine(1)
    return scale_1C[0], shift_1C[0]


def _temporal_norm_folds(norm: TemporalNorm) -> bool:
    return norm.folds


ALONG_DIM = partial(rules.axes, position=1, name="dim")

ANALOG = Operation(rules.analog)
MOVED = Operation(rules.same, follow=counts.moved)

CONVOLUTION = Operation(rules.analog, synapses=Synapses(at_outputs, norm_axis=1))
TRANSPOSED = Operation(rules.analog, synapses=Synapses(at_inputs))
LINEAR = Operation(rules.analog, synapses=Synapses(at_rows, norm_axis=-1))

LEFT = Operation(rules.analog, norm=Norm())
LAYER_NORM = Operation(rules.analog, rules.normalised, norm=Norm())
BATCH_NORM = Operation(rules.analog, norm=Norm(batch=True, channels=_batch_norm, priced=True))

MAX_POOL = Operation(rules.maximum, rules.without_indices, max_pool=True)
AVERAGE_POOL = Operation(rules.average, follow=counts.average_pooled)
ADAPTIVE_POOL = Operation(rules.average, follow=counts.adaptively_pooled)
REDUCED = Operation(rules.average, ALONG_DIM, counts.summed)
MAXIMUM = Operation(rules.maximum, ALONG_DIM)
ALONG_AXIS = Operation(rules.analog, ALONG_DIM)

FLATTENED = replace(MOVED, check=partial(rules.axes, position=1, name="start_dim", default=0))
RESHAPED = replace(MOVED, check=rules.reshaped)
SQUEEZED = replace(MOVED, check=rules.squeezed)
PERMUTED = replace(MOVED, check=rules.permuted)
TRANSPOSE = replace(MOVED, check=rules.transposed)
SPLIT = replace(MOVED, check=partial(rules.axes, position=2, name="dim", default=0))
PADDED = Operation(rules.pad, rules.padded, counts.moved)
INTERPOLATED = Operation(rules.interpolate)
CONCATENATED = Operation(rules.concatenate, rules.concatenated, counts.moved, concatenates=True)
ADDED = Operation(rules.add, follow=counts.moved)
SIZE = Operation(rules.nothing)

DROPPED = replace(MOVED, dropout="elements")
CHANNELS_DROPPED = replace(MOVED, dropout="channels")
SAMPLES_DROPPED = replace(MOVED, check=rules.row_by_row, dropout="samples")
ACTIVATION = Operation(activation=True)

OURS = replace(MOVED, sequence=True)

# Activations that leave negative or graded values: becoming a neuron changes what they compute,
# so that only the user may ask for it.
OTHER_ACTIVATION = Operation(
    refused=(
        "{name} is not a ReLU, and a spiking neuron computes something else",
        "train the network with nn.ReLU, or replace it too with activations=({code},)",
    )
)
CLAMP = Operation(
    refused=("a clamp may be an activation in disguise", "write nn.ReLU for clamp(min=0)")
)


def _refused(fix: str) -> Operation:
    """What would not be counted, or has a time of its own, without a word."""
    return Operation(refused=("{name} cannot be stacked over time or counted", fix))


CONVOLVED = {"weight": None, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
NORMALISED = {"running_mean": None, "running_var": None, "weight": None, "bias": None}
INNER: dict[Any, Inner] = {
    F.conv1d: Inner((nn.Conv1d,), CONVOLVED),
    F.conv2d: Inner((nn.Conv2d,), CONVOLVED),
    F.conv3d: Inner((nn.Conv3d,), CONVOLVED),
    F.linear: Inner((nn.Linear,), {"weight": None, "bias": None}),
    F.batch_norm: Inner(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
        {**NORMALISED, "training": False, "momentum": 0.1, "eps": 1e-5},
    ),
}
"""What layers call inside, so that a subclass which calls it too can be opened."""

LAYERS: dict[type[nn.Module], Operation] = {
    nn.Conv1d: replace(CONVOLUTION, takes="[N, C, L]"),
    nn.Conv2d: replace(CONVOLUTION, takes="[N, C, H, W]", event_driven=EventConv2d),
    nn.Conv3d: replace(CONVOLUTION, takes="[N, C, D, H, W]"),
    nn.Linear: LINEAR,
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), TRANSPOSED),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), BATCH_NORM),
    nn.SyncBatchNorm: Operation(rules.analog, norm=Norm(batch=True, synchronised=True)),
    **dict.fromkeys(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        Operation(rules.analog, norm=Norm(decayed=True)),
    ),
    **dict.fromkeys((nn.GroupNorm, nn.LocalResponseNorm), LEFT),
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), LAYER_NORM),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), MAX_POOL),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), MAX_POOL),
    nn.AvgPool2d: replace(AVERAGE_POOL, tiled=TiledAvgPool2d),
    nn.AdaptiveAvgPool2d: ADAPTIVE_POOL,
    **dict.fromkeys(
        (nn.AvgPool1d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool3d),
        Operation(rules.average),
    ),
    **dict.fromkeys((nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), MOVED),
    nn.Dropout: DROPPED,
    **dict.fromkeys((nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), CHANNELS_DROPPED),
    nn.Flatten: FLATTENED,
    nn.Unflatten: SQUEEZED,
    nn.Upsample: INTERPOLATED,
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d), MOVED),
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), PADDED),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad2d), MOVED),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax), ALONG_AXIS),
    nn.ReLU: ACTIVATION,
    **dict.fromkeys((nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU), OTHER_ACTIVATION),
    **dict.fromkeys((nn.CELU, nn.LeakyReLU, nn.PReLU, nn.Hardswish), OTHER_ACTIVATION),
    **dict.fromkeys((nn.Hardsigmoid, nn.Hardtanh, nn.ReLU6, nn.Softplus), OTHER_ACTIVATION),
    nn.Mish: OTHER_ACTIVATION,
    **dict.fromkeys(
        (nn.LSTM, nn.GRU, nn.RNN), _refused("a recurrent layer has a time of its own; take it out")
    ),
}

FUNCTIONS: dict[Any, Operation] = {
    **dict.fromkeys((F.group_norm, F.instance_norm, F.local_response_norm), ANALOG),
    F.layer_norm: LAYER_NORM,
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), MAX_POOL),
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), MAX_POOL),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d), MAX_POOL),
    F.avg_pool2d: AVERAGE_POOL,
    F.adaptive_avg_pool2d: ADAPTIVE_POOL,
    **dict.fromkeys((F.avg_pool1d, F.avg_pool3d, F.adaptive_avg_pool1d), Operation(rules.average)),
    **dict.fromkeys((F.softmax, F.log_softmax, torch.softmax, torch.log_softmax), ALONG_AXIS),
    F.dropout: DROPPED,
    **dict.fromkeys((F.dropout1d, F.dropout2d, F.dropout3d), CHANNELS_DROPPED),
    F.interpolate: INTERPOLATED,
    F.pad: PADDED,
    torch.flatten: FLATTENED,
    torch.reshape: RESHAPED,
    **dict.fromkeys((torch.squeeze, torch.unsqueeze), SQUEEZED),
    torch.permute: PERMUTED,
    torch.transpose: TRANSPOSE,
    **dict.fromkeys((torch.chunk, torch.split), SPLIT),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), CONCATENATED),
    **dict.fromkeys((torch.mean, torch.sum), REDUCED),
    torch.amax: MAXIMUM,
    **dict.fromkeys((operator.add, torch.add), ADDED),
    operator.iadd: Operation(twin=operator.add),
    **dict.fromkeys((operator.mul, torch.mul, operator.sub, torch.sub, operator.neg), ANALOG),
    **dict.fromkeys((operator.truediv, torch.div, operator.floordiv), ANALOG),
    operator.isub: Operation(twin=operator.sub),
    operator.imul: Operation(twin=operator.mul),
    operator.itruediv: Operation(twin=operator.truediv),
    operator.getitem: replace(MOVED, check=rules.indexed),
    getattr: Operation(rules.nothing, rules.attribute),
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_), ACTIVATION),
    **dict.fromkeys((F.gelu, F.silu, F.sigmoid, F.tanh, F.elu, F.selu), OTHER_ACTIVATION),
    **dict.fromkeys((F.leaky_relu, F.prelu, F.hardswish, F.hardsigmoid), OTHER_ACTIVATION),
    **dict.fromkeys((F.hardtanh, F.relu6, F.softplus, F.mish), OTHER_ACTIVATION),
    **dict.fromkeys((torch.sigmoid, torch.tanh), OTHER_ACTIVATION),
    **dict.fromkeys((torch.clamp, torch.clamp_min), CLAMP),
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d, F.linear, torch.matmul, operator.matmul),
        _refused("use the module (nn.Conv2d, nn.Linear ...), whose operations are counted"),
    ),
    F.batch_norm: _refused("use the module nn.BatchNorm2d"),
    torch.stack: _refused("use torch.cat along axis 1 or later"),
}

METHODS: dict[str, Operation] = {
    "flatten": FLATTENED,
    "reshape": RESHAPED,
    "view": replace(RESHAPED, twin="reshape"),
    **dict.fromkeys(("squeeze", "unsqueeze", "unflatten"), SQUEEZED),
    "squeeze_": Operation(twin="squeeze"),
    "unsqueeze_": Operation(twin="unsqueeze"),
    "permute": PERMUTED,
    "transpose": TRANSPOSE,
    **dict.fromkeys(("chunk", "split"), SPLIT),
    **dict.fromkeys(("mean", "sum"), REDUCED),
    "amax": MAXIMUM,
    "add": ADDED,
    "add_": Operation(twin="add"),
    **dict.fromkeys(("mul", "sub", "div", "neg"), ANALOG),
    "mul_": Operation(twin="mul"),
    "sub_": Operation(twin="sub"),
    "div_": Operation(twin="div"),
    **dict.fromkeys(("softmax", "log_softmax"), ALONG_AXIS),
    **dict.fromkeys(("contiguous", "detach", "clone"), MOVED),
    **dict.fromkeys(("size", "dim"), SIZE),
    **dict.fromkeys(("relu", "relu_"), ACTIVATION),
    **dict.fromkeys(("sigmoid", "tanh", "sigmoid_", "tanh_"), OTHER_ACTIVATION),
    **dict.fromkeys(("clamp", "clamp_", "clamp_min"), CLAMP),
    "matmul": FUNCTIONS[torch.matmul],
}

OWN: dict[Any, Operation] = {
    EventConv2d: replace(LAYERS[nn.Conv2d], event_driven=None),
    TiledAvgPool2d: replace(LAYERS[nn.AvgPool2d], tiled=None),
    **dict.fromkeys((stack, unstack, broadcast, repeat), OURS),
    TemporalDropout: OURS,
    TemporalNorm: Operation(
        rules.analog,
        norm=Norm(channels=_temporal_norm, folds=_temporal_norm_folds, priced=True),
        sequence=True,
        family=True,
    ),
    Affine: Operation(rules.analog, norm=Norm(priced=True), sequence=True),
    ChannelAffine: Operation(rules.analog, norm=Norm(priced=True)),
}

FOREIGN: dict[str, Operation] = {
    "torchvision.ops.stochastic_depth.StochasticDepth": SAMPLES_DROPPED,
    "timm.layers.drop.DropPath": replace(SAMPLES_DROPPED, rate="drop_prob"),
}
"""Layers of packages that leanspike does not import, by their full names."""

ROWS: dict[Any, Operation] = {**LAYERS, **FUNCTIONS, **METHODS, **OWN}
ROWS |= {function: replace(ROWS[function], inner=inner) for function, inner in INNER.items()}
