"""Rules of calls that take sizes: their number of samples must be that of their own signal."""

from __future__ import annotations

from typing import Any

from leanspike.graph.samples import counts_samples, keeps_apart, samples_of
from leanspike.graph.signal import Call, Kind

# -- what leaves -------------------------------------------------------------------------------


def expand(call: Call) -> Kind | None:
    """Return "analog" for a constant repeated for each sample (a class token), else the kind."""
    kind = call.inputs[0].kind
    return "analog" if kind == "constant" and _per_sample(call) else kind


def made(call: Call) -> Kind | None:
    """Return "analog" for zeros and the like made for each sample, else "constant"."""
    return "analog" if _per_sample(call) else "constant"


def _per_sample(call: Call) -> bool:
    sizes = any(counts_samples(node) for node in call.node.all_input_nodes)
    like = call.inputs[1:] if call.node.target == "expand_as" else ()
    return sizes or any(signal.kind not in (None, "constant") for signal in like)


# -- what must not be --------------------------------------------------------------------------


def reshaped(call: Call) -> None:
    """Refuse view and reshape unless the first size is -1 or follows from the number of samples."""
    first = _first_size(call)
    if isinstance(first, int) and first != -1:
        call.refuse(f"bakes the batch size {first} in", "write flatten(1), or -1 for the batch")


def _first_size(call: Call) -> Any:
    sizes = call.argument(1, "shape", call.argument(1, "size", call.argument(1, "sizes")))
    return sizes[0] if isinstance(sizes, (tuple, list)) else sizes


def expanded(call: Call) -> None:
    """Refuse expand, expand_as and repeat unless they keep the batch axis or make it."""
    if call.inputs[0].kind == "constant":
        own = [counts_samples(node) for node in call.node.all_input_nodes]
        if any(own) and call.node.target != "expand_as" and not counts_samples(_first_size(call)):
            call.refuse("puts the samples on another axis than 0", "keep axis 0 for the samples")
        return
    grows = len(call.out_shape or ()) != len(call.shapes[0])
    first = _first_size(call)
    kept = -1 if call.node.target == "expand" else 1
    baked = isinstance(first, int) and first != kept and call.node.target != "expand_as"
    if grows or baked or (call.out_shape or ())[:1] != call.shapes[0][:1]:
        call.refuse("repeats the samples", f"write {kept} for axis 0")


def made_of_sizes(call: Call) -> None:
    """Refuse zeros and the like whose samples are not on axis 0."""
    own = [place for place, size in enumerate(_sizes_given(call)) if counts_samples(size)]
    if own not in ([], [0]):
        call.refuse("puts the samples on another axis than 0", "keep axis 0 for the samples")


def apart(call: Call) -> None:
    """Refuse a call whose result does not hold each sample by itself along axis 0.

    A sample may lie there in one piece or in several. This check follows the call's own check.
    """
    samples, fails = samples_of(call.node.graph), call.node.meta.get("fails")
    if fails is not None:
        call.refuse(
            f"cannot be computed for {samples + 1} samples ({fails})",
            "write it for any number of them: x.flatten(1), or -1 in place of a number of samples",
        )
    if call.out_shape is not None and not keeps_apart(call.node):
        more = list(call.node.meta.get("more") or ())
        call.refuse(
            f"gives {list(call.out_shape)} for {samples} samples and {more} for {samples + 1}, so "
            "axis 0 does not hold each sample by itself",
            "keep the samples on axis 0: each in one piece, as flatten(1) does, or each in equally "
            "many pieces, as x.reshape(-1, ...) does where the samples come first",
        )


def _sizes_given(call: Call) -> list[Any]:
    """Return the sizes in the arguments of ``torch.zeros(n, 4)`` and ``x.new_zeros((n, 4))``."""
    args = call.node.args[call.node.op == "call_method" :]
    named = call.node.kwargs.get("size", ())
    given = args[0] if args and isinstance(args[0], (tuple, list)) else args or named
    return list(given) if isinstance(given, (tuple, list)) else [given]
