"""Corrupted test images: ten corruptions at five severities each, all defined here.

They work on pixels in [0, 1], before normalisation, and give bytes again, as a camera or a file
would. What is random is drawn for each image by itself, from (seed, position of the image in its
split). So nothing depends on the batch size. The random numbers are the same at every severity, so
the severities of an image differ in their strength alone. These are our own definitions;
:mod:`leanspike.data.cifar_c` reads CIFAR-10-C itself.

A translation is by whole pixels, so on small images some severities are the same. On 8 pixels a
side it is one pixel at severities 1 to 3, and two at 4 and 5. From 18 pixels on all differ.

A new corruption is one function and one row in :data:`CORRUPTIONS`. In a package of your own it is
a function that returns a :class:`Corruption`, by an entry point in ``leanspike.corruptions``.

Shapes: B images of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from leanspike.data.draws import Draws
from leanspike.errors import LeanspikeError
from leanspike.optional import import_optional
from leanspike.registry import Registry
from leanspike.section import section_of

SEVERITIES = (1, 2, 3, 4, 5)

# Each function takes pixels, float32 [B, C, H, W] in [0, 1], the strength of a severity, and draws.
# Its result may leave [0, 1]: ``corrupt`` cuts it off there and rounds it to bytes.


def _gaussian(x: Tensor, deviation: float, draws: Draws) -> Tensor:
    """Add normal noise of this standard deviation to every value."""
    return x + deviation * draws.normal(*x.shape[1:])


def _salt_and_pepper(x: Tensor, share: float, draws: Draws) -> Tensor:
    """Make this share of the pixels, in all channels, black or white with equal odds."""
    chance = draws.uniform(1, *x.shape[2:])
    return x.masked_fill(chance < share / 2, 0.0).masked_fill(chance >= 1 - share / 2, 1.0)


def _background(x: Tensor, strength: float, draws: Draws) -> Tensor:
    """Let uniform noise up to this strength shine through wherever the image is darker.

    The random background of Larochelle et al. 2007's MNIST variations has the strength 1.
    """
    return torch.maximum(x, strength * draws.uniform(*x.shape[1:]))


def _rotation(x: Tensor, degrees: float, draws: Draws) -> Tensor:
    """Rotate by this angle around the centre, clockwise or not; bilinear, black from outside."""
    height, width = x.shape[2:]
    rows = (torch.arange(height) - (height - 1) / 2)[:, None]
    columns = torch.arange(width) - (width - 1) / 2
    angle = math.radians(degrees)
    sine = torch.where(draws.uniform(1, 1) < 0.5, -math.sin(angle), math.sin(angle))
    # Written out: the rounding of a product of matrices depends on the batch size.
    from_columns = math.cos(angle) * columns + sine * rows
    from_rows = math.cos(angle) * rows - sine * columns
    grid = torch.stack([from_columns * (2 / width), from_rows * (2 / height)], dim=3)
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def _translation(x: Tensor, share: float, draws: Draws) -> Tensor:
    """Move by this share of the side along both axes, at least one whole pixel; black moves in."""
    height, width = x.shape[2:]
    down, right = max(1, round(share * height)), max(1, round(share * width))
    windows = F.pad(x, (right, right, down, down)).unfold(2, height, 1).unfold(3, width, 1)
    back = draws.uniform(2) < 0.5
    return windows[torch.arange(len(x)), :, 2 * down * back[:, 0], 2 * right * back[:, 1]]


def _occlusion(x: Tensor, share: float, draws: Draws) -> Tensor:
    """Put a black square somewhere inside; its side is this share of the image's shorter one."""
    side = max(1, round(share * min(x.shape[2:])))
    place = draws.uniform(2)
    inside = []
    for axis, length in enumerate(x.shape[2:]):
        first = (place[:, axis, None] * (length - side + 1)).long()
        positions = torch.arange(length)
        inside.append((positions >= first) & (positions < first + side))
    return x.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0.0)


def _blur(x: Tensor, deviation: float, _: Draws) -> Tensor:
    """Blur by a Gaussian of this standard deviation in pixels, cut off at 3 of them.

    Pixels of the edges are repeated outside.
    """
    radius = math.ceil(3 * deviation)
    weights = [math.exp(-((k / deviation) ** 2) / 2) for k in range(-radius, radius + 1)]
    x = F.pad(x, (radius,) * 4, mode="replicate")
    for axis in (2, 3):
        size = x.shape[axis] - 2 * radius
        blurred = torch.zeros_like(x.narrow(axis, 0, size))
        for first, weight in enumerate(weights):
            blurred += weight / sum(weights) * x.narrow(axis, first, size)
        x = blurred
    return x


def _contrast(x: Tensor, factor: float, _: Draws) -> Tensor:
    """Multiply distances from the mean of each image and channel by this factor."""
    levels = (x * 255).round().sum((2, 3), keepdim=True, dtype=torch.float64)  # exact
    mean = (levels / (255 * x[0, 0].numel())).float()
    return mean + factor * (x - mean)


def _brightness(x: Tensor, amount: float, _: Draws) -> Tensor:
    """Add this amount to every value."""
    return x + amount


def _jpeg(x: Tensor, quality: float, _: Draws) -> Tensor:
    """Pass through a JPEG file of this quality, colours at half resolution; by Pillow's libjpeg."""
    image_module = import_optional("PIL.Image", "vision")
    channels = x.shape[1]
    if channels not in (1, 3):
        raise LeanspikeError(
            f"jpeg takes images of 1 or 3 channels, not {channels}; leave it out for these"
        )
    decoded = []
    for image in to_bytes(x).permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        picture = image_module.fromarray(image[:, :, 0] if channels == 1 else image)
        picture.save(file, "JPEG", quality=round(quality), subsampling=2)
        with image_module.open(file) as opened:
            decoded.append(np.array(opened).reshape(image.shape))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2) / 255


@dataclass(frozen=True)
class Corruption:
    """A row of :data:`CORRUPTIONS`: what to do, and how much of it at severity 1, 2, 3, 4 and 5.

    ``strength`` says what the five numbers are.

    >>> dim = Corruption(lambda x, factor, draws: factor * x, "factor", (0.9, 0.8, 0.7, 0.6, 0.5))
    >>> dim.apply(torch.ones(1, 1, 1, 1), dim.strengths[4], Draws(0, [0])).item()
    0.5
    """

    apply: Callable[[Tensor, float, Draws], Tensor]
    strength: str
    strengths: tuple[float, float, float, float, float]


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian": Corruption(_gaussian, "standard deviation", (0.02, 0.04, 0.08, 0.12, 0.18)),
    "salt_and_pepper": Corruption(
        _salt_and_pepper, "share of the pixels", (0.01, 0.03, 0.06, 0.12, 0.2)
    ),
    "background": Corruption(_background, "strength of the noise", (0.1, 0.2, 0.35, 0.5, 0.7)),
    "rotation": Corruption(_rotation, "degrees", (5, 10, 20, 30, 45)),
    "translation": Corruption(_translation, "share of the side", (0.05, 0.1, 0.15, 0.2, 0.3)),
    "occlusion": Corruption(_occlusion, "share of the side", (0.15, 0.25, 0.35, 0.5, 0.65)),
    "blur": Corruption(_blur, "standard deviation in pixels", (0.5, 0.75, 1.0, 1.5, 2.0)),
    "contrast": Corruption(_contrast, "factor", (0.7, 0.5, 0.35, 0.2, 0.1)),
    "brightness": Corruption(_brightness, "amount added", (0.08, 0.16, 0.24, 0.32, 0.45)),
    "jpeg": Corruption(_jpeg, "quality", (60, 35, 20, 10, 5)),
}

corruptions: Registry[Corruption] = Registry("corruption", "leanspike.corruptions", section_of)
"""Functions that return a :class:`Corruption`; its strengths are all that can be chosen."""
corruptions.register_rows(CORRUPTIONS)


def corrupt(
    images: Tensor, name: str, severity: int, seed: int = 0, positions: Tensor | None = None
) -> Tensor:
    """Return the images after one corruption, uint8 [B, C, H, W]; the images given do not change.

    Args:
        images: uint8 [B, C, H, W], B at least 1.
        name: a key of :data:`CORRUPTIONS`.
        severity: 1 (mild) to 5 (hard).
        seed: of all that is random, 0 or more.
        positions: the images' positions in their split, int64 [B], default 0..B−1. The same seed
            and position give the same corruption, in whatever batch.

    Raises:
        LeanspikeError: for images, a name or a number that does not fit.

    >>> grey = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    >>> corrupt(grey, "brightness", 5).flatten().tolist()  # 100 + 0.45 · 255
    [215, 215, 215, 215]
    >>> corrupt(grey, "blurr", 1)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no corruption 'blurr'; did you mean 'blur'?
    """
    row = find_corruption(name, severity)
    if images.dtype != torch.uint8 or images.dim() != 4 or len(images) == 0:
        raise LeanspikeError(
            f"images are {images.dtype} {list(images.shape)}; give torch.uint8 [B, C, H, W]"
        )
    if positions is not None and positions.shape != images.shape[:1]:
        raise LeanspikeError(
            f"positions are {list(positions.shape)}; give one for each of {len(images)} images"
        )
    draws = Draws(seed, range(len(images)) if positions is None else positions.tolist())
    return to_bytes(row.apply(images / 255, row.strengths[severity - 1], draws))


def to_bytes(x: Tensor) -> Tensor:
    """Return pixels in [0, 1] as uint8; what lies outside is cut off.

    >>> to_bytes(torch.tensor([-0.5, 0.5, 1.5])).tolist()
    [0, 128, 255]
    """
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def find_corruption(name: str, severity: int) -> Corruption:
    """Return the corruption of that name.

    Raises:
        LeanspikeError: for a name or a severity that does not exist.

    >>> find_corruption("blur", 1).strength
    'standard deviation in pixels'
    """
    if name not in corruptions:
        near = get_close_matches(name, corruptions.names(), n=1, cutoff=0.0)[0]
        raise LeanspikeError(f"no corruption {name!r}; did you mean {near!r}?")
    check_severity(severity)
    return corruptions.create(name)


def check_severity(severity: int) -> None:
    """Raise LeanspikeError unless the severity is 1, 2, 3, 4 or 5.

    >>> check_severity(6)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: severity is 6; give 1, 2, 3, 4 or 5
    """
    if severity not in SEVERITIES:
        raise LeanspikeError(f"severity is {severity!r}; give 1, 2, 3, 4 or 5")
