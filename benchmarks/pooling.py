"""The gradient of a tiled average pooling beside PyTorch's: the time of the backward pass.

    python benchmarks/pooling.py

Layers are VGG9's average pools at T = 5 and batch 32, inputs channels_last; dL/dy comes in
channels_last, as from a convolution, or contiguous, as from behind `flatten`. The two take turns,
round by round; a figure is the median of the rounds' ratios, tiled ÷ PyTorch's. Memory is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from leanspike.bench.worker import seconds_of
from leanspike.memory import keep_freed_memory
from leanspike.synapse import TiledAvgPool2d

LAYERS = {  # name: images (T times N), channels, size
    "64 at 32x32": (160, 64, 32),
    "128 at 16x16": (160, 128, 16),
    "256 at 8x8": (160, 256, 8),
}
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def backward(pool: nn.Module, x: Tensor, layout: torch.memory_format) -> Callable[[], object]:
    """The backward pass of one pooling of ``x``."""
    y = pool(x.requires_grad_())
    grad = torch.randn(y.shape).to(y.dtype, memory_format=layout)
    return lambda: torch.autograd.grad(y, x, grad, retain_graph=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    keep_freed_memory()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {rounds} rounds")
    print(f"{'tiled ÷ PyTorch':30}", *(f"{name:>14}" for name in LAYOUTS), sep="")
    for dtype in (torch.float32, torch.bfloat16):
        for layer, (images, channels, size) in LAYERS.items():
            x = torch.randn(images, channels, size, size)
            x = x.to(dtype, memory_format=torch.channels_last)
            ratios = []
            for layout in LAYOUTS.values():
                tiled = backward(TiledAvgPool2d.of(nn.AvgPool2d(2)), x, layout)
                torchs = backward(nn.AvgPool2d(2), x, layout)
                times = [(seconds_of(tiled), seconds_of(torchs)) for _ in range(rounds)]
                ratios.append(median(a / b for a, b in times))
            name = str(dtype).removeprefix("torch.")
            print(f"{name:12}{layer:18}", *(f"{r:14.2f}" for r in ratios), sep="", flush=True)


if __name__ == "__main__":
    main()
