"""The rules that rows of the table are made of: what a call must not do, and what it emits.

A *check* refuses a call that would mix samples or timesteps, which lie together along axis 0. A
*kind rule* tells the kind of what the call emits from the kinds that enter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from leanspike.graph.samples import counts_samples
from leanspike.graph.signal import Call, Kind

Rule = Callable[[Call], Kind | None]
Check = Callable[[Call], None]

# -- what leaves -------------------------------------------------------------------------------


def analog(call: Call) -> Kind | None:
    """Weights, norms, products: whatever enters, what leaves is analog."""
    return "analog" if call.kinds else None


def same(call: Call) -> Kind | None:
    """Moves or selects entries, so that spikes stay spikes."""
    return call.inputs[0].kind


def nothing(call: Call) -> Kind | None:  # noqa: ARG001
    """Return a size is a number, not a signal."""
    return None


def declared(call: Call, kind: Kind | None) -> Kind | None:  # noqa: ARG001
    """Return what the user says."""
    return kind


def maximum(call: Call) -> Kind | None:
    """Return the maximum of spikes is a spike; of anything else, analog."""
    return "spike" if call.kinds == {"spike"} else "analog"


def average(call: Call) -> Kind | None:
    """Return an average of spikes is graded."""
    return "graded" if call.kinds <= {"spike", "graded"} else "analog"


def add(call: Call) -> Kind | None:
    """Spikes of branches add up to a graded signal; a signal and 0 (``sum``) is that signal."""
    kinds, numbers = _operands(call)
    if len(kinds) == 1 and all(number == 0 for number in numbers):
        return kinds[0]
    return _graded(kinds) if kinds and not numbers else analog(call)


def subtract(call: Call) -> Kind | None:
    """Return a difference of spikes is a sum of them with fixed weights."""
    kind = add(call)
    return "graded" if kind == "spike" else kind


def scale(call: Call) -> Kind | None:
    """Spikes times what is fixed are graded; a product of two signals is analog."""
    kinds, _ = _operands(call)
    signals = [kind for kind in kinds if kind != "constant"]
    return _graded(signals) if len(signals) == 1 else analog(call)


def divide(call: Call) -> Kind | None:
    """Spikes divided by what is fixed are graded, unless it rounds."""
    first = call.operands()[0]
    signal = isinstance(first, fx.Node) and first.meta["signal"].kind not in (None, "constant")
    kind = scale(call)
    rounds = call.argument(2, "rounding_mode") is not None
    return kind if signal and not rounds else analog(call)


def _graded(kinds: Sequence[Kind]) -> Kind:
    return "graded" if set(kinds) <= {"spike", "graded"} else "analog"


def _operands(call: Call) -> tuple[list[Kind], list[Any]]:
    """The kinds of the tensors that are added or multiplied, and the numbers beside them."""
    kinds: list[Kind] = []
    numbers: list[Any] = []
    for operand in call.operands():
        kind = operand.meta["signal"].kind if isinstance(operand, fx.Node) else None
        if kind is None:
            numbers.append(operand)
        else:
            kinds.append(kind)
    if kinds and any(counts_samples(number) for number in numbers):
        call.refuse(
            "computes with the number of samples, which is another where timesteps are stacked",
            "write the number itself, or leave it out",
        )
    return kinds, numbers


def concatenate(call: Call) -> Kind | None:
    """Spikes beside spikes are spikes; beside graded, graded; beside analog, analog."""
    return "spike" if call.kinds == {"spike"} else average(call)


def pad(call: Call) -> Kind | None:
    """Padding with zeros, or with the signal's own entries, keeps the kind."""
    value = call.argument(3, "value", 0) or 0
    mode = call.argument(2, "mode", "constant")
    return same(call) if value == 0 or mode != "constant" else "analog"


def interpolate(call: Call) -> Kind | None:
    """Nearest-neighbour upsampling repeats entries; other modes average them."""
    nearest = call.argument(3, "mode", "nearest").startswith("nearest")
    return same(call) if nearest else average(call)


# -- what must not be --------------------------------------------------------------------------


def axes(call: Call, *, position: int, name: str, default: Any = None) -> None:
    """The axes that an argument names must leave axis 0 out."""
    call.check_axes(call.argument(position, name, default))


def concatenated(call: Call) -> None:
    """Along an axis after the batch, and nothing that has no batch."""
    axes(call, position=1, name="dim", default=0)
    if "constant" in call.kinds:
        call.refuse("puts a constant beside the batch", "take it out, or give it to the input")


def stacked(call: Call) -> None:
    """A new axis after the batch."""
    concatenated(call)
    if call.argument(1, "dim", 0) == -len(call.shapes[0]) - 1:
        call.refuse("puts an axis before the batch", "use the other axes only")


def moved_axes(call: Call) -> None:
    """movedim of axes after the batch."""
    for position, name in ((1, "source"), (2, "destination")):
        axes(call, position=position, name=name)


def flipped(call: Call) -> None:
    """flip of axes after the batch."""
    dims = call.argument(1, "dims")
    call.check_axes(dims if isinstance(dims, (tuple, list)) else list(call.node.args[1:]))


def squeezed(call: Call) -> None:
    """squeeze and unsqueeze of a named axis."""
    dim = call.argument(1, "dim")
    call.check_axes(dim)
    if dim == -len(call.shapes[0]) - 1:
        call.refuse("puts an axis before the batch", "use the other axes only")


def permuted(call: Call) -> None:
    """permute must keep the batch first."""
    order = call.argument(1, "dims")
    order = order if isinstance(order, (tuple, list)) else call.node.args[1:]
    if order[0] not in (0, -len(call.shapes[0])):
        call.refuse("moves the batch axis", "keep axis 0 first")


def transposed(call: Call) -> None:
    """transpose of two axes after the batch."""
    first, second = (call.argument(1, "dim0"), call.argument(2, "dim1"))
    call.check_axes([call.argument(1, "axis0", first), call.argument(2, "axis1", second)])


def indexed(call: Call) -> None:
    """x[:, ...] on a tensor; any item of a tuple or a size."""
    if call.inputs[0].kind in (None, "constant") or not call.shapes:
        return
    items = call.node.args[1]
    first = items[0] if isinstance(items, tuple) and items else items
    named = len(items) - 1 if isinstance(items, tuple) else 0
    whole = first == slice(None) or (first is Ellipsis and named < len(call.shapes[0]))
    if not whole:
        call.refuse("selects samples (axis 0)", "begin the index with ':'")


def padded(call: Call) -> None:
    """Padding of the axes after the batch."""
    if len(call.argument(1, "pad", call.argument(1, "padding", ()))) >= 2 * len(call.shapes[0]):
        call.refuse("pads the batch axis", "pad the other axes only")


def normalised(call: Call) -> None:
    """A norm over trailing axes that must not reach the batch."""
    if len(call.argument(1, "normalized_shape")) >= len(call.shapes[0]):
        call.refuse("normalises over the batch axis", "normalise over the trailing axes only")


def tracked(call: Call) -> None:
    """A batch norm that time reaches has statistics of its own in eval mode."""
    tracks = call.module is not None and getattr(call.module, "running_mean", None) is not None
    if call.inputs[0].timed and not tracks:
        call.refuse(
            "has no running statistics, so that it mixes samples and timesteps",
            "make it with track_running_stats=True and train it, or take nn.GroupNorm",
        )


def spread(call: Call) -> None:
    """Deviations along axes after the batch. ``x.std(False)`` names no axis."""
    dim = call.argument(1, "dim")
    call.check_axes(None if isinstance(dim, bool) else dim)


def without_indices(call: Call) -> None:
    """A max pool that gives the maxima alone."""
    if call.argument(6, "return_indices", False):
        call.refuse("returns indices", "use it without return_indices")


def attribute(call: Call) -> None:
    """x.shape and friends."""
    name = call.node.args[1]
    if name not in ("shape", "dtype", "device", "ndim"):
        call.refuse(f"reads .{name}", "write x.transpose(1, 2) for .T and .mT, or take it out")


def row_by_row(call: Call) -> None:
    """Stochastic depth that draws for each sample."""
    if call.argument(2, "mode", "row") != "row":
        call.refuse("drops all samples of a batch together", "make it with mode='row'")
