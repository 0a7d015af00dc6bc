"""What images in files are like, by their headers: their sizes, grey or colour."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leanspike.data.members import Place, Places, chosen, opened
from leanspike.data.split import SPLIT_SEED
from leanspike.errors import DataError
from leanspike.optional import import_optional

LOOKED_AT = 10_000  # images whose headers are read at most, always the same ones
LARGEST = 256  # larger images are brought to PHOTOGRAPH pixels, unless a size is given
PHOTOGRAPH = 224  # the usual size for networks of ImageNet

UNPACKED = 1100
"""Bytes that PNG and JPEG unpack from one byte at most."""
SMALL = 1 << 24
"""Bytes that any file may unpack to."""


class Header(NamedTuple):
    """What an image file says of itself. ``side`` is the shorter one, in pixels."""

    side: int
    square: bool
    grey: bool
    transparent: bool


class Survey(NamedTuple):
    """How images will be read, and in words what that changes of them."""

    image_size: int
    channels: int
    notes: tuple[str, ...]


def survey(paths: Places, image_size: int | None, channels: int | None) -> Survey:
    """Return the size and channels of these images, unless they are given.

    The size is that of the shorter side which at least half of the images have, else the median.
    Above 256 pixels it is 224. There is one channel if all files are grey, else there are three.

    Raises:
        DataError: with the name of the first file that is no image.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("L", (28, 28)).save(path := str(Path(folder, "0.png")))
    ...     survey([path], None, None)
    Survey(image_size=28, channels=1, notes=())
    """
    if len(paths) > LOOKED_AT:
        drawn = np.random.RandomState(SPLIT_SEED).permutation(len(paths))[:LOOKED_AT]
        paths = chosen(paths, np.sort(drawn))
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(read_header, paths))
    size = _size(headers) if image_size is None else image_size
    if channels is None:
        channels = 1 if all(header.grey for header in headers) else 3
    return Survey(size, channels, tuple(_notes(headers, size, channels)))


def read_header(path: Place) -> Header:
    """Return what the file at ``path``, or the part of a file, says of itself.

    Its pixels are not decoded.

    Raises:
        DataError: with the file's name, if it is no image.

    >>> read_header("nowhere.png")
    Traceback (most recent call last):
    leanspike.errors.DataError: no image in nowhere.png (FileNotFoundError: ...); replace ...
    """
    import_optional("PIL.Image", "vision")
    try:
        with opened(path) as image:
            width, height = image.size
            grey = _is_grey(image)
            return Header(min(width, height), width == height, grey, is_transparent(image))
    except Exception as error:  # what PIL raises on damaged files is an open-ended list
        raise no_image(path, error) from error


def is_transparent(image: Any) -> bool:
    """Tell whether an opened image says how opaque its pixels are."""
    return "A" in image.getbands() or "transparency" in image.info


def as_bytes(image: Any, channels: int) -> Any:
    """Return an opened image with 8 bits a channel, grey (1) or RGB (3).

    Values of 16 bits are divided by 257. Transparent parts are laid over white.

    Raises:
        ValueError: for pixels of 32 bits.

    >>> from PIL import Image
    >>> as_bytes(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), 1).getpixel((0, 0))
    255
    """
    pil = import_optional("PIL.Image", "vision")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values: NDArray[Any] = np.asarray(image).astype(np.float64) / 257
        image = pil.fromarray(values.round().clip(0, 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits, mode {image.mode}; save them with 8 or 16")
    elif is_transparent(image):
        layer = image.convert("RGBA")
        image = pil.alpha_composite(pil.new("RGBA", layer.size, "white"), layer)
    return image.convert("L" if channels == 1 else "RGB")


def check_pixels(image: Any) -> None:
    """Raise ValueError for an opened image of more pixels than Pillow's limit.

    Pillow itself only warns below twice the limit.
    """
    limit = import_optional("PIL.Image", "vision").MAX_IMAGE_PIXELS
    width, height = image.size
    if limit and width * height > limit:
        raise ValueError(f"{width}x{height} pixels, the limit is {limit}")


def check_claim(path: Place, image: Any) -> None:
    """Raise ValueError where a file claims more pixels than a file of its size can hold.

    Pillow would make room for the claimed pixels before the first of them is read.
    """
    width, height = image.size
    room = width * height * max(1, len(image.getbands()))
    size = os.stat(path).st_size if isinstance(path, str) else path.size
    if room > max(SMALL, UNPACKED * size):
        raise ValueError(f"{width}x{height} pixels are more than such a file can hold")


def no_image(path: Place, error: Exception) -> DataError:
    """Return the error for a file, or a part of one, that cannot be read as an image.

    >>> str(no_image("x.png", ValueError("why")))
    'no image in x.png (ValueError: why); replace or remove it, or skip such: data.options...=true'
    """
    return DataError(
        f"no image in {path} ({in_words(error)}); replace or remove it, or skip such: "
        "data.options.skip_bad=true"
    )


def in_words(error: Exception) -> str:
    """Return an exception as one line.

    >>> in_words(ValueError("too\\nlong"))
    'ValueError: too long'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())


def _is_grey(image: Any) -> bool:
    if image.mode == "P":
        palette = np.asarray(image.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode.startswith("I") or image.mode in ("1", "L", "LA", "La", "F")


def _size(headers: Sequence[Header]) -> int:
    sides = [header.side for header in headers]
    (common, count), *_ = Counter(sides).most_common(1)
    size = common if 2 * count >= len(sides) else sorted(sides)[len(sides) // 2]
    return PHOTOGRAPH if size > LARGEST else size


def _notes(headers: Sequence[Header], size: int, channels: int) -> list[str]:
    """Say in words what reading changes of the images."""
    sides = [header.side for header in headers]
    resized = sum(side != size for side in sides)
    cut = sum(not header.square for header in headers)
    grey = sum(header.grey for header in headers)
    clear = sum(header.transparent for header in headers)
    counted = {
        f"are resized to {size}x{size} (shorter sides of {min(sides)} to {max(sides)} pixels; "
        "data.options.image_size=N is another size)": resized,
        "are not square, and their central square is taken": cut,
        "are grey and become colour (data.options.channels=1 makes all grey)": grey
        * (channels == 3),
        "are in colour and become grey": (len(headers) - grey) * (channels == 1),
        "are transparent in places, and are laid over white": clear,
    }
    return [f"{n} of {len(headers)} images {what}" for what, n in counted.items() if n]
