"""The rules in the rows of the table: checks of calls, and the kinds of their outputs.

A *check* refuses a call that would mix samples or timesteps, which lie together along axis 0. A
*kind rule* returns the kind of a call's output, from the kinds of its inputs.
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
    """Return "analog", whatever enters: the rule of weights, norms and products."""
    return "analog" if call.kinds else None


def same(call: Call) -> Kind | None:
    """Return the kind of the input: the call moves or selects entries, so spikes stay spikes."""
    return call.inputs[0].kind


def nothing(call: Call) -> Kind | None:  # noqa: ARG001
    """Return None: a size is a number, not a signal."""
    return None


def declared(call: Call, kind: Kind | None) -> Kind | None:  # noqa: ARG001
    """Return the kind that the user declared."""
    return kind


def maximum(call: Call) -> Kind | None:
    """Return "spike" for a maximum of spikes, else "analog"."""
    return "spike" if call.kinds == {"spike"} else "analog"


def average(call: Call) -> Kind | None:
    """Return "graded" for an average of spikes or graded signals, else "analog"."""
    return "graded" if call.kinds <= {"spike", "graded"} else "analog"


def add(call: Call) -> Kind | None:
    """Return "graded" for a sum of spikes. A signal plus 0 (as in ``sum``) keeps its kind."""
    kinds, numbers = _operands(call)
    if len(kinds) == 1 and all(number == 0 for number in numbers):
        return kinds[0]
    return _graded(kinds) if kinds and not numbers else analog(call)


def subtract(call: Call) -> Kind | None:
    """Return "graded" for a difference of spikes: it is a sum with fixed weights."""
    kind = add(call)
    return "graded" if kind == "spike" else kind


def scale(call: Call) -> Kind | None:
    """Return "graded" for spikes times a constant, "analog" for a product of two signals."""
    kinds, _ = _operands(call)
    signals = [kind for kind in kinds if kind != "constant"]
    return _graded(signals) if len(signals) == 1 else analog(call)


def divide(call: Call) -> Kind | None:
    """Return "graded" for spikes divided by a constant, unless the division rounds."""
    first = call.operands()[0]
    signal = isinstance(first, fx.Node) and first.meta["signal"].kind not in (None, "constant")
    kind = scale(call)
    rounds = call.argument(2, "rounding_mode") is not None
    return kind if signal and not rounds else analog(call)


def _graded(kinds: Sequence[Kind]) -> Kind:
    return "graded" if set(kinds) <= {"spike", "graded"} else "analog"


def _operands(call: Call) -> tuple[list[Kind], list[Any]]:
    """Return the kinds of the tensors that are added or multiplied, and the plain numbers."""
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
            "computes with the number of samples, which differs where timesteps are stacked",
            "write the number itself, or leave it out",
        )
    return kinds, numbers


def concatenate(call: Call) -> Kind | None:
    """Return "spike" if all parts are spikes, "graded" beside graded parts, else "analog"."""
    return "spike" if call.kinds == {"spike"} else average(call)


def pad(call: Call) -> Kind | None:
    """Return the kind of the input if zeros or its own entries pad it, else "analog"."""
    value = call.argument(3, "value", 0) or 0
    mode = call.argument(2, "mode", "constant")
    return same(call) if value == 0 or mode != "constant" else "analog"


def interpolate(call: Call) -> Kind | None:
    """Return the kind of an interpolation: nearest repeats entries, other modes average them."""
    nearest = call.argument(3, "mode", "nearest").startswith("nearest")
    return same(call) if nearest else average(call)


# -- what must not be --------------------------------------------------------------------------


def axes(call: Call, *, position: int, name: str, default: Any = None) -> None:
    """Refuse the call if the axes in an argument include axis 0."""
    call.check_axes(call.argument(position, name, default))


def concatenated(call: Call) -> None:
    """Refuse a concatenation along the batch, or of anything without a batch axis."""
    axes(call, position=1, name="dim", default=0)
    if "constant" in call.kinds:
        call.refuse("puts a constant beside the batch", "take it out, or give it to the input")


def stacked(call: Call) -> None:
    """Refuse a new axis before the batch."""
    concatenated(call)
    if call.argument(1, "dim", 0) == -len(call.shapes[0]) - 1:
        call.refuse("puts an axis before the batch", "use the other axes only")


def moved_axes(call: Call) -> None:
    """Refuse a movedim that moves the batch axis."""
    for position, name in ((1, "source"), (2, "destination")):
        axes(call, position=position, name=name)


def flipped(call: Call) -> None:
    """Refuse a flip of the batch axis."""
    dims = call.argument(1, "dims")
    call.check_axes(dims if isinstance(dims, (tuple, list)) else list(call.node.args[1:]))


def squeezed(call: Call) -> None:
    """Refuse squeeze and unsqueeze of the batch axis or of no named axis."""
    dim = call.argument(1, "dim")
    call.check_axes(dim)
    if dim == -len(call.shapes[0]) - 1:
        call.refuse("puts an axis before the batch", "use the other axes only")


def permuted(call: Call) -> None:
    """Refuse a permute that moves the batch axis."""
    order = call.argument(1, "dims")
    order = order if isinstance(order, (tuple, list)) else call.node.args[1:]
    if order[0] not in (0, -len(call.shapes[0])):
        call.refuse("moves the batch axis", "keep axis 0 first")


def transposed(call: Call) -> None:
    """Refuse a transpose of the batch axis."""
    first, second = (call.argument(1, "dim0"), call.argument(2, "dim1"))
    call.check_axes([call.argument(1, "axis0", first), call.argument(2, "axis1", second)])


def indexed(call: Call) -> None:
    """Refuse an index that selects samples. Any item of a tuple or a size may be read."""
    if call.inputs[0].kind in (None, "constant") or not call.shapes:
        return
    items = call.node.args[1]
    first = items[0] if isinstance(items, tuple) and items else items
    named = len(items) - 1 if isinstance(items, tuple) else 0
    whole = first == slice(None) or (first is Ellipsis and named < len(call.shapes[0]))
    if not whole:
        call.refuse("selects samples (axis 0)", "begin the index with ':'")


def padded(call: Call) -> None:
    """Refuse padding of the batch axis."""
    if len(call.argument(1, "pad", call.argument(1, "padding", ()))) >= 2 * len(call.shapes[0]):
        call.refuse("pads the batch axis", "pad the other axes only")


def normalised(call: Call) -> None:
    """Refuse a norm over trailing axes that include the batch."""
    if len(call.argument(1, "normalized_shape")) >= len(call.shapes[0]):
        call.refuse("normalises over the batch axis", "normalise over the trailing axes only")


def tracked(call: Call) -> None:
    """Refuse a batch norm that time reaches if it has no running statistics."""
    tracks = call.module is not None and getattr(call.module, "running_mean", None) is not None
    if call.inputs[0].timed and not tracks:
        call.refuse(
            "has no running statistics, so it mixes samples and timesteps",
            "make it with track_running_stats=True and train it, or take nn.GroupNorm",
        )


def spread(call: Call) -> None:
    """Refuse deviations along the batch, or without axis. ``x.std(False)`` names no axis."""
    dim = call.argument(1, "dim")
    call.check_axes(None if isinstance(dim, bool) else dim)


def without_indices(call: Call) -> None:
    """Refuse a max pool that returns indices."""
    if call.argument(6, "return_indices", False):
        call.refuse("returns indices", "use it without return_indices")


def attribute(call: Call) -> None:
    """Refuse attributes of a tensor other than shape, dtype, device and ndim."""
    name = call.node.args[1]
    if name not in ("shape", "dtype", "device", "ndim"):
        call.refuse(f"reads .{name}", "write x.transpose(1, 2) for .T and .mT, or take it out")


def row_by_row(call: Call) -> None:
    """Refuse stochastic depth that drops all samples of a batch together."""
    if call.argument(2, "mode", "row") != "row":
        call.refuse("drops all samples of a batch together", "make it with mode='row'")
