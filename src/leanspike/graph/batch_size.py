"""Calls that are given sizes: the number of samples must be that of the signal they are about."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from leanspike.graph.signal import Call, Kind, is_batch_size

# -- what is a number of samples ----------------------------------------------------------------


def note_samples(node: fx.Node) -> None:
    """Note at a node that gives no tensor whether it is the number of samples, or counts them."""
    node.meta["batch_size"] = _reads_batch_size(node)
    node.meta["counts_samples"] = _counts_samples(node)


def counts_samples(value: Any) -> bool:
    """Whether a node gives a number, or several, that depend on how many samples there are."""
    return isinstance(value, fx.Node) and bool(value.meta.get("counts_samples"))


def _reads_batch_size(node: fx.Node) -> bool:
    """Whether a node is ``x.size(0)``, or an entry 0 of ``x.shape`` or ``x.size()``."""
    source: Any = next(iter(node.args), None)
    if node.target == "size":
        return 0 in (*node.args[1:], node.kwargs.get("dim")) and _is_signal(source)
    return _is_shape(source) and node.args[1:] == (0,)


def _counts_samples(node: fx.Node) -> bool:
    source: Any = next(iter(node.args), None)
    if _is_shape(source) and node.target is operator.getitem:
        place: Any = node.args[1]
        first = place.start if isinstance(place, slice) else place
        return first in (0, None)
    if node.target == "size" and (node.args[1:] or node.kwargs):
        return _reads_batch_size(node)
    whole = _is_shape(node) or node.target in ("numel", "nelement")
    return (whole and _is_signal(source)) or any(map(counts_samples, node.all_input_nodes))


def _is_shape(node: Any) -> bool:
    """Whether a node gives all sizes of a signal."""
    if not isinstance(node, fx.Node) or not node.args:
        return False
    all_sizes = node.target == "size" and not node.args[1:] and not node.kwargs
    return (all_sizes or node.args[1:] == ("shape",)) and _is_signal(node.args[0])


def _is_signal(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.meta["signal"].kind not in (None, "constant")


# -- what leaves -------------------------------------------------------------------------------


def expand(call: Call) -> Kind | None:
    """A constant for each sample, as a class token, is a signal; a signal stays what it is."""
    kind = call.inputs[0].kind
    return "analog" if kind == "constant" and _per_sample(call) else kind


def made(call: Call) -> Kind | None:  # noqa: ARG001
    """Zeros and the like for each sample are a signal; others are constants before."""
    return "analog"


def _per_sample(call: Call) -> bool:
    sizes = any(is_batch_size(node) for node in call.node.all_input_nodes)
    like = call.inputs[1:] if call.node.target == "expand_as" else ()
    return sizes or any(signal.kind not in (None, "constant") for signal in like)


# -- what must not be --------------------------------------------------------------------------


def reshaped(call: Call) -> None:
    """view and reshape whose first entry is -1 or the batch size of the very same stream."""
    first = _first_size(call)
    if isinstance(first, int) and first != -1:
        call.refuse(f"bakes the batch size {first} in", "write flatten(1), or -1 for the batch")
    if isinstance(first, fx.Node) and first.meta["signal"].timed != call.inputs[0].timed:
        call.refuse(
            "takes the batch size of a tensor that has no timesteps",
            "take it from the tensor itself, or write flatten(1)",
        )
    if call.out_shape is not None and call.out_shape[:1] != call.shapes[0][:1]:
        call.refuse("changes the batch axis", "leave axis 0 as it is, e.g. flatten(1)")


def _first_size(call: Call) -> Any:
    sizes = call.argument(1, "shape", call.argument(1, "size", call.argument(1, "sizes")))
    return sizes[0] if isinstance(sizes, (tuple, list)) else sizes


def expanded(call: Call) -> None:
    """expand, expand_as and repeat that leave the batch axis as it is, or give a constant one."""
    if call.inputs[0].kind == "constant":
        own = [is_batch_size(node) for node in call.node.all_input_nodes]
        if any(own) and call.node.target != "expand_as" and not is_batch_size(_first_size(call)):
            call.refuse("puts the samples on another axis than 0", "keep axis 0 for the samples")
        return
    grows = len(call.out_shape or ()) != len(call.shapes[0])
    first = _first_size(call)
    kept = -1 if call.node.target == "expand" else 1
    if grows or (isinstance(first, int) and first != kept and call.node.target != "expand_as"):
        call.refuse("repeats the samples", f"write {kept} for axis 0")


def made_of_sizes(call: Call) -> None:
    """Zeros and the like for each sample have the samples first."""
    sizes = _sizes_given(call)
    own = [place for place, size in enumerate(sizes) if counts_samples(size)]
    computed = [n for n in own if not (is_batch_size(sizes[n]) or _is_shape(sizes[n]))]
    if computed:
        call.refuse(
            "makes a tensor of a size that is computed from the number of samples",
            "write x.shape[0] itself as the first size",
        )
    if own != [0]:
        call.refuse("puts the samples on another axis than 0", "keep axis 0 for the samples")


def _sizes_given(call: Call) -> list[Any]:
    """The sizes in the arguments of ``torch.zeros(n, 4)`` and ``x.new_zeros((n, 4))``."""
    args = call.node.args[call.node.op == "call_method" :]
    named = call.node.kwargs.get("size", ())
    given = args[0] if args and isinstance(args[0], (tuple, list)) else args or named
    return list(given) if isinstance(given, (tuple, list)) else [given]
