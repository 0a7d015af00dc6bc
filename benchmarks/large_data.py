"""What images in files cost before the network sees them, and whether memory stays flat.

    python benchmarks/stand_in.py FOLDER --shards
    python benchmarks/large_data.py FOLDER-shards --layout webdataset [--epochs 2] [--size 96]
    python benchmarks/large_data.py FOLDER --layout image_folder --cache CACHE [--epochs 3]

First each part of the work by itself, one thread, on a fixed sample. Then whole training epochs of
a `Loader`, shuffled, cropped and mirrored, in batches of 256: images a second of the processor's
time, all threads together, and the process's resident memory on the way. Times are the
processor's, so that other work on the machine moves them little. The disk's time is not in them:
the files lie in the page cache where that is large enough.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from leanspike.data import Augment, Dataset, FolderSplit, Loader, load_dataset, normalise
from leanspike.data.members import Member, Place, opened
from leanspike.data.survey import as_bytes
from leanspike.evaluation import provenance

SAMPLE, BATCH = 1_500, 256
AUGMENT = Augment(crop=4, flip=True)


def main(
    folder: Annotated[Path, typer.Argument(help="What stand_in.py made.")],
    layout: Annotated[str, typer.Option(help="webdataset or image_folder.")] = "webdataset",
    size: Annotated[int, typer.Option(help="Pixels of an image's side.")] = 96,
    epochs: Annotated[int, typer.Option(help="How many.")] = 2,
    steps: Annotated[int | None, typer.Option(help="Of an epoch; default: all.")] = None,
    same: Annotated[bool, typer.Option(help="The same epoch each time, for a cache.")] = False,
    workers: Annotated[int, typer.Option(help="Processes; 0: threads.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded images.")] = None,
) -> None:
    """Print the parts, then each epoch."""
    torch.set_num_threads(1)
    if cache is not None:
        os.environ["LEANSPIKE_CACHE"] = str(cache)
    print(f"{provenance().hardware}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    begun = time.process_time()
    data = load_dataset(layout, folder, options={"image_size": size, "channels": 3}, **CONSTANTS)
    took = time.process_time() - begun
    print(f"{layout}, {size} pixels, cache {cache is not None}: {len(data.train):,} train")
    print(f"listed in {took:.1f} s of the processor's, {resident():.0f} MiB resident")
    if cache is None and not workers:
        parts(data)
    run_epochs(data, [0] * epochs if same else list(range(epochs)), steps, workers)


CONSTANTS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def parts(data: Dataset) -> None:
    """Each part of the work by itself, in ms of the processor's an image."""
    split = data.train
    assert isinstance(split, FolderSplit)
    if split.keep:
        print("  all images fit in memory, once they are decoded: no parts")
        return
    drawn = np.random.default_rng(0).permutation(len(split))[:SAMPLE]
    chunks = torch.from_numpy(np.sort(drawn)).split(BATCH)
    batches = [torch.zeros(len(chunk), *split.shape, dtype=torch.uint8) for chunk in chunks]
    generator = torch.Generator().manual_seed(0)
    rows = of_an_image([split.paths[index] for index in drawn], split.image_size)
    rows |= {
        "all of a batch": measured(lambda: [split.batch(chunk) for chunk in chunks]),
        "augment": measured(lambda: [AUGMENT(batch, generator) for batch in batches]),
        "normalise": measured(lambda: [normalise(b, data.mean, data.std) for b in batches]),
    }
    rows["open (headers)"] -= rows["read"]
    rows["decode to RGB"] -= rows["read"] + rows["open (headers)"]
    alone = sum(rows[name] for name in list(rows)[:4])
    rows["collate, threads (the rest)"] = rows["all of a batch"] - alone
    total = rows["all of a batch"] + rows["augment"] + rows["normalise"]
    for name, ms in rows.items():
        print(f"  {name:28} {ms:7.3f} ms an image {100 * ms / total:5.0f} %")
    print(f"  together {total:.3f} ms: {1000 / total:,.0f} images a second and core", flush=True)


def of_an_image(places: list[Place], size: int) -> dict[str, float]:
    """What is done to each image: read, opened, decoded (each with what comes before), resized."""

    def read() -> None:
        for place in places:
            _ = place.read() if isinstance(place, Member) else Path(place).read_bytes()

    def look() -> None:
        for place in places:
            with opened(place):
                pass

    def decode() -> list[Any]:
        found = []
        for place in places:
            with opened(place) as image:
                found.append(as_bytes(image, 3))
        return found

    decoded = decode()

    def resize() -> None:
        for image in decoded:
            side = min(image.size)
            image.resize((size, size), 2, box=(0, 0, side, side))

    work = {"read": read, "open (headers)": look, "decode to RGB": decode, "resize": resize}
    return {name: measured(each) for name, each in work.items()}


def measured(work: Callable[[], object]) -> float:
    """The least of three, in ms of the processor's an image."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return 1000 * min(times) / SAMPLE


def run_epochs(data: Dataset, epochs: list[int], steps: int | None, workers: int) -> None:
    """Go through epochs as training does; print what each took and the memory on its way."""
    loader = Loader(
        data.train,
        batch_size=BATCH,
        mean=data.mean,
        std=data.std,
        seed=0,
        train=True,
        augment=AUGMENT,
        workers=workers,
    )
    steps = len(loader) if steps is None else steps
    for number, epoch in enumerate(epochs, start=1):
        begun, clock = spent(), time.monotonic()
        held, checksum, images = [], 0, 0
        for step, (x, labels) in enumerate(loader.epoch(epoch, len(loader) - steps), start=1):
            images += len(x)
            checksum += int(labels.sum())
            if step % max(1, steps // 5) == 0:
                held.append(resident())
        took = spent() - begun
        memory = ", ".join(f"{value:.0f}" for value in held)
        print(
            f"epoch {number}: {images:,} images, {images / took:,.0f} a second and core "
            f"({images / (time.monotonic() - clock):,.0f} a second with other work beside it), "
            f"resident MiB {memory}; labels add up to {checksum}",
            flush=True,
        )


def spent() -> float:
    """Seconds of the processor's, of this process and of those that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def resident() -> float:
    """MiB of this process that are in memory now."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


if __name__ == "__main__":
    typer.run(main)
