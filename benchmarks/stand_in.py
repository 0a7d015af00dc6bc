"""Makes a stand-in for a large data set of photographs: JPEGs of 64 to 256 pixels a side.

    python benchmarks/stand_in.py FOLDER [--images 200000] [--classes 1000] [--shards]

FOLDER/train/CLASS/IMAGE.jpg and FOLDER/val/CLASS/IMAGE.jpg, of which one image in fifty validates;
with `--shards` the same bytes a second time, as FOLDER-shards/train/000000.tar and so on, 5,000
images each, in the layout of the package webdataset. Image n is a function of n alone. It is a
window of noise whose amplitude falls with the frequency, as in photographs, laid over another, in
the colour of its class, saved at quality 75 to 95. 200,000 are 2.2 GiB, twice that with shards.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from PIL import Image

SEED = 0
TEXTURES, TEXTURE_SIDE = 24, 768
SHORTEST, LONGEST = 64, 256
SHARD_IMAGES = 5_000
VALIDATES = 50  # one image in so many


class Drawn(NamedTuple):
    """An encoded image, and where it belongs."""

    number: int
    label: int
    part: str
    jpeg: bytes


def main(
    folder: Annotated[Path, typer.Argument(help="Where it is made; must not exist.")],
    images: Annotated[int, typer.Option(help="How many.")] = 200_000,
    classes: Annotated[int, typer.Option(help="Of how many classes.")] = 1_000,
    shards: Annotated[bool, typer.Option(help="Also as tar files.")] = False,
) -> None:
    """Make the images, and say how many bytes they take and how long it took."""
    folder.mkdir(parents=True)
    begun, cpu, total = time.monotonic(), time.process_time(), 0
    names = [f"class{label:04}" for label in range(classes)]
    writers = {part: Shards(Path(f"{folder}-shards", part)) for part in ("train", "val") if shards}
    for drawn in draw(images, classes):
        path = folder / drawn.part / names[drawn.label] / f"{drawn.number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn.jpeg)
        total += len(drawn.jpeg)
        if shards:
            writers[drawn.part].add(drawn)
    for writer in writers.values():
        writer.close()
        writer.name_classes(names)
    print(
        f"{images:,} images of {classes:,} classes in {folder}: {total / 2**30:.2f} GiB, "
        f"{total / images / 1024:.1f} KiB each; {time.monotonic() - begun:.0f} s, "
        f"{1000 * (time.process_time() - cpu) / images:.2f} ms of a core an image"
    )


class Shards:
    """Tar files of at most SHARD_IMAGES images: KEY.jpg beside KEY.cls, the number of its class."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self.count = folder, 0
        self.file: tarfile.TarFile | None = None

    def add(self, drawn: Drawn) -> None:
        """Put an image into the shard that is being written."""
        if self.file is None or self.count % SHARD_IMAGES == 0:
            self.close()
            number = self.count // SHARD_IMAGES
            path = self.folder / f"{number:06}.tar"
            self.file = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        for ending, content in (("jpg", drawn.jpeg), ("cls", str(drawn.label).encode())):
            member = tarfile.TarInfo(f"{drawn.number:07}.{ending}")
            member.size = len(content)
            self.file.addfile(member, io.BytesIO(content))
        self.count += 1

    def close(self) -> None:
        """End the shard that is being written."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def name_classes(self, names: list[str]) -> None:
        """Say what the numbers of the classes stand for, beside the folders of the parts."""
        (self.folder.parent / "classes.txt").write_text("\n".join(names) + "\n")


def draw(images: int, classes: int) -> Iterator[Drawn]:
    """All images in order, encoded by as many threads as there are cores."""
    textures = [texture(np.random.default_rng((SEED, 1, n))) for n in range(TEXTURES)]
    colours = np.random.default_rng((SEED, 2)).integers(0, 256, (classes, 3))

    def one(number: int) -> Drawn:
        random = np.random.default_rng((SEED, 3, number))
        label = int(random.integers(classes))
        part = "val" if number % VALIDATES == VALIDATES - 1 else "train"
        colour = tuple(int(value) for value in colours[label])
        return Drawn(number, label, part, encode(random, textures, colour))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, images, 1_000):
            yield from pool.map(one, range(first, min(first + 1_000, images)))


def texture(random: np.random.Generator) -> Any:
    """An image of noise, RGB: its amplitude falls as 1/f, its channels are alike in part."""
    rows, columns = np.fft.fftfreq(TEXTURE_SIDE)[:, None], np.fft.rfftfreq(TEXTURE_SIDE)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / TEXTURE_SIDE)
    white = random.standard_normal((4, TEXTURE_SIDE, TEXTURE_SIDE))
    grey, *channels = np.fft.irfft2(np.fft.rfft2(white) * fall, s=white.shape[1:])
    mixed = np.stack([grey + channel / 2 for channel in channels], -1)
    return Image.fromarray((128 + 55 * mixed / mixed.std()).clip(0, 255).astype(np.uint8))


def encode(random: np.random.Generator, textures: list[Any], colour: tuple[int, ...]) -> bytes:
    """One JPEG: a window of one texture over one of another, tinted."""
    size = tuple(int(side) for side in random.integers(SHORTEST, LONGEST + 1, 2))
    over, under = (window(random, textures[n], size) for n in random.integers(TEXTURES, size=2))
    mixed = Image.blend(under, over, float(random.uniform(0.3, 0.9)))
    mixed = Image.blend(mixed, Image.new("RGB", size, colour), 0.25)
    file = io.BytesIO()
    mixed.save(file, "JPEG", quality=int(random.integers(75, 96)))
    return file.getvalue()


def window(random: np.random.Generator, image: Any, size: tuple[int, ...]) -> Any:
    """A part of the image of that size, at a random place."""
    left, top = (int(random.integers(TEXTURE_SIDE - side + 1)) for side in size)
    return image.crop((left, top, left + size[0], top + size[1]))


if __name__ == "__main__":
    typer.run(main)
