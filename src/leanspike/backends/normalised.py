"""The reference of a batch norm in training and the LIF neurons behind it, in plain PyTorch.

A backend that computes both at once need not write the normalised currents to memory.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, C, ...]``, ``_N`` is
``[N, C, ...]``. ``_GC``: ``[G, C]``, a value for each channel of each group of steps that has
statistics of its own: G is 1, all steps together, or T, each step by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from leanspike.backends import norms, rates, reference
from leanspike.backends.norms import Followed, NormScale
from leanspike.backends.rates import Rates
from leanspike.backends.reference import Dynamics


@dataclass(frozen=True)
class Normalised:
    """The spikes ``o_TN`` of neurons behind a norm, and the statistics ``[G, C]`` of its input.

    Variances divide by n, the number of values. The statistics have no gradients.

    >>> x_TN, one = torch.tensor([[[1.0], [5.0]]]), torch.tensor(1.0)
    >>> found = norm_lif(x_TN, NormScale(torch.ones(1, 1), None, 0.0), one, one / 2, Dynamics())
    >>> found.o_TN.flatten().tolist(), found.mean_GC.item(), found.var_GC.item()
    ([0.0, 1.0], 3.0, 4.0)
    """

    o_TN: Tensor
    mean_GC: Tensor
    var_GC: Tensor


@dataclass(frozen=True)
class NormalisedRates:
    """For rate gradients: what neurons behind a norm did, and what the norm was given.

    ``rates``: of the neurons, by the normalised current. ``x_N``: the mean input of the norm over
    time. ``followed``: its statistics, and how its steps follow that mean.

    >>> x_TN, one = torch.tensor([[[1.0], [5.0]], [[3.0], [3.0]]]), torch.tensor(1.0)
    >>> norm = NormScale(torch.ones(1, 1), None, 0.0)
    >>> found = norm_lif_rates(x_TN, norm, one, one, Dynamics(), ())
    >>> found.x_N.flatten().tolist(), found.followed.var_GC.item()
    ([2.0, 4.0], 2.0)
    """

    rates: Rates
    x_N: Tensor
    followed: Followed


def norm_lif(
    x_TN: Tensor, norm: NormScale, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> Normalised:
    """Compute norm and neurons one after the other, with currents in float32 or wider."""
    found = norms.norm(x_TN.to(torch.promote_types(x_TN.dtype, torch.float32)), norm)
    o_TN = reference.lif(found.y_TN, leak, threshold, dynamics).to(x_TN.dtype)
    return Normalised(o_TN, found.mean_GC, found.var_GC)


@torch.no_grad()
def norm_lif_rates(
    x_TN: Tensor,
    norm: NormScale,
    leak: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    learned: tuple[str, ...],
    arrival_T: Tensor | None = None,
) -> NormalisedRates:
    """Compute norm, neurons and the derivatives of their mean output, without gradients."""
    x_N, wide_TN = x_TN.mean(0), x_TN.to(torch.promote_types(x_TN.dtype, torch.float32))
    followed = norms.followed(x_TN, x_N, norm)
    y_TN = norms.normalised(wide_TN, norm, followed.mean_GC, followed.var_GC)
    found = rates.lif_rates(y_TN, leak, threshold, dynamics, learned, arrival_T)
    o_TN = found.o_TN.to(x_TN.dtype)
    return NormalisedRates(Rates(o_TN, found.by_input, found.by), x_N, followed)
