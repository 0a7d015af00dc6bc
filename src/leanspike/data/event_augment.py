"""Random flip, shift and loss of events, the same for all frames of a recording.

Shapes: B recordings of a batch, T timesteps, C polarities, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from leanspike.data.alternate import Flip, check_flip, mirrored_in
from leanspike.data.augment import Augmentation, flipped, random_crop
from leanspike.errors import LeanspikeError


@dataclass(frozen=True)
class EventAugment:
    """Augmentation of training recordings, drawn anew for each recording of a batch.

    The three parts come in this order:

    - ``flip``: mirror left to right with probability 1/2, or "alternate", as
      :class:`leanspike.data.Augment` says. Leave it out where classes tell left from right, as
      those of DVS128 Gesture do.
    - ``shift``: move by this number of whole pixels at most, in each direction, with nothing moving
      in (0: off).
    - ``drop``: lose each event with this probability.

    ``augment(frames, generator)`` takes and returns uint8 [B, T, C, H, W] and does not change the
    frames given. Flip and shift are the same for all frames of a recording. The result is a
    function of the frames and the state of the (CPU) generator alone.

    Raises:
        LeanspikeError: for a negative ``shift``, a ``drop`` that is not in [0, 1), another
            ``flip``, or a call of one that alternates without :meth:`for_images`.

    >>> frames = torch.arange(4, dtype=torch.uint8).view(1, 2, 1, 1, 2)
    >>> EventAugment(flip=True)(frames, Generator().manual_seed(1)).flatten().tolist()
    [1, 0, 3, 2]
    """

    flip: Flip = False
    shift: int = 0
    drop: float = 0.0

    def __post_init__(self) -> None:
        check_flip(self.flip)
        if self.shift < 0:
            raise LeanspikeError(f"shift is {self.shift}; give a number of pixels, or 0 for none")
        if not 0 <= self.drop < 1:
            raise LeanspikeError(f"drop is {self.drop}; give a probability, 0 or more and below 1")

    @property
    def by_sample(self) -> bool:
        """Whether what is drawn for a recording depends on no other recording of the batch."""
        return not self.drop  # events are drawn one after the other

    def for_images(self, numbers: Tensor, epoch: int, seed: int) -> Augmentation:
        """Return the augmentation of a batch of these recordings, int64 [B], in an epoch."""
        if self.flip != "alternate":
            return self
        return partial(self._applied, mirrored=mirrored_in(numbers, epoch, seed))

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        return self._applied(frames, generator)

    def _applied(
        self, frames: Tensor, generator: Generator, mirrored: Tensor | None = None
    ) -> Tensor:
        if frames.dtype != torch.uint8 or frames.dim() != 5:
            raise LeanspikeError(
                f"frames are {frames.dtype} {list(frames.shape)}; give torch.uint8 [B, T, C, H, W]"
            )
        images = frames.flatten(1, 2)  # [B, T*C, H, W]: what moves an image moves all its channels
        images = flipped(images, self.flip, generator, mirrored)
        if self.shift:
            images = random_crop(images, self.shift, generator)
        if self.drop:
            images = random_drop(images, self.drop, generator)
        return images.view(frames.shape)


def random_drop(counts: Tensor, probability: float, generator: Generator) -> Tensor:
    """Lose each event with ``probability``, and return the counts that are left (uint8).

    This is binomial thinning.

    >>> random_drop(torch.full((1000,), 200, dtype=torch.uint8), 0.25, Generator()).float().mean()
    tensor(1...)
    """
    kept = counts.clone()
    some = counts > 0
    events = counts[some].cpu().float()  # the generator is on the CPU
    chance = torch.full_like(events, 1 - probability)
    drawn = torch.binomial(events, chance, generator=generator)
    kept[some] = drawn.to(counts.device, torch.uint8)
    return kept
