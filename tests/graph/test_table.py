"""The table: every row is run on stacked time, and every kind is declared as it should be.

Each row needs an example here; a new row without one fails.
"""

import operator
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LIF, SurgeryError, spike
from leanspike.graph import ops
from leanspike.graph.replacement import Parts
from leanspike.graph.rewrite import Rewriting
from leanspike.graph.table import OWN
from leanspike.graph.trace import trace

T, N = 3, 2
L1, L2, L3 = (4, 8), (4, 8, 8), (4, 4, 4, 4)  # a sample's shape with one, two, three axes of space


class SelfAttention(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.inner = nn.MultiheadAttention(features, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x)[0]


class Beside(nn.Module):
    """A module that takes two signals."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x, x.flip(1))


def assigned(x):
    """A shift along an axis, and a row of another height."""
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    y[:, 0] = 2.0
    return y


MODULES = {
    nn.Conv1d: (nn.Conv1d(4, 5, 3), L1),
    nn.Conv2d: (nn.Conv2d(4, 5, 3, stride=2), L2),
    nn.Conv3d: (nn.Conv3d(4, 5, 3), L3),
    nn.Linear: (nn.Linear(8, 5), L1),
    nn.Softmin: (nn.Softmin(1), L1),
    nn.GLU: (nn.GLU(1), L1),
    nn.CosineSimilarity: (Beside(nn.CosineSimilarity()), L2),
    nn.PairwiseDistance: (Beside(nn.PairwiseDistance()), L2),
    nn.ConvTranspose1d: (nn.ConvTranspose1d(4, 5, 3), L1),
    nn.ConvTranspose2d: (nn.ConvTranspose2d(4, 5, 3), L2),
    nn.ConvTranspose3d: (nn.ConvTranspose3d(4, 5, 3), L3),
    nn.BatchNorm1d: (nn.BatchNorm1d(4), L1),
    nn.BatchNorm2d: (nn.BatchNorm2d(4), L2),
    nn.BatchNorm3d: (nn.BatchNorm3d(4), L3),
    nn.SyncBatchNorm: (nn.SyncBatchNorm(4), L2),
    nn.InstanceNorm1d: (nn.InstanceNorm1d(4), L1),
    nn.InstanceNorm2d: (nn.InstanceNorm2d(4), L2),
    nn.InstanceNorm3d: (nn.InstanceNorm3d(4), L3),
    nn.GroupNorm: (nn.GroupNorm(2, 4), L2),
    nn.LocalResponseNorm: (nn.LocalResponseNorm(2), L2),
    nn.LayerNorm: (nn.LayerNorm((8, 8)), L2),
    nn.RMSNorm: (nn.RMSNorm(8), L1),
    nn.MaxPool1d: (nn.MaxPool1d(2), L1),
    nn.MaxPool2d: (nn.MaxPool2d(3, 2, 1), L2),
    nn.MaxPool3d: (nn.MaxPool3d(2), L3),
    nn.AdaptiveMaxPool1d: (nn.AdaptiveMaxPool1d(2), L1),
    nn.AdaptiveMaxPool2d: (nn.AdaptiveMaxPool2d((2, 3)), L2),
    nn.AdaptiveMaxPool3d: (nn.AdaptiveMaxPool3d(2), L3),
    nn.AvgPool1d: (nn.AvgPool1d(2), L1),
    nn.AvgPool2d: (nn.AvgPool2d(3, 2, 1), L2),
    nn.AvgPool3d: (nn.AvgPool3d(2), L3),
    nn.AdaptiveAvgPool1d: (nn.AdaptiveAvgPool1d(2), L1),
    nn.AdaptiveAvgPool2d: (nn.AdaptiveAvgPool2d((2, 3)), L2),
    nn.AdaptiveAvgPool3d: (nn.AdaptiveAvgPool3d(2), L3),
    nn.Identity: (nn.Identity(), L2),
    nn.PixelShuffle: (nn.PixelShuffle(2), L2),
    nn.PixelUnshuffle: (nn.PixelUnshuffle(2), L2),
    nn.ChannelShuffle: (nn.ChannelShuffle(2), L2),
    nn.Dropout: (nn.Dropout(), L2),
    nn.Dropout1d: (nn.Dropout1d(), L1),
    nn.Dropout2d: (nn.Dropout2d(), L2),
    nn.Dropout3d: (nn.Dropout3d(), L3),
    nn.Flatten: (nn.Flatten(), L2),
    nn.Unflatten: (nn.Unflatten(1, (2, 2)), L2),
    nn.Upsample: (nn.Upsample(scale_factor=2), L2),
    nn.ZeroPad1d: (nn.ZeroPad1d(1), L1),
    nn.ZeroPad2d: (nn.ZeroPad2d(1), L2),
    nn.ZeroPad3d: (nn.ZeroPad3d(1), L3),
    nn.ConstantPad1d: (nn.ConstantPad1d(1, 0.5), L1),
    nn.ConstantPad2d: (nn.ConstantPad2d(1, 0.5), L2),
    nn.ConstantPad3d: (nn.ConstantPad3d(1, 0.5), L3),
    nn.ReflectionPad1d: (nn.ReflectionPad1d(1), L1),
    nn.ReflectionPad2d: (nn.ReflectionPad2d(1), L2),
    nn.ReplicationPad2d: (nn.ReplicationPad2d(1), L2),
    nn.ReflectionPad3d: (nn.ReflectionPad3d(1), L3),
    nn.ReplicationPad1d: (nn.ReplicationPad1d(1), L1),
    nn.ReplicationPad3d: (nn.ReplicationPad3d(1), L3),
    nn.CircularPad1d: (nn.CircularPad1d(1), L1),
    nn.CircularPad2d: (nn.CircularPad2d(1), L2),
    nn.CircularPad3d: (nn.CircularPad3d(1), L3),
    nn.Unfold: (nn.Unfold(3, padding=1), L2),
    nn.Fold: (nn.Fold((3, 3), 2), (8, 4)),
    nn.MultiheadAttention: (SelfAttention(8), L1),
    nn.Softmax: (nn.Softmax(1), L2),
    nn.LogSoftmax: (nn.LogSoftmax(-1), L2),
}
FUNCTIONS = {
    F.rms_norm: (lambda x: F.rms_norm(x, (8,)), L2),
    F.normalize: (lambda x: F.normalize(x, dim=2), L2),
    F.adaptive_max_pool3d: (lambda x: F.adaptive_max_pool3d(x, 2), L3),
    F.adaptive_avg_pool3d: (lambda x: F.adaptive_avg_pool3d(x, 2), L3),
    F.unfold: (lambda x: F.unfold(x, 3), L2),
    F.fold: (lambda x: F.fold(x, (3, 3), 2), (8, 4)),
    F.conv1d: (lambda x: F.conv1d(x, torch.ones(2, 4, 3)), L1),
    F.conv2d: (lambda x: F.conv2d(x, torch.ones(2, 4, 3, 3), padding=1), L2),
    F.conv3d: (lambda x: F.conv3d(x, torch.ones(2, 4, 2, 2, 2)), L3),
    F.conv_transpose1d: (lambda x: F.conv_transpose1d(x, torch.ones(4, 2, 3)), L1),
    F.conv_transpose2d: (lambda x: F.conv_transpose2d(x, torch.ones(4, 2, 3, 3)), L2),
    F.conv_transpose3d: (lambda x: F.conv_transpose3d(x, torch.ones(4, 2, 2, 2, 2)), L3),
    F.linear: (lambda x: F.linear(x, torch.ones(3, 8)), L2),
    torch.matmul: (lambda x: torch.matmul(x, x.transpose(2, 3)), L2),
    operator.matmul: (lambda x: x @ torch.ones(8, 3), L2),
    torch.bmm: (lambda x: torch.bmm(x, x.transpose(1, 2)), L1),
    torch.einsum: (lambda x: torch.einsum("ncl,nkl->nck", x, x), L1),
    F.scaled_dot_product_attention: (lambda x: F.scaled_dot_product_attention(x, x, x), L1),
    torch.stack: (lambda x: torch.stack([x, x], 1), L2),
    torch.movedim: (lambda x: torch.movedim(x, 1, -1), L2),
    torch.moveaxis: (lambda x: torch.moveaxis(x, 1, -1), L2),
    torch.roll: (lambda x: torch.roll(x, 1, 2), L2),
    torch.flip: (lambda x: torch.flip(x, (1, 2)), L2),
    torch.unbind: (lambda x: torch.unbind(x, 1)[2], L2),
    torch.narrow: (lambda x: torch.narrow(x, 1, 0, 2), L2),
    torch.select: (lambda x: torch.select(x, 1, 2), L2),
    torch.neg: (lambda x: torch.neg(x), L2),
    operator.pow: (lambda x: x**2, L2),
    torch.pow: (lambda x: torch.pow(x, 2), L2),
    torch.square: (lambda x: torch.square(x), L2),
    torch.exp: (lambda x: torch.exp(x), L2),
    torch.sin: (lambda x: torch.sin(x), L2),
    torch.cos: (lambda x: torch.cos(x), L2),
    torch.cumsum: (lambda x: torch.cumsum(x, 1), L2),
    operator.invert: (lambda x: x * ~torch.zeros(x.shape, dtype=torch.bool), L2),
    torch.full: (lambda x: torch.cat([x, torch.full((x.shape[0], 1, 8), 0.5)], 1), L1),
    torch.log: (lambda x: torch.log(x + 1), L2),
    torch.sqrt: (lambda x: torch.sqrt(x), L2),
    torch.rsqrt: (lambda x: torch.rsqrt(x + 1), L2),
    torch.abs: (lambda x: torch.abs(x), L2),
    torch.zeros: (lambda x: torch.cat([x, torch.zeros((x.shape[0], 1, 8))], 1), L1),
    torch.ones: (lambda x: torch.cat([x, torch.ones((x.size(0), 1, 8))], 1), L1),
    torch.zeros_like: (lambda x: torch.cat([x, torch.zeros_like(x)], 1), L1),
    torch.ones_like: (lambda x: torch.cat([x, torch.ones_like(x)], 1), L1),
    F.group_norm: (lambda x: F.group_norm(x, 2), L2),
    F.instance_norm: (F.instance_norm, L2),
    F.local_response_norm: (lambda x: F.local_response_norm(x, 2), L2),
    F.layer_norm: (lambda x: F.layer_norm(x, (8, 8)), L2),
    F.max_pool1d: (lambda x: F.max_pool1d(x, 2), L1),
    F.max_pool2d: (lambda x: F.max_pool2d(x, 2), L2),
    F.max_pool3d: (lambda x: F.max_pool3d(x, 2), L3),
    torch.max_pool1d: (lambda x: torch.max_pool1d(x, 2), L1),
    torch.max_pool2d: (lambda x: torch.max_pool2d(x, 2), L2),
    torch.max_pool3d: (lambda x: torch.max_pool3d(x, 2), L3),
    F.adaptive_max_pool1d: (lambda x: F.adaptive_max_pool1d(x, 2), L1),
    F.adaptive_max_pool2d: (lambda x: F.adaptive_max_pool2d(x, 2), L2),
    F.avg_pool1d: (lambda x: F.avg_pool1d(x, 2), L1),
    F.avg_pool2d: (lambda x: F.avg_pool2d(x, 2), L2),
    F.avg_pool3d: (lambda x: F.avg_pool3d(x, 2), L3),
    F.adaptive_avg_pool1d: (lambda x: F.adaptive_avg_pool1d(x, 2), L1),
    F.adaptive_avg_pool2d: (lambda x: F.adaptive_avg_pool2d(x, 2), L2),
    F.softmax: (lambda x: F.softmax(x, 1), L2),
    F.log_softmax: (lambda x: F.log_softmax(x, dim=-1), L2),
    torch.softmax: (lambda x: torch.softmax(x, 1), L2),
    torch.log_softmax: (lambda x: torch.log_softmax(x, dim=-1), L2),
    F.dropout: (lambda x: F.dropout(x, 0.5, training=False), L2),
    F.dropout1d: (lambda x: F.dropout1d(x, 0.5, training=False), L1),
    F.dropout2d: (lambda x: F.dropout2d(x, 0.5, training=False), L2),
    F.dropout3d: (lambda x: F.dropout3d(x, 0.5, training=False), L3),
    F.interpolate: (lambda x: F.interpolate(x, scale_factor=2), L2),
    F.pad: (lambda x: F.pad(x, (1, 1, 0, 0, 2, 0)), L2),
    torch.flatten: (lambda x: torch.flatten(x, 1), L2),
    torch.reshape: (lambda x: torch.reshape(x, (-1, 16, 16)), L2),
    torch.squeeze: (lambda x: torch.squeeze(x[:, :1], 1), L2),
    torch.unsqueeze: (lambda x: torch.unsqueeze(x, 2), L2),
    torch.permute: (lambda x: torch.permute(x, (0, 3, 1, 2)), L2),
    torch.transpose: (lambda x: torch.transpose(x, 1, -1), L2),
    torch.swapaxes: (lambda x: torch.swapaxes(x, 1, -1), L2),
    torch.swapdims: (lambda x: torch.swapdims(x, dim0=1, dim1=2), L2),
    torch.chunk: (lambda x: torch.chunk(x, 2, 1)[1], L2),
    torch.split: (lambda x: torch.split(x, 3, dim=2)[2], L2),
    torch.cat: (lambda x: torch.cat([x, x], 1), L2),
    torch.concat: (lambda x: torch.concat([x, x], dim=2), L2),
    torch.concatenate: (lambda x: torch.concatenate([x, x], dim=-1), L2),
    torch.mean: (lambda x: torch.mean(x, (2, 3)), L2),
    torch.sum: (lambda x: torch.sum(x, dim=1, keepdim=True), L2),
    torch.amax: (lambda x: torch.amax(x, (2, 3)), L2),
    operator.add: (lambda x: x + x.mean(1, keepdim=True), L2),
    torch.add: (lambda x: torch.add(x, x.mean(1, keepdim=True)), L2),
    operator.mul: (lambda x: 2 * x, L2),
    torch.mul: (lambda x: torch.mul(x, x), L2),
    operator.sub: (lambda x: 1 - x, L2),
    torch.sub: (lambda x: torch.sub(x, 1), L2),
    operator.neg: (lambda x: -x, L2),
    operator.truediv: (lambda x: x / 2, L2),
    torch.div: (lambda x: torch.div(x, 2), L2),
    operator.floordiv: (lambda x: x.reshape(-1, x.shape[1] // 2, 128), L2),
    operator.getitem: (lambda x: x[:, 1:, ::2], L2),
    getattr: (lambda x: x.view(x.shape[0], -1), L2),
}
ALONG = ("argmax", "argmin", "logsumexp", "cumsum", "cumprod", "prod", "std", "var")
FIRST = ("median", "mode", "sort", "cummax", "cummin", "max", "min")  # of values and places
CHOSEN = ("topk", "kthvalue")
PAIRS = ("maximum", "minimum", "fmax", "fmin")
PLACES = torch.tensor([2, 0])
FUNCTIONS |= {
    **{getattr(torch, n): (lambda x, n=n: getattr(torch, n)(x, 1), L2) for n in ALONG},
    **{getattr(torch, n): (lambda x, n=n: getattr(torch, n)(x, -1)[0], L2) for n in FIRST},
    **{getattr(torch, n): (lambda x, n=n: getattr(torch, n)(x, 2, 1)[0], L2) for n in CHOSEN},
    **{getattr(torch, n): (lambda x, n=n: getattr(torch, n)(x, x.flip(1)), L2) for n in PAIRS},
    torch.amin: (lambda x: torch.amin(x, (2, 3)), L2),
    torch.argsort: (lambda x: torch.argsort(x, stable=True), L2),
    torch.std_mean: (lambda x: torch.std_mean(x, 1)[0], L2),
    torch.var_mean: (lambda x: torch.var_mean(x, dim=-1)[0], L2),
    torch.norm: (lambda x: torch.norm(x, dim=1), L2),
    torch.linalg.norm: (lambda x: torch.linalg.norm(x, dim=2), L2),
    torch.linalg.vector_norm: (lambda x: torch.linalg.vector_norm(x, 1, -1), L2),
    torch.gather: (lambda x: torch.gather(x, 1, x.argsort(dim=1, stable=True)), L1),
    torch.index_select: (lambda x: torch.index_select(x, 1, PLACES), L2),
    F.cosine_similarity: (lambda x: F.cosine_similarity(x, x.flip(1)), L2),
    F.pairwise_distance: (lambda x: F.pairwise_distance(x, x.flip(1)), L2),
    F.glu: (lambda x: F.glu(x, 1), L2),
    F.softmin: (lambda x: F.softmin(x, 1), L2),
    torch.full: (lambda x: torch.cat([x, torch.full((len(x), 1, 8), 0.5)], 1), L1),
    **{f: (lambda x, f=f: f(x, x.flip(1)).float(), L2) for f in (operator.eq, operator.ne)},
    **{f: (lambda x, f=f: f(x, x.flip(1)).float(), L2) for f in (torch.eq, torch.ne)},
    **{f: (lambda x, f=f: f(x == 0, x != 1).float(), L2) for f in (operator.and_, operator.or_)},
    operator.invert: (lambda x: (~(x == 0)).float(), L2),
    torch.logical_and: (lambda x: torch.logical_and(x == 0, x != 1).float(), L2),
    torch.logical_or: (lambda x: torch.logical_or(x == 0, x != 1).float(), L2),
    torch.logical_not: (lambda x: torch.logical_not(x).float(), L2),
    torch.where: (lambda x: torch.where(x == 0, x.flip(1), 2.0), L2),
    torch.masked_fill: (lambda x: torch.masked_fill(x, x == 0, 2.0), L2),
}

METHODS = {
    **{n: (lambda x, n=n: getattr(x, n)(1), L2) for n in ALONG},
    **{n: (lambda x, n=n: getattr(x, n)(-1)[0], L2) for n in FIRST},
    **{n: (lambda x, n=n: getattr(x, n)(2, 1).values, L2) for n in CHOSEN},
    **{n: (lambda x, n=n: getattr(x, n)(x.flip(1)), L2) for n in PAIRS[:2]},
    "amin": (lambda x: x.amin((2, 3)), L2),
    "argsort": (lambda x: x.argsort(stable=True), L2),
    "norm": (lambda x: x.norm(dim=1), L2),
    "gather": (lambda x: x.gather(1, x.argsort(dim=1, stable=True)), L1),
    "index_select": (lambda x: x.index_select(1, PLACES), L2),
    "where": (lambda x: x.where(x == 0, 2.0), L2),
    "logical_not": (lambda x: x.logical_not().float(), L2),
    "eq": (lambda x: x.eq(0).float(), L2),
    "ne": (lambda x: x.ne(0).float(), L2),
    "reshape_as": (lambda x: x.flatten(1).reshape_as(x), L2),
    "matmul": (lambda x: x.matmul(x.transpose(2, 3)), L2),
    "bmm": (lambda x: x.bmm(x.transpose(1, 2)), L1),
    "movedim": (lambda x: x.movedim((1, 2), (2, 1)), L2),
    "moveaxis": (lambda x: x.moveaxis(1, 2), L2),
    "roll": (lambda x: x.roll(1, 2), L2),
    "flip": (lambda x: x.flip(1, 2), L2),
    "unbind": (lambda x: x.unbind(1)[2], L2),
    "narrow": (lambda x: x.narrow(1, 0, 2), L2),
    "unfold": (lambda x: x.unfold(1, 2, 1), L2),
    "select": (lambda x: x.select(1, 2), L2),
    "expand": (lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1), L1),
    "expand_as": (lambda x: x.mean(1, keepdim=True).expand_as(x), L1),
    "repeat": (lambda x: x.repeat(1, 2, 1), L1),
    "new_zeros": (lambda x: torch.cat([x, x.new_zeros(x.size(0), 1, 8)], 1), L1),
    "new_ones": (lambda x: torch.cat([x, x.new_ones((x.shape[0], 1, 8))], 1), L1),
    "masked_fill": (lambda x: x.masked_fill(torch.ones(8, 8).tril() == 0, 2.0), L2),
    "pow": (lambda x: x.pow(2), L2),
    "square": (lambda x: x.square(), L2),
    "exp": (lambda x: x.exp(), L2),
    "sin": (lambda x: x.sin(), L2),
    "cos": (lambda x: x.cos(), L2),
    "cumsum": (lambda x: x.cumsum(2), L2),
    "log": (lambda x: (x + 1).log(), L2),
    "sqrt": (lambda x: x.sqrt(), L2),
    "rsqrt": (lambda x: (x + 1).rsqrt(), L2),
    "abs": (lambda x: x.abs(), L2),
    "float": (lambda x: x.float(), L2),
    "to": (lambda x: x.to(torch.float32), L2),
    "type_as": (lambda x: x.type_as(x), L2),
    "flatten": (lambda x: x.flatten(2), L2),
    "view": (lambda x: x.view(x.size(0), 2, -1), L2),
    "reshape": (lambda x: x.reshape(-1, 8, 4, 8), L2),
    "squeeze": (lambda x: x[:, :, :1].squeeze(2), L2),
    "unsqueeze": (lambda x: x.unsqueeze(-1), L2),
    "permute": (lambda x: x.permute(0, 2, 3, 1), L2),
    "transpose": (lambda x: x.transpose(1, 2), L2),
    "swapaxes": (lambda x: x.swapaxes(axis0=1, axis1=2), L2),
    "swapdims": (lambda x: x.swapdims(1, 2), L2),
    "chunk": (lambda x: x.chunk(2, dim=1)[0], L2),
    "split": (lambda x: x.split([1, 3], 1)[1], L2),
    "unflatten": (lambda x: x.unflatten(1, (2, 2)), L2),
    "mean": (lambda x: x.mean((-2, -1)), L2),
    "sum": (lambda x: x.sum(1), L2),
    "amax": (lambda x: x.amax(dim=(1, 2)), L2),
    "add": (lambda x: x.add(1), L2),
    "mul": (lambda x: x.mul(x), L2),
    "sub": (lambda x: x.sub(1), L2),
    "div": (lambda x: x.div(2), L2),
    "neg": (lambda x: x.neg(), L2),
    "softmax": (lambda x: x.softmax(1), L2),
    "log_softmax": (lambda x: x.log_softmax(dim=1), L2),
    "contiguous": (lambda x: x.contiguous(), L2),
    "detach": (lambda x: x.detach(), L2),
    "clone": (lambda x: x.clone(), L2),
    "size": (lambda x: x.view(x.size(0), x.size(1), -1), L2),
    "dim": (lambda x: x.view(x.size(0), x.dim(), -1), L2),
}
EXAMPLES = MODULES | FUNCTIONS | METHODS
PLACED = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)  # TemporalDropout takes their place


class After(nn.Module):
    """An operation after an activation (and a weight before it, to have some)."""

    def __init__(self, op, before=lambda x: x):
        super().__init__()
        self.op = op
        self.before = before

    def forward(self, x):
        return self.op(self.before(F.relu(x)))


def name_of(op):
    return op if isinstance(op, str) else f"{op.__module__.split('.')[-1]}.{op.__name__}"


def last_kind(ann, sample):
    """What the rewriting says of the output. That it computes the same is for other tests."""
    root = deepcopy(ann)
    graph = trace(root, torch.rand(1, *sample), ops.OPERATIONS).graph
    parts = Parts(lambda _path: LIF(), norm=None, operations=ops.OPERATIONS)
    Rewriting(root, graph, parts).run(ops.Signal(timed=False, kind="analog"))
    return graph.output_node().meta["signal"].kind


def test_every_row_of_the_table_has_an_example():
    of_pytorch = {op: row for op, row in ops.OPERATIONS.rows.items() if op not in OWN}
    assert {op for op, row in of_pytorch.items() if row.kind is not None} == set(EXAMPLES)


@pytest.mark.parametrize("op", EXAMPLES, ids=name_of)
@torch.no_grad()
def test_every_row_keeps_steps_and_samples_apart(op):
    example, sample = EXAMPLES[op]
    torch.manual_seed(0)
    ann = After(example).eval()
    x_TN = torch.randn(T, N, *sample)
    snn = spike(ann, example_input=x_TN[:, :1], encode="frames", neuron=nn.ReLU())
    used = {snn._modules.get(n.target, n.target) for n in snn.plan.graph.nodes}
    used |= {kind for module in snn.modules() for kind in type(module).__mro__}
    assert op in used or op in (*PLACED, *DROPOUTS, "view", "dim")  # a reshape, a number
    y_TNK = snn(x_TN)
    for t in range(T):
        torch.testing.assert_close(y_TNK[t], ann(x_TN[t]))
    torch.testing.assert_close(snn(x_TN[:, 1:]), y_TNK[:, 1:])


@pytest.mark.parametrize("op", EXAMPLES, ids=name_of)
def test_every_row_has_rate_gradients(op):
    """Of one step they are backpropagation's; see tests/execute/test_rate.py for several."""
    example, sample = EXAMPLES[op]
    torch.manual_seed(0)
    ann, x_TN = After(example, lambda x: x * (0.5 + x)).eval(), torch.rand(T, N, *sample)
    snn = spike(ann, example_input=x_TN[:, :1], encode="frames", neuron=LIF(0.3)).double()
    x_TN = x_TN.double()
    assert torch.equal(snn(x_TN, gradient="rate"), snn(x_TN))
    found = []
    for gradient in ("bptt", "rate"):
        x_1N = x_TN[:1].clone().requires_grad_()
        y_1NK = snn(x_1N, gradient=gradient)
        weights = torch.linspace(-1, 2, y_1NK.numel()).view_as(y_1NK)
        total = (weights * y_1NK).sum()
        found.append(torch.autograd.grad(total, x_1N)[0] if total.requires_grad else None)
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10, equal_nan=True)  # as of sqrt at 0


@pytest.mark.parametrize("op", [op for op in EXAMPLES if ops.row(op).linear], ids=name_of)
@torch.no_grad()
def test_a_row_that_is_linear_makes_of_a_mean_the_mean(op):
    example, sample = EXAMPLES[op]
    torch.manual_seed(0)
    x_TN = torch.rand(T, N, *sample)
    ann = After(example).eval()
    snn = spike(ann, example_input=x_TN[:, :1], encode="frames", neuron=nn.ReLU())
    torch.testing.assert_close(snn(x_TN).mean(0), snn(x_TN.mean(0, keepdim=True))[0])


DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

SAME = {"spike": "spike", "graded": "graded", "analog": "analog"}
AVERAGE = {"spike": "graded", "graded": "graded", "analog": "analog"}
MAXIMUM = {"spike": "spike", "graded": "analog", "analog": "analog"}
ANALOG = {"spike": "analog", "graded": "analog", "analog": "analog"}
WEIGHTED = [
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.SyncBatchNorm, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LocalResponseNorm),
    *(nn.LayerNorm, nn.RMSNorm, nn.Softmax, nn.LogSoftmax, F.group_norm, F.instance_norm),
    *(F.local_response_norm, F.layer_norm, F.softmax, F.log_softmax, torch.softmax),
    *(torch.log_softmax, torch.mul, operator.sub, torch.sub),
    *("add", "mul", "sub", "softmax", "log_softmax", F.rms_norm, F.normalize, operator.pow),
    *(torch.sin, torch.cos, torch.cumsum, "sin", "cos", "cumsum", torch.full, operator.invert),
    *(torch.pow, torch.square, torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.abs),
    *("pow", "square", "exp", "log", "sqrt", "rsqrt", "abs", "matmul", "bmm", "masked_fill"),
    *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    *(F.linear, torch.matmul, operator.matmul, torch.bmm, torch.einsum, torch.zeros, torch.ones),
    *(F.scaled_dot_product_attention, nn.MultiheadAttention, torch.zeros_like, torch.ones_like),
    *("new_zeros", "new_ones", nn.Softmin, nn.GLU, nn.CosineSimilarity, nn.PairwiseDistance),
    *(F.softmin, F.glu, F.cosine_similarity, F.pairwise_distance, torch.full, torch.where, "where"),
    *(torch.masked_fill, torch.std_mean, torch.var_mean, torch.norm, torch.linalg.norm),
    *(torch.linalg.vector_norm, "norm", *ALONG, *(getattr(torch, n) for n in (*ALONG, *PAIRS))),
    *(*PAIRS[:2], torch.argsort, "argsort", operator.eq, operator.ne, torch.eq, torch.ne),
    *(operator.and_, operator.or_, operator.invert, torch.logical_and, torch.logical_or),
    *(torch.logical_not, "logical_not", "eq", "ne"),
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),  # here with 0.5
]
AVERAGING = [
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveAvgPool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d),
    *(F.adaptive_avg_pool2d, torch.mean, torch.sum, "mean", "sum", operator.add, torch.add),
    *(F.adaptive_avg_pool3d, nn.Fold, F.fold, operator.mul, operator.truediv, torch.div),
    *(operator.neg, torch.neg, "div", "neg", "expand_as"),
]
MAXIMA = [
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
    *(nn.AdaptiveMaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d),
    *(torch.max_pool2d, torch.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d),
    *(F.adaptive_max_pool3d, torch.amax, "amax", torch.amin, "amin", *FIRST, *CHOSEN),
    *(getattr(torch, name) for name in (*FIRST, *CHOSEN)),
]
KINDS = (
    dict.fromkeys(EXAMPLES, SAME)
    | dict.fromkeys(WEIGHTED, ANALOG)
    | dict.fromkeys(AVERAGING, AVERAGE)
    | dict.fromkeys(MAXIMA, MAXIMUM)
)
BEFORE = {"spike": lambda x: x, "graded": lambda x: x + x[:, :], "analog": lambda x: x * x}


@pytest.mark.parametrize("op", EXAMPLES, ids=name_of)
def test_every_row_declares_what_it_emits(op):
    example, sample = EXAMPLES[op]
    found = {k: last_kind(After(example, before), sample) for k, before in BEFORE.items()}
    assert found == KINDS[op]


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (lambda x: F.pad(x, (1, 1)), "spike"),
        (lambda x: F.pad(x, (1, 1), value=0.0), "spike"),
        (lambda x: F.pad(x, (1, 1), value=1.0), "analog"),
        (lambda x: F.pad(x, (1, 1), "constant", 1.0), "analog"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "spike"),
        (nn.ConstantPad2d(1, 0.0), "spike"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "graded"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "graded"),
        (lambda x: torch.add(x, x[:, :], alpha=2), "graded"),
        (lambda x: x + x, "graded"),
        (lambda x: sum([x]), "spike"),
        (lambda x: sum([x, x, x.mean(1, keepdim=True)]), "graded"),
        (lambda x: 2 * x, "graded"),
        (lambda x: x - x[:, :], "graded"),
        (lambda x: 0 - x, "graded"),
        (lambda x: 1 - x, "analog"),
        (lambda x: x / 3, "graded"),
        (lambda x: 3 / (x + 1), "analog"),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), "analog"),
        (lambda x: x * torch.ones(4, 1, 1), "graded"),
        (lambda x: x * x, "analog"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), "spike"),
        (lambda x: torch.stack([x, x.mean(1, keepdim=True).expand_as(x)], 1).sum(1), "graded"),
        (lambda x: x + 1, "analog"),
        (lambda x: torch.cat([x, x * x], 1), "analog"),
        (lambda x: torch.cat([x, x.mean(1, keepdim=True)], 1), "graded"),
        (lambda x: x.mean(1, keepdim=True) + x, "graded"),
        (lambda x: x + x * 2, "graded"),
        (lambda x: x + x * x, "analog"),
        (lambda x: x[..., 0], "spike"),
        (lambda x: x[:, None], "spike"),
        (lambda x: x[:, [1, 0]], "spike"),
        (lambda x: F.max_pool2d(x.mean(1, keepdim=True), 2), "analog"),
    ],
)
@torch.no_grad()
def test_what_is_emitted_may_depend_on_arguments_and_partners(op, kind):
    ann, x = After(op), torch.rand(N, *L2)
    assert last_kind(ann, L2) == kind
    relus = spike(ann, example_input=x[:1], neuron=nn.ReLU(), timesteps=T)
    torch.testing.assert_close(relus(x)[-1], ann(x))


@pytest.mark.parametrize(
    ("op", "why", "fix"),
    [
        (lambda x: x.mean(), "all axes, samples included", "name the axes, without 0"),
        (lambda x: torch.sum(x), "all axes, samples included", "name the axes"),
        (lambda x: x.mean(0), "works on axis 0", "use the other axes only"),
        (lambda x: x.mean((0, 2)), "works on axis 0", "use the other axes only"),
        (lambda x: x.sum(dim=-4), "works on axis -4", "use the other axes only"),
        (lambda x: torch.amax(x, 0), "works on axis 0", "use the other axes only"),
        (lambda x: x.softmax(0), "works on axis 0", "use the other axes only"),
        (lambda x: F.log_softmax(x, -4), "works on axis -4", "use the other axes only"),
        (nn.Softmax(0), "works on axis 0", "use the other axes only"),
        (lambda x: torch.cat([x, x]), "works on axis 0", "use the other axes only"),
        (lambda x: torch.cat([x, x], dim=-4), "works on axis -4", "use the other axes"),
        (lambda x: x.squeeze(), "all axes, samples included", "name the axes"),
        (lambda x: x.squeeze(0), "works on axis 0", "use the other axes only"),
        (lambda x: x.unsqueeze(0), "works on axis 0", "use the other axes only"),
        (lambda x: x.unsqueeze(-5), "puts an axis before the batch", "use the other axes"),
        (lambda x: x.permute(1, 0, 2, 3), "moves the batch axis", "keep axis 0 first"),
        (lambda x: torch.permute(x, (1, 0, 2, 3)), "moves the batch axis", "keep axis 0 first"),
        (lambda x: x.transpose(0, 1), "works on axis 0", "use the other axes only"),
        (lambda x: x.transpose(1, -4), "works on axis -4", "use the other axes only"),
        (lambda x: x.swapaxes(axis0=0, axis1=1), "works on axis 0", "use the other axes only"),
        (lambda x: x.chunk(2)[0], "works on axis 0", "use the other axes only"),
        (lambda x: torch.split(x, 1)[0], "works on axis 0", "use the other axes only"),
        (
            lambda x: x.unflatten(0, (1, -1)),
            "gives [1, 1, 4, 8, 8] for 1 samples",
            "keep the samples",
        ),
        (nn.Unflatten(-4, (1, -1)), "and [1, 2, 4, 8, 8] for 2", "keep the samples on axis 0"),
        (lambda x: x.mean(x.shape[1] // 2), "an axis that it computes", "write the axis as a n"),
        (lambda x: x.reshape(1, -1), "bakes the batch size 1 in", "-1 for the batch"),
        (lambda x: x.view((1, -1)), "bakes the batch size 1 in", "-1 for the batch"),
        (lambda x: torch.reshape(x, shape=(1, -1)), "bakes the batch size 1 in", "flatten(1)"),
        (lambda x: x[0], "selects samples (axis 0)", "begin the index with ':'"),
        (lambda x: x[:1], "selects samples (axis 0)", "begin the index with ':'"),
        (lambda x: x[None], "selects samples (axis 0)", "begin the index with ':'"),
        (lambda x: x[..., :, :, :, :], "selects samples (axis 0)", "begin the index with ':'"),
        (lambda x: x[x.shape[0] - 1], "selects samples (axis 0)", "begin the index with ':'"),
        (lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1)), "pads the batch axis", "pad the other"),
        (lambda x: F.layer_norm(x, (1, 4, 8, 8)), "normalises over the batch", "trailing axes"),
        (nn.LayerNorm((1, 4, 8, 8)), "normalises over the batch", "trailing axes only"),
        (nn.MaxPool2d(2, return_indices=True), "returns indices", "without return_indices"),
        (lambda x: x.mT, "reads .mT", "write x.transpose(1, 2) for .T and .mT"),
    ],
)
def test_operations_that_reach_the_samples_are_refused(op, why, fix):
    with pytest.raises(SurgeryError) as error:
        spike(After(op), example_input=torch.rand(1, *L2))
    assert why in str(error.value)
    assert fix in str(error.value)
    assert "in the network itself" in str(error.value) or "module op" in str(error.value)


def test_a_call_on_constants_gives_a_constant_whatever_the_axis():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.rand(6, 4))

        def forward(self, x):
            y = F.relu(x)
            shift = self.table.mean(0) + self.table[0] - self.table.flatten(0)[:4]
            return y * self.table.sum(0, keepdim=True) + shift / y.shape[1]

    ann, x = Net(), torch.rand(N, 4)
    snn = spike(ann, example_input=x[:1], neuron=nn.ReLU(), timesteps=T)
    torch.testing.assert_close(snn(x)[-1], ann(x))


@pytest.mark.parametrize("scale", [lambda g, x: g * x, lambda g, x: x * g, torch.mul])
def test_a_constant_may_stand_on_either_side(scale):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.rand(4, 1, 1))

        def forward(self, x):
            return scale(self.gamma, F.relu(x))

    ann, x = Scaled(), torch.rand(N, *L2)
    snn = spike(ann, example_input=x, neuron=nn.ReLU(), timesteps=T)
    torch.testing.assert_close(snn(x)[-1], ann(x))
