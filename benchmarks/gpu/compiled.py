"""The same by `torch.compile`: of the whole network, and of its neurons alone.

Each compilation takes a while; so these come last, the most telling first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.cases import Case, Found, Options
from benchmarks.gpu.times import DTYPES, Work, measure_layer, measure_network
from leanspike.backends import Dynamics, reference

LIMIT = 120.0


def cases(options: Options) -> Sequence[Case]:
    """T = 4 before the others, bfloat16 before float32, training before inference."""
    layer = Case(
        "one layer of neurons, forward and backward, compiled", partial(_layer, options), LIMIT
    )
    steps = sorted(options.timesteps, key=lambda timesteps: abs(timesteps - 4))
    works = [
        Work(train, timesteps, dtype, how)
        for timesteps in (*steps[:1], 0, *steps[1:])
        for dtype in DTYPES
        for train in (True, False)
        for how in (("network", "neurons") if timesteps else ("network",))
    ]
    return [layer, *(Case(work.name, partial(_network, work, options), LIMIT) for work in works)]


def _network(work: Work, options: Options) -> Found:
    torch.compiler.reset()
    return measure_network(work, options)


def _layer(options: Options) -> Found:
    torch.compiler.reset()
    compiled: Callable[[Tensor, Tensor, Tensor, Dynamics], Tensor]
    compiled = torch.compile(reference.lif, dynamic=False)
    return measure_layer(options, compiled)
