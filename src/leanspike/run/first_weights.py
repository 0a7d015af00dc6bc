"""Training images for networks that take their first weights from them.

A network is asked for the ability :class:`~leanspike.models.StartsFromImages`. It gets the first
training images, in the data set's order: normalised, not augmented, none that is held out. They
depend on no seed, device or process.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from leanspike.data import Dataset, normalise
from leanspike.errors import LeanspikeError, memory_ended, one_line
from leanspike.models import StartsFromImages

IMAGES = 5000
VALUES = 2**26
"""The most pixel values, so that large images take no more than 256 MiB."""


def start_from_images(network: nn.Module, data: Dataset) -> bool:
    """Give a network the first training images of a data set if it asks for any.

    These are the first 5,000, or fewer if they hold more than 2²⁶ pixel values. Sequences of images
    are given as single images. The network is on the CPU.

    Returns:
        Whether it asked.

    Raises:
        LeanspikeError: if it takes no such images.

    >>> from leanspike.data import load_dataset
    >>> from leanspike.models import create_model
    >>> data = load_dataset("synthetic")
    >>> start_from_images(create_model("airbench94", 10, width=0.1), data)
    True
    >>> start_from_images(create_model("vgg6", 10, width=0.1), data)
    False
    """
    if not isinstance(network, StartsFromImages):
        return False
    x = first_images(data)
    try:
        network.start_from(x)
    except Exception as error:  # a user's network may raise anything
        if isinstance(error, LeanspikeError) or memory_ended(error):
            raise
        raise LeanspikeError(
            f"{type(network).__name__}.start_from failed on {list(x.shape)} of {data.name} "
            f"({one_line(error)}); mend it there"
        ) from error
    return True


def first_images(data: Dataset) -> Tensor:
    """Return the images that networks begin from, normalised, ``[N, C, H, W]``.

    >>> from leanspike.data import load_dataset
    >>> first_images(load_dataset("synthetic_grey")).shape
    torch.Size([576, 1, 28, 28])
    """
    values = math.prod(data.shape) * (data.frames or 1)
    count = max(1, min(IMAGES, len(data.train), VALUES // values))
    pixels, _ = data.train.batch(torch.arange(count))
    x = normalise(pixels, data.mean, data.std)
    return x if data.frames is None else x.flatten(0, 1)
