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

from leanspike.backends import rates, reference
from leanspike.backends.rates import Rates
from leanspike.backends.reference import Dynamics


@dataclass(frozen=True)
class NormScale:
    """The parameters of a norm in training, y = γ·(x − μ)/√(σ² + ε) + β.

    ``weight_GC`` is γ, ``bias_GC`` is β (None: 0), ``eps`` is ε.

    >>> NormScale(torch.ones(1, 3), None, 1e-5).groups
    1
    """

    weight_GC: Tensor
    bias_GC: Tensor | None
    eps: float

    @property
    def groups(self) -> int:
        """The number of groups, G."""
        return len(self.weight_GC)

    def affine(self, mean_GC: Tensor, var_GC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scale and shift of y = scale·x + shift, both ``[G, C]``.

        >>> scale = NormScale(torch.ones(1, 1), torch.ones(1, 1), 0.0)
        >>> scale.affine(torch.full((1, 1), 2.0), torch.full((1, 1), 4.0))
        (tensor([[0.5000]]), tensor([[0.]]))
        """
        scale_GC = self.weight_GC * (var_GC + self.eps).rsqrt()
        shift_GC = -mean_GC * scale_GC
        return scale_GC, shift_GC if self.bias_GC is None else shift_GC + self.bias_GC


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
    """The rates of neurons behind a norm over all steps, and the statistics, for rate gradients.

    ``rates`` are those of the neurons, by the normalised current. ``x_N`` is the norm's mean input
    over time. ``mean_C`` and ``var_C`` are the statistics over its steps.

    >>> x_TN, one = torch.tensor([[[1.0], [5.0]], [[3.0], [3.0]]]), torch.tensor(1.0)
    >>> norm = NormScale(torch.ones(1, 1), None, 0.0)
    >>> found = norm_lif_rates(x_TN, norm, one, one, Dynamics(), ())
    >>> found.x_N.flatten().tolist(), found.var_C.item()
    ([2.0, 4.0], 2.0)
    """

    rates: Rates
    x_N: Tensor
    mean_C: Tensor
    var_C: Tensor


def norm_lif(
    x_TN: Tensor, norm: NormScale, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> Normalised:
    """Compute norm and neurons one after the other, with currents in float32 or wider."""
    wide_TN = x_TN.to(torch.promote_types(x_TN.dtype, torch.float32))
    mean_GC, var_GC = moments(wide_TN, norm.groups)
    y_TN = normalised(wide_TN, norm, mean_GC, var_GC)
    o_TN = reference.lif(y_TN, leak, threshold, dynamics).to(x_TN.dtype)
    return Normalised(o_TN, mean_GC.detach(), var_GC.detach())


@torch.no_grad()
def norm_lif_rates(
    x_TN: Tensor,
    norm: NormScale,
    leak: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    learned: tuple[str, ...],
) -> NormalisedRates:
    """Compute norm, neurons and the derivatives of their mean output, without gradients."""
    wide_TN = x_TN.to(torch.promote_types(x_TN.dtype, torch.float32))
    mean_GC, var_GC = moments(wide_TN, norm.groups)
    y_TN = normalised(wide_TN, norm, mean_GC, var_GC)
    found = rates.lif_rates(y_TN, leak, threshold, dynamics, learned)
    o_TN = found.o_TN.to(x_TN.dtype)
    return NormalisedRates(
        Rates(o_TN, found.by_input, found.by), x_TN.mean(0), mean_GC[0], var_GC[0]
    )


def moments(x_TN: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return means and variances of channels, ``[G, C]``, over all steps (``groups`` 1) or each.

    >>> x_TN = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])  # [T, N, C] = [2, 2, 1]
    >>> moments(x_TN, 1)
    (tensor([[1.]]), tensor([[1.5000]]))
    >>> moments(x_TN, 2)[0].flatten().tolist()
    [0.5, 1.5]
    """
    flat_TNC = x_TN.reshape(*x_TN.shape[:3], -1)
    axes = (0, 1, 3) if groups == 1 else (1, 3)
    var, mean = torch.var_mean(flat_TNC, axes, correction=0)
    return mean.view(groups, -1), var.view(groups, -1)


def normalised(x_TN: Tensor, norm: NormScale, mean_GC: Tensor, var_GC: Tensor) -> Tensor:
    """Return scale·x + shift with these statistics. Each product and sum is rounded.

    >>> norm = NormScale(torch.ones(1, 1), None, 0.0)
    >>> mean, var = torch.ones(1, 1), torch.full((1, 1), 4.0)
    >>> normalised(torch.tensor([[[3.0]]]), norm, mean, var)
    tensor([[[1.]]])
    """
    shape = (norm.groups, 1, -1, *[1] * (x_TN.dim() - 3))
    scale_GC, shift_GC = norm.affine(mean_GC, var_GC)
    return x_TN * scale_GC.view(shape) + shift_GC.view(shape)
