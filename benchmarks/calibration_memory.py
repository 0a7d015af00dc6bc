"""How much memory and time a calibration takes, by the number of its images.

    python benchmarks/calibration_memory.py [NETWORK] [--images 8 16] [--size 224]

VGG16 by default (weights as they begin, images of noise), spiking and calibrated by the defaults of
`spike` and `calibrate`, T = 5, one thread, float32. Each number of images runs in a process of its
own, on Linux. Its peaks are the largest resident sets, up to the end of `spike` and a call on one
image, and from there to the end of `calibrate`, which begins with what "held" says. One pass is a
call of the network on all images, 4 at a time; times are the processor's.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

import leanspike as ls
from leanspike.models import create_model


def main(
    network: Annotated[str, typer.Argument(help="Of create_model.")] = "vgg16",
    images: Annotated[list[int], typer.Option(help="How many.")] = [8, 16],  # noqa: B006
    size: Annotated[int, typer.Option(help="Pixels of an image's side.")] = 224,
    batch_norm: Annotated[bool, typer.Option(help="Whether the network has batch norms.")] = False,
    alone: Annotated[bool, typer.Option(help="In this process, one number.")] = False,
) -> None:
    """Print a row for each number of images."""
    if alone:
        print(row(network, images[0], size, batch_norm=batch_norm), flush=True)
        return
    for n in images:
        command = [sys.executable, __file__, network, "--images", str(n), "--size", str(size)]
        norms = ["--batch-norm"] * batch_norm
        subprocess.run([*command, *norms, "--alone"], check=True)


@torch.no_grad()
def row(network: str, n: int, size: int, *, batch_norm: bool) -> str:
    """Calibrate on so many images; tell peaks and times."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ann = create_model(network, 10, image_size=size, batch_norm=batch_norm).eval()
    x = torch.rand(n, 3, size, size)
    snn = ls.spike(ann, example_input=x[:1], timesteps=5).eval()
    snn(x[:1])
    before = peak()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    held, begun = peak(), time.process_time()
    found = ls.calibrate(snn, x)
    took, highest = time.process_time() - begun, peak()
    begun = time.process_time()
    for part in x.split(4):
        snn(part)
    one = time.process_time() - begun
    return (
        f"{network}, {n} images of {size} pixels: spike {before:.2f} GiB, calibrate {highest:.2f} "
        f"GiB (held {held:.2f}), {took:.1f} s, {took / one:.1f} passes (load "
        f"{os.getloadavg()[0]:.1f}); {found.choices}"
    )


def peak() -> float:
    """GiB of the largest resident set since it began, or began again."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 2**20


if __name__ == "__main__":
    typer.run(main)
