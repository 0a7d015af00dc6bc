"""Where the time of a call goes, by kind of work, as PyTorch's profiler tells it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

CALLS = 3
REST = "rest: Python, dispatch, waiting"
OURS = "GeneratedBackwardFor_leanspike_"
KINDS = {  # the first whose word is in an operator's name
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
    """Milliseconds of one call by kind of work, the mean over three calls.

    An operator counts for its own time, without what it calls. The rest is what no operator
    accounts for: Python, dispatch, autograd. All kinds thus add up to the wall-clock time.

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
    """The kind of an operator; None for what only holds others (autograd's nodes, Python)."""
    namespace, colons, name = operator.partition("::")
    if operator.startswith(OURS):  # the forward pass of an operator of ours, with gradients
        name = operator.removeprefix(OURS)
    elif not colons or namespace.startswith("autograd"):
        return None
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return None
