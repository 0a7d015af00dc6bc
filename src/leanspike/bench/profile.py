"""The time of a call by kind of work, by PyTorch's profiler."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

CALLS = 3
REST = "rest: Python, dispatch, waiting"
OURS = "GeneratedBackwardFor_leanspike_"
KINDS = {  # the first kind with a word in the operator's name counts
    "convolution": ("conv",),
    "matrix product": ("mm", "linear"),
    "neuron kernel": ("lif",),
    "pooling": ("pool",),
    "copy, fill, stack": ("copy", "clone", "fill", "zero", "cat", "stack", "repeat"),
    "optimiser": ("foreach", "Optimizer"),
    "element by element": (
        *("add", "sub", "mul", "div", "rsub", "gt", "ge", "lt", "le", "abs", "clamp", "where"),
        *("relu", "threshold", "sum", "neg", "pow", "reciprocal", "minimum", "heaviside", "to"),
    ),
}


def kinds_of_work(call: Callable[[], object]) -> dict[str, float]:
    """Return the milliseconds of a call by kind of work, as the mean over three calls.

    The time of an operator excludes operators that it calls. The rest is time outside operators:
    Python, dispatch, autograd. So all kinds add up to the wall-clock time.

    >>> import torch
    >>> shares = kinds_of_work(lambda: torch.randn(200, 200) @ torch.randn(200, 200))
    >>> "matrix product" in shares and REST in shares
    True
    """
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        wall_ms = (time.perf_counter() - start) * 1e3 / CALLS
    shares: dict[str, float] = defaultdict(float)
    for operator in trace.key_averages():
        kind = _kind(operator.key)
        if kind is not None:
            shares[kind] += operator.self_cpu_time_total / 1e3 / CALLS
    shares[REST] = max(0.0, wall_ms - sum(shares.values()))
    return dict(sorted(shares.items(), key=lambda item: (item[0] == REST, -item[1])))


def _kind(operator: str) -> str | None:
    """Return the kind of an operator, or None if it only calls others (autograd, Python)."""
    namespace, colons, name = operator.partition("::")
    if operator.startswith(OURS):  # the forward pass of a leanspike operator, with gradients
        name = operator.removeprefix(OURS)
    elif not colons or namespace.startswith("autograd"):
        return None
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return None
