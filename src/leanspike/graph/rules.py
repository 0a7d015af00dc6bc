"""The rules that rows of the table are made of: what a call must not do, and what it emits.

A *check* refuses a call that would mix samples or timesteps, which lie together along axis 0. A
*kind rule* tells the kind of what the call emits from the kinds that enter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

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
    """A size is a number, not a signal."""
    return None


def declared(call: Call, kind: Kind | None) -> Kind | None:  # noqa: ARG001
    """What the user says."""
    return kind


def maximum(call: Call) -> Kind | None:
    """The maximum of spikes is a spike; of anything else, analog."""
    return "spike" if call.kinds == {"spike"} else "analog"


def average(call: Call) -> Kind | None:
    """An average of spikes is graded."""
    return "graded" if call.kinds <= {"spike", "graded"} else "analog"


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
    return "spike" if call.kinds == {"spike"} else average(call)


def pad(call: Call) -> Kind | None:
    """Padding with zeros, or with the signal's own entries, keeps the kind."""
    value = call.argument(3, "value", 0) or 0
    mode = call.argument(2, "mode", "constant")
    return same(call) if value == 0 or mode != "constant" else "analog"


def interpolate(call: Call) -> Kind | None:
    """Nearest-neighbour upsampling repeats entries; other modes average them."""
    return same(call) if call.argument(3, "mode", "nearest") == "nearest" else average(call)


# -- what must not be --------------------------------------------------------------------------


def axes(call: Call, *, position: int, name: str, default: Any = None) -> None:
    """The axes that an argument names must leave axis 0 out."""
    call.check_axes(call.argument(position, name, default))


def concatenated(call: Call) -> None:
    """Along an axis after the batch, and nothing that has no batch."""
    axes(call, position=1, name="dim", default=0)
    if "constant" in call.kinds:
        call.refuse("puts a constant beside the batch", "take it out, or give it to the input")


def squeezed(call: Call) -> None:
    """squeeze, unsqueeze and unflatten of a named axis."""
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
    call.check_axes([call.argument(1, "dim0"), call.argument(2, "dim1")])


def reshaped(call: Call) -> None:
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
    if call.out_shape is not None and call.out_shape[:1] != call.shapes[0][:1]:
        call.refuse("changes the batch axis", "leave axis 0 as it is, e.g. flatten(1)")


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


def without_indices(call: Call) -> None:
    """A max pool that gives the maxima alone."""
    if call.argument(6, "return_indices", False):
        call.refuse("returns indices", "use it without return_indices")


def attribute(call: Call) -> None:
    """x.shape and friends."""
    if call.node.args[1] not in ("shape", "dtype", "device", "ndim"):
        call.refuse(f"reads .{call.node.args[1]}", "use operations of the table only")


def row_by_row(call: Call) -> None:
    """Stochastic depth that draws for each sample."""
    if call.argument(2, "mode", "row") != "row":
        call.refuse("drops all samples of a batch together", "make it with mode='row'")
