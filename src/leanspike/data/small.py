"""Data sets that need no files: scikit-learn's digits, and random images that can be learnt."""

from __future__ import annotations

import numpy as np
import torch

from leanspike.data.split import Parts, TensorSplit, stratified
from leanspike.errors import DataError
from leanspike.optional import import_optional


def read_digits() -> Parts:
    """Return the 1,797 handwritten digits of scikit-learn, uint8 [N, 1, 8, 8].

    The original grey levels 0..16 become 0..255. There is no official test set: a fixed, stratified
    fifth (359 images) serves as one.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998
    (https://doi.org/10.24432/C50P49), its test part.

    >>> len(read_digits().train), len(read_digits().test)
    (1438, 359)
    """
    found = import_optional("sklearn.datasets", "vision").load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)
    digits = TensorSplit(
        torch.from_numpy(pixels)[:, None], torch.from_numpy(found.target.astype(np.int64))
    )
    train, test = stratified(digits.labels, round(len(digits) / 5))
    return Parts(tuple("0123456789"), train=digits.select(train), test=digits.select(test))


def synthetic(
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    train: int = 640,
    test: int = 160,
) -> Parts:
    """Make random images that can be learnt: a coarse pattern per class under Gaussian noise.

    They are for tests and shortened recipes. The same arguments give the same images. The classes
    are balanced to within one image. ``shape`` is (C, H, W).

    Raises:
        DataError: for a size below 1.

    >>> parts = synthetic(shape=(1, 8, 8), classes=4, train=12, test=8)
    >>> parts.train.shape, parts.train.labels.tolist()
    ((1, 8, 8), [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
    """
    if min(*shape, classes, train, test) < 1:
        raise DataError(
            f"synthetic images of shape {shape}, {classes} classes, {train} train, {test} test: "
            "give 1 or more of each"
        )
    channels, height, width = shape
    random = np.random.RandomState(0)
    cells = random.choice([64.0, 192.0], size=(classes, channels, 4, 4))
    patterns = cells[:, :, np.arange(height) * 4 // height][..., np.arange(width) * 4 // width]
    labels = np.concatenate([np.arange(train) % classes, np.arange(test) % classes])
    noisy = patterns[labels] + 48 * random.standard_normal((train + test, *shape))
    images = TensorSplit(
        torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)), torch.from_numpy(labels)
    )
    indices = torch.arange(train + test)
    return Parts(
        tuple(str(label) for label in range(classes)),
        train=images.select(indices[:train]),
        test=images.select(indices[train:]),
    )
