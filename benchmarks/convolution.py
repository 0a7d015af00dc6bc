"""The time of leanspike's convolutions beside PyTorch's: by events, and by Winograd's filtering.

    python benchmarks/convolution.py
    python benchmarks/convolution.py --rounds 15 --density 0.05 0.1

Layers are those of VGG9 that spikes enter, at T = 5 and batch 32; 3x3 kernels, channels_last. The
cases take turns, round by round; a figure is the median of the rounds' ratios, ours ÷ PyTorch's,
and below 1 where ours is faster. The time of events depends on the share of inputs that are not 0;
that of Winograd's filtering, which training takes in float32, does not. Memory is kept
(`leanspike.keep_freed_memory`), so that both are spared the page faults of fresh results. On an
older processor:
`LEANSPIKE_INSTRUCTIONS=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/convolution.py`.
`DENSEST`, `DENSEST_LEARNING` and `DENSEST_GRADIENT` of `leanspike.backends.native.convolution` were
chosen from this.
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


def cases(x: Tensor, weight: Tensor, grad: Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """What is timed: by PyTorch, by events and, in float32, by Winograd's filtering."""
    ours, winograd = torch.ops.leanspike, x.dtype == torch.float32

    def dense(*wanted: bool) -> Callable[[], object]:
        return partial(
            torch.ops.aten.convolution_backward,
            *(grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, list(wanted)),
        )

    found: dict[str, dict[str, Callable[[], object]]] = {
        "forward": {
            "pytorch": lambda: F.conv2d(x, weight, padding=1),
            "events": lambda: ours.convolution(x, weight, None, [1, 1], [1, 1]),
        },
        "gradient of the weights": {
            "pytorch": dense(False, True, False),
            "events": lambda: ours.convolution_weight_gradient(grad, x, weight, [1, 1]),
        },
        "gradient of the input": {"pytorch": dense(True, False, False)},
    }
    if winograd:
        how = grad, x, weight, [1, 1]
        found["forward"]["winograd"] = lambda: ours.winograd(x, weight, None, [1, 1])
        found["gradient of the weights"]["winograd"] = lambda: ours.winograd_weight_gradient(*how)
        found["gradient of the input"]["winograd"] = lambda: ours.winograd_input_gradient(*how)
    return found


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(case: dict[str, Callable[[], object]], ours: str, rounds: int) -> float:
    """Median over the rounds of ours ÷ PyTorch's, after one to warm up."""
    times = [(seconds(case[ours]), seconds(case["pytorch"])) for _ in range(rounds + 1)]
    return median(mine / theirs for mine, theirs in times[1:])


def rows(layer: str, dtype: torch.dtype, densities: list[float], rounds: int) -> None:
    """Print what was measured of a layer: a row for each thing that is computed in each way."""
    for what, case in cases(*tensors(layer, dtype, densities[0])).items():
        for ours in case:
            if ours == "pytorch":
                continue
            seen = densities if ours == "events" else densities[:1]
            found = [
                ratio(cases(*tensors(layer, dtype, density))[what], ours, rounds)
                for density in seen
            ]
            print(f"  {layer:14}{what:25}{ours:10}", *(f"{r:6.2f}" for r in found), sep="")


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
        f"{arguments.rounds} rounds: time ÷ PyTorch's"
    )
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        print(f"{name:51}", *(f"{density:6.2f}" for density in arguments.density), sep="")
        for layer in LAYERS:
            rows(layer, dtype, arguments.density, arguments.rounds)


if __name__ == "__main__":
    main()
