"""The op table: which operations may run on time folded into the batch, and what they emit.

Every edge of a network's graph carries two facts, declared here and never guessed from values:
``timed`` (it depends on the timestep) and ``kind``:

- ``spike``: every entry is 0 or one known height;
- ``graded``: a sum of spikes with fixed weights (averages, sums of branches), whose cost is that
  of the spikes underneath;
- ``analog``: anything else;
- ``constant``: a parameter or buffer, which has no batch axis;
- ``None``: not a tensor (a size, a number).

An operation that is not in the table is refused: it might mix timesteps or samples.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from torch import fx, nn
from torch.nn import functional as F

from leanspike.errors import SurgeryError

Kind = Literal["spike", "graded", "analog", "constant"]


@dataclass(frozen=True)
class Signal:
    """What is declared of an edge: does it depend on the timestep, and what does it carry."""

    timed: bool
    kind: Kind | None


@dataclass(frozen=True)
class Call:
    """One operation of the traced network, as the rules see it.

    ``shapes`` are those of the tensor inputs for the example input, ``inputs`` their facts.
    """

    node: fx.Node
    where: str
    module: nn.Module | None
    inputs: tuple[Signal, ...]
    shapes: tuple[torch.Size, ...]
    out_shape: torch.Size | None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument of the call, or the attribute of that name of the called module."""
        if self.module is not None:
            return getattr(self.module, name, default)
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def refuse(self, why: str, fix: str) -> NoReturn:
        """Stop the surgery: where, why, and the way out."""
        raise SurgeryError(f"{self.where}: {why}; {fix}")

    def check_axes(self, axes: Any) -> None:
        """Refuse an operation along axis 0, where time and samples are folded together."""
        if axes is None:
            self.refuse("works on all axes, samples included", "name the axes, without 0")
        rank = len(self.shapes[0])
        for axis in axes if isinstance(axes, (tuple, list)) else (axes,):
            if not isinstance(axis, int):
                self.refuse("works on an axis that it computes", "write the axis as a number")
            if axis in (0, -rank):
                self.refuse(
                    f"works on axis {axis}, which holds the samples (and timesteps)",
                    "use the other axes only",
                )

    @property
    def kinds(self) -> set[Kind | None]:
        """The kinds of the tensor inputs."""
        return {signal.kind for signal in self.inputs if signal.kind is not None}


Rule = Callable[[Call], Kind | None]


def analog(call: Call) -> Kind | None:
    """Weights, norms, products: whatever enters, what leaves is analog."""
    return "analog" if call.kinds else None


def same(call: Call) -> Kind | None:
    """Moves or selects entries, so that spikes stay spikes."""
    return call.inputs[0].kind


def max_pool(call: Call) -> Kind | None:
    """The maximum of spikes is a spike; of anything else, analog."""
    if call.argument(6, "return_indices", False):
        call.refuse("returns indices", "use it without return_indices")
    return "spike" if call.kinds == {"spike"} else "analog"


def average(call: Call) -> Kind | None:
    """An average of spikes is graded."""
    return "graded" if call.kinds <= {"spike", "graded"} else "analog"


def reduce(call: Call) -> Kind | None:
    """A mean or a sum along named axes."""
    call.check_axes(call.argument(1, "dim"))
    return average(call)


def maximum_along(call: Call) -> Kind | None:
    """amax along named axes."""
    call.check_axes(call.argument(1, "dim"))
    return "spike" if call.kinds == {"spike"} else "analog"


def add(call: Call) -> Kind | None:
    """Spikes of two branches add up to a graded signal."""
    if not call.kinds:
        return None
    if call.argument(2, "alpha", 1) != 1:
        return "analog"
    branches = len(call.inputs) > 1 and all(s.kind in ("spike", "graded") for s in call.inputs)
    return "graded" if branches else "analog"


def concatenate(call: Call) -> Kind | None:
    """Spikes beside spikes are spikes; beside graded, graded; beside analog, analog."""
    call.check_axes(call.argument(1, "dim", 0))
    if "constant" in call.kinds:
        call.refuse("puts a constant beside the batch", "take it out, or give it to the input")
    if call.kinds == {"spike"}:
        return "spike"
    return average(call)


def along_axis(call: Call) -> Kind | None:
    """softmax and the like, along an axis that is named."""
    call.check_axes(call.argument(1, "dim"))
    return "analog"


def keeps_batch(call: Call) -> Kind | None:
    """Must leave axis 0 alone."""
    if call.out_shape is not None and call.out_shape[:1] != call.shapes[0][:1]:
        call.refuse("changes the batch axis", "leave axis 0 as it is, e.g. flatten(1)")
    return same(call)


def squeeze(call: Call) -> Kind | None:
    """squeeze, unsqueeze and unflatten of a named axis."""
    axes = call.argument(1, "dim")
    call.check_axes(axes)
    if axes == -len(call.shapes[0]) - 1:
        call.refuse("puts an axis before the batch", "use the other axes only")
    return same(call)


def flatten(call: Call) -> Kind | None:
    """flatten from an axis after the batch."""
    call.check_axes(call.argument(1, "start_dim", 0))
    return same(call)


def permute(call: Call) -> Kind | None:
    """permute that keeps the batch first."""
    order = call.argument(1, "dims")
    order = order if isinstance(order, (tuple, list)) else call.node.args[1:]
    if order[0] not in (0, -len(call.shapes[0])):
        call.refuse("moves the batch axis", "keep axis 0 first")
    return same(call)


def transpose(call: Call) -> Kind | None:
    """transpose of two axes after the batch."""
    call.check_axes([call.argument(1, "dim0"), call.argument(2, "dim1")])
    return same(call)


def split(call: Call) -> Kind | None:
    """chunk and split along an axis after the batch."""
    call.check_axes(call.argument(2, "dim", 0))
    return same(call)


def reshape(call: Call) -> Kind | None:
    """view and reshape whose first entry is -1 or the batch size of the very same stream."""
    sizes = call.argument(1, "shape", call.argument(1, "size"))
    first = sizes[0] if isinstance(sizes, (tuple, list)) else sizes
    if isinstance(first, int) and first != -1:
        call.refuse(f"bakes the batch size {first} in", "write flatten(1), or -1 for the batch")
    if isinstance(first, fx.Node) and first.meta["signal"].timed != call.inputs[0].timed:
        call.refuse(
            "takes the batch size of a tensor that has no timesteps",
            "take it from the tensor itself, or write flatten(1)",
        )
    return keeps_batch(call)


def index(call: Call) -> Kind | None:
    """x[:, ...] on a tensor; any item of a tuple or a size."""
    if call.inputs[0].kind is None or not call.shapes or call.inputs[0].kind == "constant":
        return call.inputs[0].kind
    items = call.node.args[1]
    first = items[0] if isinstance(items, tuple) and items else items
    named = len(items) - 1 if isinstance(items, tuple) else 0
    whole = first == slice(None) or (first is Ellipsis and named < len(call.shapes[0]))
    if not whole:
        call.refuse("selects samples (axis 0)", "begin the index with ':'")
    return same(call)


def pad(call: Call) -> Kind | None:
    """Padding with zeros, or with the signal's own entries, keeps the kind."""
    value = call.argument(3, "value", 0) or 0
    mode = call.argument(2, "mode", "constant")
    if len(call.argument(1, "pad", call.argument(1, "padding", ()))) >= 2 * len(call.shapes[0]):
        call.refuse("pads the batch axis", "pad the other axes only")
    return same(call) if value == 0 or mode != "constant" else "analog"


def interpolate(call: Call) -> Kind | None:
    """Nearest-neighbour upsampling repeats entries; other modes average them."""
    return same(call) if call.argument(3, "mode", "nearest") == "nearest" else average(call)


def layer_norm(call: Call) -> Kind | None:
    """A norm over trailing axes that must not reach the batch."""
    if len(call.argument(1, "normalized_shape")) >= len(call.shapes[0]):
        call.refuse("normalises over the batch axis", "normalise over the trailing axes only")
    return "analog"


def size(call: Call) -> Kind | None:  # noqa: ARG001
    """A size is a number, not a signal."""
    return None


def attribute(call: Call) -> Kind | None:
    """x.shape and friends."""
    if call.node.args[1] not in ("shape", "dtype", "device", "ndim"):
        call.refuse(f"reads .{call.node.args[1]}", "use operations of the table only")
    return None


OpTable = Mapping[Any, Rule]

MODULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear), analog),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), analog),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), analog),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), analog),
    **dict.fromkeys((nn.GroupNorm, nn.LocalResponseNorm), analog),
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), layer_norm),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), max_pool),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), max_pool),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), average),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), average),
    **dict.fromkeys((nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), same),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), same),
    nn.Flatten: flatten,
    nn.Unflatten: squeeze,
    nn.Upsample: interpolate,
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d), same),
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), pad),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad2d), same),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax), along_axis),
}

FUNCTIONS: dict[Callable[..., Any], Rule] = {
    **dict.fromkeys((F.group_norm, F.instance_norm, F.local_response_norm), analog),
    F.layer_norm: layer_norm,
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), max_pool),
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), max_pool),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d), max_pool),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), average),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d), average),
    **dict.fromkeys((F.softmax, F.log_softmax, torch.softmax, torch.log_softmax), along_axis),
    **dict.fromkeys((F.dropout, F.dropout2d), same),
    F.interpolate: interpolate,
    F.pad: pad,
    torch.flatten: flatten,
    **dict.fromkeys((torch.reshape,), reshape),
    **dict.fromkeys((torch.squeeze, torch.unsqueeze), squeeze),
    torch.permute: permute,
    torch.transpose: transpose,
    **dict.fromkeys((torch.chunk, torch.split), split),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), concatenate),
    **dict.fromkeys((torch.mean, torch.sum), reduce),
    torch.amax: maximum_along,
    **dict.fromkeys((operator.add, torch.add), add),
    **dict.fromkeys((operator.mul, torch.mul, operator.sub, torch.sub, operator.neg), analog),
    **dict.fromkeys((operator.truediv, torch.div, operator.floordiv), analog),
    operator.getitem: index,
    getattr: attribute,
}

METHODS: dict[str, Rule] = {
    "flatten": flatten,
    **dict.fromkeys(("view", "reshape"), reshape),
    **dict.fromkeys(("squeeze", "unsqueeze", "unflatten"), squeeze),
    "permute": permute,
    "transpose": transpose,
    **dict.fromkeys(("chunk", "split"), split),
    **dict.fromkeys(("mean", "sum"), reduce),
    "amax": maximum_along,
    "add": add,
    **dict.fromkeys(("mul", "sub", "div", "neg"), analog),
    **dict.fromkeys(("softmax", "log_softmax"), along_axis),
    **dict.fromkeys(("contiguous", "detach", "clone"), same),
    **dict.fromkeys(("size", "dim"), size),
}

RELU: frozenset[Any] = frozenset(
    (nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
)

# Activations that leave negative or graded values: becoming a neuron changes what they compute,
# so that only the user may ask for it.
OTHER_ACTIVATIONS: frozenset[Any] = frozenset(
    (
        *(nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.PReLU),
        *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.ReLU6, nn.Softplus, nn.Mish),
        *(F.gelu, F.silu, F.sigmoid, F.tanh, F.elu, F.selu, F.leaky_relu, F.prelu, F.hardswish),
        *(F.hardsigmoid, F.hardtanh, F.relu6, F.softplus, F.mish, torch.sigmoid, torch.tanh),
        *("sigmoid", "tanh", "sigmoid_", "tanh_"),
    )
)

CLAMPS: frozenset[Any] = frozenset((torch.clamp, "clamp", "clamp_", "clamp_min", torch.clamp_min))

# Refused with a way out of their own: what else would happen without a word.
FIXES: dict[Any, str] = {
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d, F.linear, torch.matmul, "matmul", operator.matmul),
        "use the module (nn.Conv2d, nn.Linear ...), whose operations are counted",
    ),
    F.batch_norm: "use the module nn.BatchNorm2d",
    **dict.fromkeys((torch.stack,), "use torch.cat along axis 1 or later"),
    **dict.fromkeys(
        (nn.LSTM, nn.GRU, nn.RNN), "a recurrent layer has a time of its own; take it out"
    ),
}

SYNAPTIC: tuple[type[nn.Module], ...] = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
"""Layers whose multiplications (or accumulations) make up the cost of a network."""
