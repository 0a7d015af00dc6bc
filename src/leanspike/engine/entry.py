"""Converting samples, as a network takes them, into the input of its program.

Shapes: T timesteps, N samples, H rows, W columns, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.temporal import Encoder
from leanspike_runtime.program import Array


@dataclass(frozen=True)
class Entry:
    """The conversion of samples of one shape into the input of a program, by the encoder."""

    encoder: Encoder
    sample_shape: tuple[int, ...]

    def encoded(self, x: Tensor, timesteps: int) -> tuple[Array, int]:
        """Return a sequence, ``[N, H, W, C]`` or with steps in front, and its number of steps."""
        self.check(x, self.encoder.batch_axis)
        stacked, steps = self.encoder.sequence(x, timesteps, training=False)
        timed = (steps,) if self.encoder.timed else ()
        return channels_last(stacked.view(*timed, -1, *stacked.shape[1:]), len(timed) + 1), steps

    def encoded_step(self, x_N: Tensor, step: int) -> Array:
        """Return the input of one step, ``[N, H, W, C]``."""
        self.check(x_N, 0)
        return channels_last(self.encoder.step(x_N, step), 1)

    def check(self, x: Tensor, batch_axis: int) -> None:
        """Raise LeanspikeError for samples of another shape, or values that are not finite."""
        if x.shape[1 + batch_axis :] != self.sample_shape:
            expected = ", ".join((*("T" * batch_axis), "N", *map(str, self.sample_shape)))
            raise LeanspikeError(f"input of shape {tuple(x.shape)}; expected [{expected}]")
        if not x.is_floating_point():
            raise LeanspikeError(
                f"input of type {x.dtype}; expected floating point (normalise the pixels)"
            )
        if not bool(torch.isfinite(x).all()):
            raise LeanspikeError("the input holds NaN or infinity; give finite values")


def channels_last(x: Tensor, axis: int) -> Array:
    """Return images with channels at ``axis`` as float32, channels last; vectors as single pixels.

    >>> channels_last(torch.zeros(2, 3, 8, 8), 1).shape, channels_last(torch.zeros(2, 5), 1).shape
    ((2, 8, 8, 3), (2, 1, 1, 5))
    """
    pixels = (1, 1, *x.shape[axis + 1 :])[-2:]
    images = x.detach().cpu().float().reshape(*x.shape[: axis + 1], *pixels)
    found: Array = images.movedim(axis, -1).contiguous().numpy()
    return found
