"""Progressive resolution: the first epochs of a stage see smaller images."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.section import Count, Section


class Resolution(Section):
    """Smaller images in the first epochs of a stage; later ones, and validation, see whole ones."""

    size: Count
    """The shorter side of the smaller images, in pixels: each is the mean of an area."""
    until: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of the epochs that have them, rounded."""

    def seen(self, x: Tensor, epoch: int, epochs: int) -> Tensor:
        """Return images ``[N, C, H, W]`` as an epoch (0-based) of ``epochs`` sees them.

        The layout in memory is kept.

        >>> resolution = Resolution(size=2)
        >>> [resolution.seen(torch.ones(1, 1, 4, 6), e, 3).shape[2:] for e in range(3)]
        [torch.Size([2, 3]), torch.Size([2, 3]), torch.Size([4, 6])]
        """
        return self.shrunk(x) if epoch < int(self.until * epochs + 0.5) else x

    def shrunk(self, x: Tensor) -> Tensor:
        """Return smaller images, of the same proportions.

        Raises:
            LeanspikeError: for what has no rows and columns, or images that are no larger.

        >>> Resolution(size=1).shrunk(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])).item()
        4.0
        """
        if x.dim() != 4:
            raise LeanspikeError(
                f"resolution is for images [N, C, H, W], and the input is {list(x.shape)}; leave "
                "it out"
            )
        shorter = min(x.shape[2:])
        if self.size >= shorter:
            raise LeanspikeError(
                f"resolution.size is {self.size}, and the images are {x.shape[2]}x{x.shape[3]}; "
                "give a size below that, or leave resolution out"
            )
        size = [round(side * self.size / shorter) for side in x.shape[2:]]
        last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return F.interpolate(x, size=size, mode="area").contiguous(memory_format=layout)
