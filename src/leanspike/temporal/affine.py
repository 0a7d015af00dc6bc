"""A norm at inference as a scale and a shift, where no weights can take it up.

Shapes: T timesteps, N samples, C channels.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError


def affine_of_norm(
    mean: Tensor, var: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return what a batch norm with these statistics does in eval mode, as a scale and a shift.

    γ·(x − μ)/√(σ² + ε) + β = scale·x + shift, with scale = γ/√(σ² + ε) and shift = β − μ·scale.

    >>> affine_of_norm(torch.tensor(2.0), torch.tensor(4.0), 0.0, None, torch.tensor(3.0))
    (tensor(0.5000), tensor(2.))
    """
    scale = (var + eps).rsqrt()
    if weight is not None:
        scale = weight * scale
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def scale_and_shift(x_TN: Tensor, scale_TC: Tensor, shift_TC: Tensor) -> Tensor:
    """Compute scale_t·x_t + shift_t per channel, in the dtype of the input.

    The input and the output are ``[T, N, C, ...]``.

    >>> scale_and_shift(torch.ones(2, 1, 1), torch.tensor([[2.0], [3.0]]), torch.ones(2, 1)).ravel()
    tensor([3., 4.])
    """
    shape = (len(x_TN), 1, -1, *[1] * (x_TN.dim() - 3))
    return torch.addcmul(shift_TC.view(shape), x_TN, scale_TC.view(shape)).to(x_TN.dtype)


@final
class Affine(nn.Module):
    """A norm folded into the input of the neurons: y_t = scale_t·x_t + shift_t per channel.

    Args:
        scale_TC, shift_TC: ``[T, C]``, as :meth:`TemporalNorm.affine` returns them.

    >>> Affine(torch.tensor([[2.0], [3.0]]), torch.tensor([[0.0], [1.0]]))(
    ...     torch.ones(2, 4, 1, 1, 1)).flatten(1)[:, 0].tolist()
    [2.0, 4.0]
    """

    def __init__(self, scale_TC: Tensor, shift_TC: Tensor) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale_TC.detach().clone())
        self.register_buffer("shift", shift_TC.detach().clone())

    def forward(self, x_TN: Tensor) -> Tensor:
        """Scale and shift ``[T, N, C, ...]``; T is at most the number of rows of the scales."""
        return self._apply_rows(x_TN, 0)

    def step(self, x_N: Tensor, step: int) -> Tensor:
        """Scale and shift one timestep ``[N, C, ...]``; the first ``step`` is 0."""
        return self._apply_rows(x_N.unsqueeze(0), step)[0]

    @property
    def timesteps(self) -> int:
        """The largest T that it can be called with."""
        return len(self.scale)

    def affine(self, timesteps: int) -> tuple[Tensor, Tensor]:
        """Return scale and shift of the first steps, as :meth:`TemporalNorm.affine` does."""
        return self.scale[:timesteps], self.shift[:timesteps]

    def check_steps(self, steps: int) -> None:
        """Raise LeanspikeError unless there are scales for this number of steps."""
        if steps > len(self.scale):
            raise LeanspikeError(
                f"this network was folded for {len(self.scale)} timesteps and is asked for "
                f"{steps}; ask for fewer, or fold it again"
            )

    def _apply_rows(self, x_TN: Tensor, first: int) -> Tensor:
        self.check_steps(first + len(x_TN))
        rows = slice(first, first + len(x_TN))
        return scale_and_shift(x_TN, self.scale[rows], self.shift[rows])

    def extra_repr(self) -> str:
        """Return the size, for ``print(network)``."""
        return f"{self.scale.shape[1]}, timesteps={self.scale.shape[0]}"


@final
class ChannelAffine(nn.Module):
    """A norm that is the same at each step: y = scale·x + shift per channel.

    Args:
        scale_C, shift_C: ``[C]``.

    >>> ChannelAffine(torch.tensor([2.0]), torch.tensor([1.0]))(torch.ones(4, 1, 2)).unique()
    tensor([3.])
    """

    def __init__(self, scale_C: Tensor, shift_C: Tensor) -> None:
        super().__init__()
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale_C.detach().clone())
        self.register_buffer("shift", shift_C.detach().clone())

    def forward(self, x_N: Tensor) -> Tensor:
        """Scale and shift ``[N, C, ...]``."""
        shape = (-1, *[1] * (x_N.dim() - 2))
        return torch.addcmul(self.shift.view(shape), x_N, self.scale.view(shape)).to(x_N.dtype)

    def extra_repr(self) -> str:
        """Return the size, for ``print(network)``."""
        return f"{len(self.scale)}"
