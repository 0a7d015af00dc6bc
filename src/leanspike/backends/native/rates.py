"""Rate gradients in native code: spikes and the derivatives of their mean in one walk.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from leanspike.backends.calls import LIFRateCall
from leanspike.backends.native.structures import (
    LIFStructure,
    choices_of,
    constants_of,
    empty_steps,
    filled,
    run,
    side_by_side,
)
from leanspike.backends.rates import Rates


def run_rates(call: LIFRateCall) -> Rates:
    """Compute all timesteps, without gradients."""
    x_TN, learned = call.x_TN.detach(), call.learned
    static = x_TN.shape[0] > 1 and x_TN.stride(0) == 0
    how = static, choices_of(call.dynamics), constants_of(call.dynamics)
    pair = call.leak.detach(), call.threshold.detach()
    found = torch.ops.leanspike.lif_rates(x_TN, *pair, *how, bool(learned), call.arrival_T)
    return rates_of(found, learned)


def rates_of(found: tuple[Tensor, ...], learned: tuple[str, ...]) -> Rates:
    """Return the output of `with_rates` as a record."""
    o_TN, mean_N, by_input, *others = found
    by = dict(zip(("leak", "threshold"), others, strict=True))
    return Rates(o_TN, by_input, {name: by[name] for name in learned}, mean_N)


def with_rates(
    call: LIFStructure, x: Tensor, learns: bool, arrival_T: Tensor | None
) -> tuple[Tensor, ...]:
    """Run a forward call of ``x``; return spikes, mean and derivatives (or empty tensors)."""
    weights = None if arrival_T is None else arrival_T.to(torch.float32).contiguous()
    call.arrival = None if weights is None else weights.data_ptr()
    o_TN, mean_N = empty_steps(x), empty_steps(x[:1])[0]
    slopes = [torch.empty_like(mean_N, dtype=torch.float32) for _ in range(3 if learns else 1)]
    call.spikes, call.mean = o_TN.data_ptr(), mean_N.data_ptr()
    names = "by_input", "by_leak", "by_threshold"
    for name, slope in zip(names, slopes, strict=False):
        setattr(call, name, slope.data_ptr())
    run(call)
    missing = [mean_N.new_empty(0) for _ in range(3 - len(slopes))]
    return o_TN, mean_N, *slopes, *missing


torch.library.define(
    "leanspike::lif_rates",
    "(Tensor x, Tensor leak, Tensor threshold, bool static, int[] choices, float[] constants,"
    " bool learns, Tensor? arrival) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("leanspike::lif_rates", "CPU")
def _lif_rates(x: Tensor, leak: Tensor, threshold: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *how, learns, arrival = rest
    x = side_by_side(x)
    return with_rates(filled(x, leak, threshold, *how), x, learns, arrival)
