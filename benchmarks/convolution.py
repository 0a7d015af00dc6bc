"""An event-driven convolution's time beside PyTorch's dense one, by the share of inputs not 0.

    python benchmarks/convolution.py
    python benchmarks/convolution.py --rounds 15 --density 0.05 0.1

Layers are those of VGG9 that spikes enter, at T = 5 and batch 32; 3x3 kernels, channels_last. The
cases take turns, round by round; a figure is the median of the rounds' ratios, event-driven ÷
dense, and below 1 where events are faster. Memory is kept (`leanspike.keep_freed_memory`), so that
both are spared the page faults of fresh results. On an older processor:
`LEANSPIKE_INSTRUCTIONS=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/convolution.py`.
`leanspike.synapse.convolution.DENSEST` was chosen from this.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from leanspike import native, synapse  # noqa: F401 (defines the operators)
from leanspike.memory import keep_freed_memory

LAYERS = {  # name: images (T times N), channels in and out, size
    "64 at 32x32": (160, 64, 32),
    "128 at 16x16": (160, 128, 16),
    "256 at 8x8": (160, 256, 8),
}


def tensors(layer: str, dtype: torch.dtype, density: float) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, weights and dL/dy of a layer."""
    images, channels, size = LAYERS[layer]
    shape = (images, channels, size, size)
    found = (torch.rand(shape) < density, torch.randn(channels, channels, 3, 3), torch.randn(shape))
    x, weight, grad = (t.to(dtype, memory_format=torch.channels_last) for t in found)
    return x, weight, grad


def cases(x: Tensor, weight: Tensor, grad: Tensor) -> dict[str, tuple[Callable[[], object], ...]]:
    """What is timed: event-driven, dense."""
    ours = torch.ops.leanspike
    dense_gradient = partial(
        torch.ops.aten.convolution_backward,
        *(grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]),
    )
    return {
        "forward": (
            lambda: ours.convolution(x, weight, None, [1, 1], [1, 1]),
            lambda: F.conv2d(x, weight, padding=1),
        ),
        "gradient of the weights": (
            lambda: ours.convolution_weight_gradient(grad, x, weight, [1, 1]),
            dense_gradient,
        ),
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(pair: tuple[Callable[[], object], ...], rounds: int) -> float:
    """Median over the rounds, after one to warm up."""
    times = [(seconds(pair[0]), seconds(pair[1])) for _ in range(rounds + 1)]
    return median(events / dense for events, dense in times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--density", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
    )
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    keep_freed_memory()
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, {native.INSTRUCTIONS[native.means().instructions]}, "
        f"{arguments.rounds} rounds: event-driven ÷ dense"
    )
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        print(f"{name:40}", *(f"{density:6.2f}" for density in arguments.density), sep="")
        for layer in LAYERS:
            for what in ("forward", "gradient of the weights"):
                ratios = [
                    ratio(cases(*tensors(layer, dtype, density))[what], arguments.rounds)
                    for density in arguments.density
                ]
                print(f"  {layer:14}{what:24}", *(f"{r:6.2f}" for r in ratios), sep="", flush=True)


if __name__ == "__main__":
    main()
