"""The nineteen corruptions of ImageNet-C, by the package ``imagecorruptions-imaug``.

``pip install 'leanspike[corruptions]'`` installs it, and ``leanspike robustness RUN --common``
measures on them. Functions and strengths are those of Hendrycks & Dietterich 2019 (arXiv
1903.12261) for photographs of 224 pixels a side. On 32 pixels they are harsher than CIFAR-10-C,
which has strengths of its own. For figures to compare with others' read CIFAR-10-C itself
(:mod:`leanspike.data.cifar_c`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import ModuleType
from typing import final

import numpy as np
import torch
from torch import Tensor

from leanspike.data.corrupted import LazilyCorrupted
from leanspike.data.corruptions import check_severity
from leanspike.data.split import Split
from leanspike.errors import LeanspikeError
from leanspike.optional import import_optional

COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    *("snow", "frost", "fog", "spatter", "brightness", "contrast", "saturate"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
)
_SEEDED = ("glass_blur", "impulse_noise")  # these draw by a seed, not NumPy's global generator
SMALLEST = 32


@final
class CommonCorruptedSplit(LazilyCorrupted):
    """A split whose images the package corrupts when a batch asks for them.

    What is random is drawn for each image from (seed, its position in the split) alone.

    Args:
        split: images of 3 channels and at least 32 pixels a side.
        name: one of :data:`COMMON_CORRUPTIONS`.
        severity: 1 (mild) to 5 (hard).
        seed: 0 or more.
        positions: the positions of the images, int64 [N], default 0..N−1; a part that is selected
            keeps them.

    Raises:
        LeanspikeError: for images, a name or a number that does not fit. Also when a batch is asked
            for, if the package is not installed or does not load.

    >>> from leanspike.data import synthetic
    >>> CommonCorruptedSplit(synthetic((3, 32, 32)).test, "foggy", 1)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no common corruption 'foggy'; did you mean 'fog'?
    """

    def check(self) -> None:
        _check(self.split, *self.how)

    def corrupt(self, images: Tensor, positions: Tensor) -> Tensor:
        corrupt = _package().corrupt
        name, severity, seed = self.how
        corrupted = []
        for image, position in zip(images, positions.tolist(), strict=True):
            own = int(np.random.SeedSequence([seed, position]).generate_state(1)[0])
            given = {"seed": own} if name in _SEEDED else {}
            with _numpy_seed(own):
                pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
                corrupted.append(corrupt(pixels, severity, name, **given))
        return torch.from_numpy(np.stack(corrupted)).permute(0, 3, 1, 2).contiguous()


def _package() -> ModuleType:
    try:
        return import_optional("imagecorruptions", "corruptions")
    except ImportError as error:  # servers often lack the window libraries that OpenCV loads
        raise LeanspikeError(
            f"imagecorruptions does not load ({error}); install what is missing, or "
            "opencv-python-headless in the place of opencv-python"
        ) from error


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Let NumPy's global generator begin at ``seed`` for a while; then it goes on as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _check(split: Split, name: str, severity: int, seed: int) -> None:
    if name not in COMMON_CORRUPTIONS:
        near = get_close_matches(name, COMMON_CORRUPTIONS, n=1, cutoff=0.0)[0]
        raise LeanspikeError(f"no common corruption {name!r}; did you mean {near!r}?")
    check_severity(severity)
    if seed < 0:
        raise LeanspikeError(f"seed is {seed}; give 0 or more")
    channels, height, width = split.shape
    if channels != 3 or min(height, width) < SMALLEST:
        raise LeanspikeError(
            f"images are {list(split.shape)}; the common corruptions take [3, H, W] of at least "
            f"{SMALLEST} pixels a side"
        )
