"""A batch norm in training, and what rate gradients make of it, in plain PyTorch: the reference.

Rate gradients go through means over time. How a norm's mean output follows its mean input is told
by a few numbers for each channel (:class:`Followed`), which are known as soon as its statistics
are; :mod:`leanspike.temporal.means` derives them.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, C, ...]``, ``_N`` is
``[N, C, ...]``. ``_GC``: G groups of steps with statistics of their own, 1 or T. ``_RC``: R rows of
scales, G of them or T.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NormScale:
    """What a norm in training does once it knows the statistics: y = γ·(x − μ)/√(σ² + ε) + β.

    ``weight_RC`` γ, ``bias_RC`` β (None: 0), ``eps`` ε. ``together``: all steps have one μ and σ²,
    though each may have its own γ and β.

    >>> NormScale(torch.ones(1, 3), None, 1e-5).groups
    1
    >>> NormScale(torch.ones(4, 3), None, 1e-5, together=True).groups
    1
    """

    weight_RC: Tensor
    bias_RC: Tensor | None
    eps: float
    together: bool = False

    @property
    def rows(self) -> int:
        """R."""
        return len(self.weight_RC)

    @property
    def groups(self) -> int:
        """G."""
        return 1 if self.together else self.rows

    def affine(self, mean_GC: Tensor, var_GC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scale and shift of y = scale·x + shift, both ``[R, C]``.

        >>> scale = NormScale(torch.ones(1, 1), torch.ones(1, 1), 0.0)
        >>> scale.affine(torch.full((1, 1), 2.0), torch.full((1, 1), 4.0))
        (tensor([[0.5000]]), tensor([[0.]]))
        """
        scale_RC = self.weight_RC * (var_GC + self.eps).rsqrt()
        shift_RC = -mean_GC * scale_RC
        return scale_RC, shift_RC if self.bias_RC is None else shift_RC + self.bias_RC


@dataclass(frozen=True)
class Currents:
    """What a norm made of the currents of all steps, ``y_TN``, and the statistics of its input.

    Variances are those of n values over n. The statistics have no gradients.

    >>> x_TN = torch.tensor([[[1.0], [5.0]]])
    >>> found = norm(x_TN, NormScale(torch.ones(1, 1), None, 0.0))
    >>> found.y_TN.flatten().tolist(), found.mean_GC.item(), found.var_GC.item()
    ([-1.0, 1.0], 3.0, 4.0)
    """

    y_TN: Tensor
    mean_GC: Tensor
    var_GC: Tensor


@dataclass(frozen=True)
class Followed:
    """How the steps of a norm's input follow their mean over time, x̄, for each channel.

    Attributes:
        mean_GC, var_GC: μ and σ² of the groups.
        own_C: the variance of x̄ over the samples.
        mean_TC: of each step, and
        share_TC: κ, its share in x̄: x_t − μ_t ≈ κ_t·(x̄ − μ̄), by least squares over the samples.
            1 for a channel whose x̄ is the same for all samples. None, both: where all steps are
            scaled alike, which does not ask.

    >>> x_TN = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])  # [T, N, C] = [2, 2, 1]
    >>> found = followed(x_TN, x_TN.mean(0), NormScale(torch.ones(2, 1), None, 0.0))
    >>> found.share_TC.flatten().tolist(), found.own_C.item()
    ([0.5, 1.5], 1.0)
    """

    mean_GC: Tensor
    var_GC: Tensor
    own_C: Tensor
    mean_TC: Tensor | None = None
    share_TC: Tensor | None = None


@dataclass(frozen=True)
class NormRates:
    """For rate gradients: currents of all steps, without gradients, and their mean over time.

    ``x_N``: the mean of the input; ``y_N``: that of ``y_TN``.

    >>> x_TN = torch.tensor([[[1.0], [5.0]], [[3.0], [3.0]]])
    >>> found = norm_rates(x_TN, NormScale(torch.ones(1, 1), None, 2.0))
    >>> found.x_N.flatten().tolist(), found.y_N.flatten().tolist()
    ([2.0, 4.0], [-0.5, 0.5])
    """

    y_TN: Tensor
    y_N: Tensor
    x_N: Tensor
    followed: Followed


def norm(x_TN: Tensor, scale: NormScale) -> Currents:
    """Return the currents, with gradients, in the input's type; sums are float32 or wider."""
    wide_TN = _wide(x_TN)
    mean_GC, var_GC = moments(wide_TN, scale.groups)
    y_TN = normalised(wide_TN, scale, mean_GC, var_GC).to(x_TN.dtype)
    return Currents(y_TN, mean_GC.detach(), var_GC.detach())


@torch.no_grad()
def norm_rates(x_TN: Tensor, scale: NormScale) -> NormRates:
    """Return the currents without gradients, and what gradients through means need."""
    x_N = x_TN.mean(0)
    found = followed(x_TN, x_N, scale)
    y_TN = normalised(_wide(x_TN), scale, found.mean_GC, found.var_GC)
    return NormRates(y_TN.to(x_TN.dtype), y_TN.mean(0).to(x_TN.dtype), x_N, found)


@torch.no_grad()
def followed(x_TN: Tensor, x_N: Tensor, scale: NormScale) -> Followed:
    """See :class:`Followed`; ``x_N`` is the mean of the steps, in their type."""
    wide_TN = _wide(x_TN)
    mean_GC, var_GC = moments(wide_TN, scale.groups)
    middle_1C, own_1C = moments(_wide(x_N).unsqueeze(0), 1)
    if scale.rows == 1:
        return Followed(mean_GC, var_GC, own_1C[0])
    mean_TC, _ = moments(wide_TN, len(x_TN))
    apart_N = _wide(x_N) - along(middle_1C[0], x_N)
    together_TC, _ = moments(wide_TN * apart_N, len(x_TN))
    return Followed(mean_GC, var_GC, own_1C[0], mean_TC, shares(together_TC, own_1C[0]))


def shares(together_TC: Tensor, own_C: Tensor) -> Tensor:
    """Return κ, from the covariances of each step with the mean; 1 where the mean is constant.

    >>> shares(torch.tensor([[2.0, 0.0]]), torch.tensor([4.0, 0.0]))
    tensor([[0.5000, 1.0000]])
    """
    silent = own_C <= torch.finfo(own_C.dtype).tiny
    share_TC = together_TC / own_C.masked_fill(silent, 1.0)
    return share_TC.masked_fill(silent, 1.0)


def norm_of_mean(value_N: Tensor, x_N: Tensor, scale: NormScale, found: Followed) -> Tensor:
    """Return ``value_N`` with the gradients of a norm's mean output by mean input, γ and β."""
    wide_N = _wide(x_N)
    axes = [axis for axis in range(x_N.dim()) if axis != 1]
    centred_N = wide_N - along(wide_N.mean(axes), x_N)
    slope_C, shift_C = line_of_mean(centred_N.square().mean(axes), scale, found)
    y_N = centred_N * along(slope_C, x_N) + along(shift_C, x_N)
    return value_N.detach() + (y_N - y_N.detach()).to(value_N.dtype)


def line_of_mean(own_C: Tensor, scale: NormScale, found: Followed) -> tuple[Tensor, Tensor]:
    """Slope and shift, ``[C]``: a norm's mean output is slope·(x̄ − μ̄) + shift.

    ``own_C``: the variance of x̄, the part of σ² that gradients follow (of a group that is a step
    κ²·own); what varies with the step is a constant.

    >>> scale = NormScale(torch.full((1, 1), 3.0), torch.ones(1, 1), 0.0)
    >>> line_of_mean(torch.ones(1), scale, Followed(torch.ones(1, 1), torch.tensor([[4.0]]),
    ...     torch.ones(1)))  # 3 / √4, and β
    (tensor([1.5000]), tensor([1.]))
    """
    share_TC, apart = found.share_TC, not scale.together and found.share_TC is not None
    mine = share_TC.square() * own_C if apart and share_TC is not None else own_C
    scale_TC = scale.weight_RC * (mine + (found.var_GC - mine).detach() + scale.eps).rsqrt()
    slope_TC = scale_TC if share_TC is None else scale_TC * share_TC
    shift_TC = torch.zeros_like(scale_TC) if scale.bias_RC is None else scale.bias_RC
    if scale.together and found.mean_TC is not None:
        shift_TC = shift_TC + scale_TC * (found.mean_TC - found.mean_TC.mean(0))
    return slope_TC.mean(0), shift_TC.mean(0)


def moments(x_TN: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Means and variances of each channel, of all steps (``groups`` 1) or of each: ``[G, C]``.

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


def normalised(x_TN: Tensor, scale: NormScale, mean_GC: Tensor, var_GC: Tensor) -> Tensor:
    """Return scale·x + shift with these statistics. Each product and sum is rounded.

    >>> scale = NormScale(torch.ones(1, 1), None, 0.0)
    >>> mean, var = torch.ones(1, 1), torch.full((1, 1), 4.0)
    >>> normalised(torch.tensor([[[3.0]]]), scale, mean, var)
    tensor([[[1.]]])
    """
    shape = (scale.rows, 1, -1, *[1] * (x_TN.dim() - 3))
    scale_RC, shift_RC = scale.affine(mean_GC, var_GC)
    return x_TN * scale_RC.view(shape) + shift_RC.view(shape)


def along(values_C: Tensor, x_N: Tensor) -> Tensor:
    """Return values of channels in a shape that goes with ``[N, C, ...]``.

    >>> along(torch.ones(3), torch.zeros(2, 3, 4, 4)).shape
    torch.Size([1, 3, 1, 1])
    """
    return values_C.view(1, -1, *[1] * (x_N.dim() - 2))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
