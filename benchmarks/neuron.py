"""The neuron's time beside one copy of its input in memory, native and reference kernel.

    python benchmarks/neuron.py                # VGG9's first layer: T=5, N=64, 64x32x32
    python benchmarks/neuron.py --rounds 31 --shape 5 32 128 16 16

The cases take turns, round by round, so that whatever else the machine does hits all alike; each
figure is a median over the rounds (and the minimum, where the machine was busy). Everything runs
twice, in processes of their own: with glibc as it is, which gives large tensors fresh pages whose
faults can cost more than the arithmetic, and after `leanspike.keep_freed_memory()`, which the
command line calls. Aims: forward within 2 copies, with backward within 6. "broadcast" and "expand"
are the two ways into a layer whose input is the same at every step.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from leanspike import native as library
from leanspike.backends import Dynamics, reference
from leanspike.backends.native import lif as native
from leanspike.memory import keep_freed_memory
from leanspike.temporal import broadcast

Kernel = Callable[[Tensor, Tensor, Tensor, Dynamics], Tensor]


def cases(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """What is timed, by name; tensors ``[T, N, C, H, W]`` whose steps are channels_last."""
    folded = (shape[0] * shape[1], *shape[2:])
    x, out, grad = (
        torch.randn(folded).to(dtype, memory_format=torch.channels_last).unflatten(0, shape[:2])
        for _ in range(3)
    )
    return {
        "copy into existing memory": lambda: out.copy_(x),
        "copy into new memory": lambda: x.clone(),
        "native forward": lambda: forward(native.lif, x),
        "native forward, static input": lambda: forward(native.lif, x[0].expand(x.shape)),
        "native both, leak and threshold fixed": lambda: both(native.lif, x, grad, learn=False),
        "native both": lambda: both(native.lif, x, grad),
        "native both, static input by broadcast": lambda: both(native.lif, x[0], grad, broadcast),
        "native both, static input by expand": lambda: both(native.lif, x[0], grad, expand),
        "reference forward": lambda: forward(reference.lif, x),
        "reference both": lambda: both(reference.lif, x, grad),
    }


@torch.no_grad()
def forward(kernel: Kernel, x: Tensor) -> Tensor:
    return kernel(x, torch.tensor(0.9), torch.tensor(0.7), Dynamics())


def expand(x_N: Tensor, timesteps: int) -> Tensor:
    return x_N.expand(timesteps, *x_N.shape)


def both(
    kernel: Kernel,
    x: Tensor,
    grad: Tensor,
    enter: Callable[[Tensor, int], Tensor] = lambda x, _: x,
    learn: bool = True,
) -> object:
    """Forward and backward, to the input and (learn) leak and threshold."""
    x = x.detach().requires_grad_()
    leak, threshold = (torch.tensor(value, requires_grad=learn) for value in (0.9, 0.7))
    spikes = kernel(enter(x, len(grad)), leak, threshold, Dynamics())
    return torch.autograd.grad(spikes, (x, leak, threshold) if learn else x, grad)


def seconds(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The times of each case over the rounds, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def report(shape: tuple[int, ...], rounds: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        times = seconds(cases(shape, dtype), rounds)
        copy = times["copy into existing memory"]
        print(f"  {str(dtype).removeprefix('torch.'):38} median ms  copies      min ms  copies")
        for name, values in times.items():
            columns = [(f(values) * 1e3, f(values) / f(copy)) for f in (median, min)]
            print(f"  {name:38}", *(f"{ms:9.1f} {ratio:7.2f}" for ms, ratio in columns), sep="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=5, default=[5, 64, 64, 32, 32], metavar="n")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--in-this-process", choices=["default", "kept"], help="how memory is kept")
    arguments = parser.parse_args()
    if arguments.in_this_process:
        if arguments.in_this_process == "kept" and not keep_freed_memory():
            sys.exit("this system's memory cannot be kept")
        report(tuple(arguments.shape), arguments.rounds)
        return
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, ", end=""
    )
    print(
        f"torch {torch.__version__}, instructions {library.available_instructions()[-1]}, ", end=""
    )
    print(f"T, N, C, H, W = {arguments.shape}, {arguments.rounds} rounds")
    for memory in ("default", "kept"):
        print(f"memory: {memory}", flush=True)
        subprocess.run([sys.executable, *sys.argv, "--in-this-process", memory], check=True)


if __name__ == "__main__":
    main()
