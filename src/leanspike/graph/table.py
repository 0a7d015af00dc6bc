"""The table of operations: a row for each operation that leanspike knows.

The key of a row is a module type, a function or the name of a method. Rows are read with
:mod:`leanspike.graph.ops`. No other list of operations exists.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from leanspike.graph import assignment, costs, products, rows, rules
from leanspike.graph.operation import Inner, Norm, Operation
from leanspike.synapse import EventConv2d, TiledAvgPool2d
from leanspike.temporal import (
    Affine,
    ChannelAffine,
    TemporalDropout,
    TemporalNorm,
    broadcast,
    repeat,
    stack,
    unstack,
)

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
"""Functions that layers call inside. A subclass that calls such a function can be opened."""

LAYERS: dict[type[nn.Module], Operation] = {
    nn.Conv1d: replace(rows.CONVOLUTION, takes="[N, C, L]"),
    nn.Conv2d: replace(rows.CONVOLUTION, takes="[N, C, H, W]", event_driven=EventConv2d),
    nn.Conv3d: replace(rows.CONVOLUTION, takes="[N, C, D, H, W]"),
    nn.Linear: rows.LINEAR,
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), rows.TRANSPOSED),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), rows.BATCH_NORM),
    nn.SyncBatchNorm: rows.SYNC_BATCH_NORM,
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), rows.INSTANCE_NORM),
    nn.GroupNorm: rows.GROUP_NORM,
    nn.LocalResponseNorm: rows.LOCAL_RESPONSE,
    nn.LayerNorm: rows.LAYER_NORM,
    nn.RMSNorm: rows.RMS_NORM,
    nn.MultiheadAttention: Operation(rules.analog, products.attention, inside=True),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), rows.MAX_POOL),
    **dict.fromkeys(
        (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), rows.MAX_POOL
    ),
    nn.AvgPool1d: rows.AVERAGE_POOL[1],
    nn.AvgPool2d: replace(rows.AVERAGE_POOL[2], tiled=TiledAvgPool2d),
    nn.AvgPool3d: rows.AVERAGE_POOL[3],
    nn.AdaptiveAvgPool1d: rows.ADAPTIVE_POOL[1],
    nn.AdaptiveAvgPool2d: rows.ADAPTIVE_POOL[2],
    nn.AdaptiveAvgPool3d: rows.ADAPTIVE_POOL[3],
    nn.Unfold: rows.MOVED,
    nn.Fold: rows.FOLDED,
    **dict.fromkeys(
        (nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), rows.MOVED
    ),
    nn.Dropout: rows.DROPPED,
    **dict.fromkeys((nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), rows.CHANNELS_DROPPED),
    nn.Flatten: rows.MOVED,
    nn.Unflatten: rows.MOVED,
    nn.Upsample: rows.INTERPOLATED,
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d), rows.PADDED),
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), rows.PADDED),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d), rows.MOVED),
    **dict.fromkeys((nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d), rows.MOVED),
    **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d), rows.MOVED),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax), rows.ALONG_AXIS),
    nn.ReLU: rows.ACTIVATION,
    **dict.fromkeys((nn.Sigmoid, nn.Tanh, nn.Hardsigmoid), rows.GATE),
    **dict.fromkeys(
        (nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU), rows.OTHER_ACTIVATION
    ),
    **dict.fromkeys((nn.PReLU, nn.Hardswish, nn.Hardtanh, nn.ReLU6), rows.OTHER_ACTIVATION),
    **dict.fromkeys((nn.Softplus, nn.Mish, nn.RReLU, nn.Softsign), rows.OTHER_ACTIVATION),
    **dict.fromkeys(
        (nn.Threshold, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink), rows.OTHER_ACTIVATION
    ),
    nn.LogSigmoid: rows.GATE,
    nn.Softmin: rows.ALONG_AXIS,
    nn.GLU: rows.GLU,
    nn.CosineSimilarity: rows.SIMILARITY,
    nn.PairwiseDistance: rows.DISTANCE,
    **dict.fromkeys(
        (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell),
        rows.refused("a recurrent layer has a time of its own; take it out"),
    ),
}

FUNCTIONS: dict[Any, Operation] = {
    F.group_norm: rows.GROUP_NORM,
    F.instance_norm: rows.INSTANCE_NORM,
    F.local_response_norm: rows.LOCAL_RESPONSE,
    F.layer_norm: rows.LAYER_NORM,
    F.rms_norm: rows.RMS_NORM,
    F.normalize: Operation(
        rules.analog,
        partial(rules.axes, position=2, name="dim", default=1),
        cost=costs.normalised,
        norm=rows.MEASURES,
    ),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), rows.MAX_POOL),
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), rows.MAX_POOL),
    **dict.fromkeys(
        (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d), rows.MAX_POOL
    ),
    F.avg_pool1d: rows.AVERAGE_POOL[1],
    F.avg_pool2d: rows.AVERAGE_POOL[2],
    F.avg_pool3d: rows.AVERAGE_POOL[3],
    F.adaptive_avg_pool1d: rows.ADAPTIVE_POOL[1],
    F.adaptive_avg_pool2d: rows.ADAPTIVE_POOL[2],
    F.adaptive_avg_pool3d: rows.ADAPTIVE_POOL[3],
    F.unfold: rows.MOVED,
    F.fold: rows.FOLDED,
    **dict.fromkeys((F.softmax, F.log_softmax, torch.softmax, torch.log_softmax), rows.ALONG_AXIS),
    F.dropout: rows.DROPPED,
    **dict.fromkeys((F.dropout1d, F.dropout2d, F.dropout3d), rows.CHANNELS_DROPPED),
    F.interpolate: rows.INTERPOLATED,
    F.pad: rows.PADDED,
    torch.flatten: rows.MOVED,
    torch.reshape: rows.RESHAPED,
    **dict.fromkeys((torch.squeeze, torch.unsqueeze), rows.SQUEEZED),
    torch.permute: rows.PERMUTED,
    **dict.fromkeys((torch.transpose, torch.swapaxes, torch.swapdims), rows.TRANSPOSE),
    **dict.fromkeys((torch.chunk, torch.split), rows.SPLIT),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), rows.CONCATENATED),
    torch.stack: rows.STACKED,
    **dict.fromkeys((torch.movedim, torch.moveaxis), rows.MOVED_AXES),
    torch.roll: rows.ROLLED,
    torch.flip: rows.FLIPPED,
    torch.unbind: rows.UNBOUND,
    **dict.fromkeys((torch.narrow, torch.select), rows.NARROWED),
    **dict.fromkeys((torch.mean, torch.sum), rows.REDUCED),
    **dict.fromkeys((torch.amax, torch.amin), rows.MAXIMUM),
    **dict.fromkeys((torch.max, torch.min), rows.EXTREMUM),
    **dict.fromkeys((torch.maximum, torch.minimum, torch.fmax, torch.fmin), rows.EXTREMUM),
    **dict.fromkeys((torch.median, torch.mode, torch.sort), rows.SORTED),
    **dict.fromkeys((torch.argsort, torch.cummax, torch.cummin), rows.SORTED),
    **dict.fromkeys((torch.topk, torch.kthvalue), rows.CHOSEN),
    **dict.fromkeys((torch.argmax, torch.argmin, torch.logsumexp), rows.ALONG_AXIS),
    **dict.fromkeys((torch.cumsum, torch.cumprod, torch.prod), rows.ALONG_AXIS),
    **dict.fromkeys((torch.std, torch.var, torch.std_mean, torch.var_mean), rows.SPREAD),
    **dict.fromkeys((torch.norm, torch.linalg.norm, torch.linalg.vector_norm), rows.LENGTH),
    **dict.fromkeys((torch.gather, torch.index_select), rows.TAKEN),
    F.cosine_similarity: rows.SIMILARITY,
    F.pairwise_distance: rows.DISTANCE,
    F.glu: rows.GLU,
    F.softmin: rows.ALONG_AXIS,
    **dict.fromkeys((operator.add, torch.add), rows.ADDED),
    operator.iadd: Operation(twin=operator.add),
    **dict.fromkeys((operator.sub, torch.sub), rows.SUBTRACTED),
    **dict.fromkeys((operator.mul, torch.mul, operator.neg, torch.neg), rows.MULTIPLIED),
    **dict.fromkeys((operator.truediv, torch.div), rows.DIVIDED),
    **dict.fromkeys((operator.pow, torch.pow, torch.square), rows.SQUARED),
    **dict.fromkeys((torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.abs), rows.ANALOG),
    **dict.fromkeys((torch.sin, torch.cos), rows.ANALOG),
    operator.floordiv: rows.ANALOG,
    **dict.fromkeys((operator.gt, operator.lt, operator.ge, operator.le), rows.COMPARED),
    **dict.fromkeys((torch.gt, torch.lt, torch.ge, torch.le, torch.heaviside), rows.COMPARED),
    **dict.fromkeys((operator.eq, operator.ne, torch.eq, torch.ne), rows.ANALOG),
    **dict.fromkeys((operator.and_, operator.or_, operator.invert), rows.ANALOG),
    **dict.fromkeys((torch.logical_and, torch.logical_or, torch.logical_not), rows.ANALOG),
    **dict.fromkeys((torch.where, torch.masked_fill), rows.ANALOG),
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), rows.FUNCTIONAL),
    **dict.fromkeys(
        (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), rows.FUNCTIONAL_TRANSPOSED
    ),
    F.linear: rows.FUNCTIONAL_LINEAR,
    **dict.fromkeys((torch.matmul, operator.matmul, torch.bmm), rows.MATRIX_PRODUCT),
    torch.einsum: rows.EINSUM,
    F.scaled_dot_product_attention: rows.ATTENTION,
    **dict.fromkeys((torch.zeros, torch.ones, torch.full), rows.MADE),
    **dict.fromkeys((torch.rand_like, torch.randn_like, torch.bernoulli), rows.DRAWN),
    F.gumbel_softmax: rows.DRAWN,
    **dict.fromkeys((torch.zeros_like, torch.ones_like), rows.ANALOG),
    operator.isub: Operation(twin=operator.sub),
    operator.imul: Operation(twin=operator.mul),
    operator.itruediv: Operation(twin=operator.truediv),
    operator.getitem: replace(rows.MOVED, check=rules.indexed),
    getattr: Operation(rules.nothing, rules.attribute),
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_), rows.ACTIVATION),
    **dict.fromkeys((torch.sigmoid, torch.tanh, F.sigmoid, F.tanh, F.hardsigmoid), rows.GATE),
    **dict.fromkeys((F.gelu, F.silu, F.elu, F.selu, F.celu, F.leaky_relu), rows.OTHER_ACTIVATION),
    **dict.fromkeys((F.prelu, F.hardswish, F.hardtanh, F.relu6), rows.OTHER_ACTIVATION),
    **dict.fromkeys((F.softplus, F.mish, F.rrelu), rows.OTHER_ACTIVATION),
    **dict.fromkeys((F.threshold, F.hardshrink, F.softshrink, F.tanhshrink), rows.OTHER_ACTIVATION),
    **dict.fromkeys((F.logsigmoid, torch.erf), rows.GATE),
    **dict.fromkeys((torch.clamp, torch.clamp_min, torch.clamp_max), rows.IN_DISGUISE),
    **dict.fromkeys(
        (torch.floor, torch.ceil, torch.round, torch.trunc, torch.sign), rows.IN_DISGUISE
    ),
    F.batch_norm: rows.refused("use the module nn.BatchNorm2d"),
}

METHODS: dict[str, Operation] = {
    "flatten": rows.MOVED,
    "reshape": rows.RESHAPED,
    "view": replace(rows.RESHAPED, twin="reshape"),
    "unflatten": rows.MOVED,
    **dict.fromkeys(("squeeze", "unsqueeze"), rows.SQUEEZED),
    "squeeze_": Operation(twin="squeeze"),
    "unsqueeze_": Operation(twin="unsqueeze"),
    "permute": rows.PERMUTED,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), rows.TRANSPOSE),
    **dict.fromkeys(("chunk", "split"), rows.SPLIT),
    **dict.fromkeys(("mean", "sum"), rows.REDUCED),
    **dict.fromkeys(("amax", "amin"), rows.MAXIMUM),
    **dict.fromkeys(("max", "min", "maximum", "minimum"), rows.EXTREMUM),
    **dict.fromkeys(("median", "mode", "sort", "argsort", "cummax", "cummin"), rows.SORTED),
    **dict.fromkeys(("topk", "kthvalue"), rows.CHOSEN),
    **dict.fromkeys(("argmax", "argmin", "logsumexp"), rows.ALONG_AXIS),
    **dict.fromkeys(("cumsum", "cumprod", "prod"), rows.ALONG_AXIS),
    **dict.fromkeys(("std", "var"), rows.SPREAD),
    "norm": rows.LENGTH,
    **dict.fromkeys(("gather", "index_select"), rows.TAKEN),
    "add": rows.ADDED,
    "add_": Operation(twin="add"),
    "sub": rows.SUBTRACTED,
    **dict.fromkeys(("mul", "neg"), rows.MULTIPLIED),
    "div": rows.DIVIDED,
    **dict.fromkeys(("pow", "square"), rows.SQUARED),
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "abs", "sin", "cos"), rows.ANALOG),
    **dict.fromkeys(("matmul", "bmm"), rows.MATRIX_PRODUCT),
    **dict.fromkeys(("movedim", "moveaxis"), rows.MOVED_AXES),
    "roll": rows.ROLLED,
    "flip": rows.FLIPPED,
    "unbind": rows.UNBOUND,
    **dict.fromkeys(("narrow", "select"), rows.NARROWED),
    "unfold": rows.WINDOWS,
    **dict.fromkeys(("expand", "expand_as", "repeat"), rows.EXPANDED),
    **dict.fromkeys(("new_zeros", "new_ones"), rows.MADE),
    **dict.fromkeys(("masked_fill", "where", "logical_not", "eq", "ne"), rows.ANALOG),
    "masked_fill_": Operation(twin="masked_fill"),
    **dict.fromkeys(("gt", "lt", "ge", "le", "heaviside"), rows.COMPARED),
    "view_as": Operation(twin="reshape_as"),
    "reshape_as": rows.MOVED,
    "mul_": Operation(twin="mul"),
    "sub_": Operation(twin="sub"),
    "div_": Operation(twin="div"),
    **dict.fromkeys(("softmax", "log_softmax"), rows.ALONG_AXIS),
    **dict.fromkeys(("contiguous", "detach", "clone", "float", "to", "type_as"), rows.MOVED),
    **dict.fromkeys(("size", "dim"), rows.SIZE),
    **dict.fromkeys(("relu", "relu_"), rows.ACTIVATION),
    **dict.fromkeys(("sigmoid", "tanh", "sigmoid_", "tanh_", "erf"), rows.GATE),
    **dict.fromkeys(("clamp", "clamp_", "clamp_min", "clamp_max"), rows.IN_DISGUISE),
    **dict.fromkeys(("floor", "ceil", "round", "trunc", "sign"), rows.IN_DISGUISE),
}

OWN: dict[Any, Operation] = {
    EventConv2d: replace(LAYERS[nn.Conv2d], event_driven=None),
    TiledAvgPool2d: replace(LAYERS[nn.AvgPool2d], tiled=None),
    **dict.fromkeys((stack, unstack, broadcast, repeat), rows.OURS),
    assignment.assigned: Operation(assignment.entries, assignment.within_samples),
    TemporalDropout: rows.OURS,
    TemporalNorm: Operation(
        rules.analog,
        norm=Norm(channels=rows.temporal_norm, folds=rows.temporal_norm_folds, priced=True),
        sequence=True,
        family=True,
    ),
    Affine: Operation(rules.analog, norm=Norm(priced=True), sequence=True),
    ChannelAffine: Operation(rules.analog, norm=Norm(priced=True)),
}

FOREIGN: dict[str, Operation] = {
    "torchvision.ops.stochastic_depth.StochasticDepth": rows.SAMPLES_DROPPED,
    "timm.layers.drop.DropPath": replace(rows.SAMPLES_DROPPED, rate="drop_prob"),
}
"""Rows of layers from packages that leanspike does not import, by their full names."""

ROWS: dict[Any, Operation] = {**LAYERS, **FUNCTIONS, **METHODS, **OWN}
ROWS |= {function: replace(ROWS[function], inner=inner) for function, inner in INNER.items()}
