"""Which layers of PyTorch's give wrong gradients, crash or never end on this processor?

    python benchmarks/convolution_gradients.py
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/convolution_gradients.py

Convolutions of many kinds (kernel, stride, padding, groups, transposed, 1-d and 3-d), linear layers
and poolings, contiguous and channels_last, in float32 and bfloat16, in one to three threads,
forward and backward, beside the same layer in float64. Processes of their own take them, with a
time limit; what ends one is known, and what is wrong is tried alone. Where there is a C compiler
they run under ``guard.c``: a kernel that touches memory outside its own is caught in the act, and
memory that nobody wrote is NaN. What then became of an example without it, twenty times, is luck,
and told behind "without guard". It needs PyTorch alone, of any version.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

SECONDS = 10  # after which a case is taken to hang
TOGETHER = 40  # cases in a process
TIMES = 20  # that an example is repeated without guard
CAUGHT = 99  # guard.c's exit status
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the norm of float64's result

CHANNELS = (*range(1, 10), 12, 15, 16, 17)
STRIDES = ((1, 1), (2, 2), (3, 3), (1, 2), (2, 1))
KERNELS = ((1, 1), (2, 2), (3, 3), (1, 3), (5, 5))
SIZES = (1, 2, 3, 5, 8, 15, 16)
KINDS = {  # besides the grid of 2-d convolutions: the axes that a kernel has
    **dict.fromkeys(("grouped", "depthwise", "dilated", "conv_transpose2d", "skipped"), 2),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"), 2),
    **{"conv1d": 1, "conv3d": 3, "linear": 0},
}


@dataclass(frozen=True)
class Case:
    """A layer and an input of it. Layouts are "first" (contiguous) or "last" (channels_last)."""

    kind: str
    channels: int
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    size: tuple[int, ...]
    dtype: torch.dtype
    x: str = "first"
    weight: str = "first"
    grad: str = "first"
    groups: int = 1
    bias: bool = False
    batch: int = 16
    threads: int = 1

    @property
    def family(self) -> str:
        """Cases that are told of together."""
        parts = ("x".join(map(str, v)) for v in (self.kernel, self.stride, self.padding))
        geometry = "{} stride {} padding {}".format(*parts)
        return f"{self.kind} {geometry} {str(self.dtype).removeprefix('torch.')}"

    def __str__(self) -> str:
        shape = "x".join(map(str, (self.batch, self.channels, *self.size)))
        more = f", groups {self.groups}" * (self.groups > 1) + ", bias" * self.bias
        layouts = f"channels {self.x}, weights {self.weight}, dL/dy {self.grad}"
        return f"{shape} to {self.outputs}, {layouts}{more}, threads {self.threads}"


def grid(generator: random.Random) -> Iterator[Case]:
    """2-d convolutions: every kernel, stride, type, layout and number of channels."""
    dtypes, layouts = TOLERANCE, ("first", "last")
    for kernel, stride, channels, dtype, x in itertools.product(
        KERNELS, STRIDES, CHANNELS, dtypes, layouts
    ):
        padding = tuple(generator.choice((0, k // 2, k // 2)) for k in kernel)
        narrow = kernel == (1, 1) and generator.random() < 0.5
        size = (16, 16) if narrow else tuple(generator.choice(SIZES) for _ in kernel)
        case = Case("conv2d", channels, 8, kernel, stride, padding, size, dtype, x=x)
        outputs = generator.choice((1, 2, 3, 7, 8, 9, 16, 17, 32))
        yield _varied(generator, replace(case, outputs=outputs))


def others(generator: random.Random, count: int) -> Iterator[Case]:
    """So many of each other kind and type."""
    for _, dtype, (kind, axes) in itertools.product(range(count), TOLERANCE, KINDS.items()):
        channels, outputs = generator.choice(CHANNELS), generator.choice(CHANNELS)
        kernel = tuple(generator.choice((1, 1, 2, 3)) for _ in range(axes))
        padding = tuple(generator.choice((0, k // 2)) for k in kernel)
        stride = tuple(generator.choice((1, 2, 2, 3)) for _ in range(axes))
        size = tuple(generator.choice(SIZES[: 5 if axes == 3 else 7]) for _ in range(axes))
        groups = {"grouped": generator.choice((2, 3)), "depthwise": channels}.get(kind, 1)
        if kind == "grouped":
            channels, outputs = channels * groups, outputs * groups
        elif kind == "depthwise" or "pool" in kind:
            outputs = channels
        elif kind == "skipped":
            kernel, padding = (1, 1), (0, 0)
        case = Case(kind, channels, outputs, kernel, stride, padding, size, dtype, groups=groups)
        yield _varied(generator, replace(case, x=generator.choice(("first", "last"))))


def _varied(generator: random.Random, case: Case) -> Case:
    """The same, with what has no place in the grid at random."""
    layouts = ("first", "last")
    return replace(
        case,
        weight=generator.choice(layouts),
        grad=generator.choice((case.x, *layouts)),
        bias="pool" not in case.kind and generator.random() < 0.3,
        batch=generator.choice((1, 2, 16, 16)),
        threads=generator.choice((1, 2, 3)),
    )


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """With its channels, the second axis, last or where they are."""
    if layout == "first" or tensor.dim() < 3:
        return tensor.contiguous()
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def compute(case: Case, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The layer's output."""
    how = {"stride": case.stride, "padding": case.padding}
    match case.kind:
        case "linear":
            return F.linear(x, weight, bias)
        case "skipped":  # a 1x1 convolution of the pixels that a stride does not skip
            return F.conv2d(x[..., :: case.stride[0], :: case.stride[1]], weight, bias)
        case "adaptive_avg_pool2d":
            return F.adaptive_avg_pool2d(x, case.kernel)
        case "max_pool2d" | "avg_pool2d":
            return getattr(F, case.kind)(x, case.kernel, **how)
        case "conv_transpose2d":
            behind = [s - 1 for s in case.stride]
            return F.conv_transpose2d(x, weight, bias, **how, output_padding=behind)
    how |= {"groups": case.groups, "dilation": 2 if case.kind == "dilated" else 1}
    name = case.kind if case.kind in ("conv1d", "conv3d") else "conv2d"
    return getattr(F, name)(x, weight, bias, **how)


def difference(case: Case) -> str:
    """What is wrong with the layer's results, "" if nothing (or if float64 refuses it, too)."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(case.dtype)

    ends = (case.outputs, case.channels // case.groups)
    ends = (case.channels, case.outputs) if case.kind == "conv_transpose2d" else ends
    drawn = [draw(case.batch, case.channels, *case.size), draw(*ends, *case.kernel)]
    drawn += [draw(case.outputs)] if case.bias else []
    exact = [t.double().requires_grad_() for t in drawn]
    layouts = (case.x, case.weight, "first")
    found = [laid_out(t, how).requires_grad_() for t, how in zip(drawn, layouts, strict=False)]
    try:
        expected = compute(case, *exact)
    except RuntimeError:
        return ""
    y, grad = compute(case, *found), draw(*expected.shape)
    used = 1 if "pool" in case.kind else len(exact)
    gradients = torch.autograd.grad(y, found[:used], laid_out(grad, case.grad))
    right = torch.autograd.grad(expected, exact[:used], grad.double())
    names = ("output", "dL/dx", "dL/dweight", "dL/dbias")
    results = zip(names, (y, *gradients), (expected, *right), strict=False)
    return "; ".join(filter(None, (_wrong(*r, TOLERANCE[case.dtype]) for r in results)))


def _wrong(name: str, found: Tensor, expected: Tensor, tolerance: float) -> str:
    if not found.isfinite().all():
        return f"{name} is not finite"
    scale = expected.norm().clamp(min=1e-2 * expected.numel() ** 0.5)
    return f"{name} is wrong" if (found - expected).norm() / scale > tolerance else ""


def outcomes(cases: list[Case], times: int = 1) -> list[str]:
    """What became of these cases, in one process: up to the one that it died of, if it did."""
    with tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if child == 0:
            os.dup2(told.fileno(), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for case in cases:
                signal.alarm(SECONDS)  # which ends the process, even in C
                print(_repeated(case, times), flush=True)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told.seek(0)
        lines = told.read().splitlines()
    ends = {0: [], CAUGHT: ["outside its memory"], -signal.SIGALRM: ["does not end"]}
    return [*lines, *ends.get(status, [f"crashes ({status})"])]


def _repeated(case: Case, times: int) -> str:
    torch.set_num_threads(case.threads)
    found = [difference(case) for _ in range(times)]
    return "; ".join(dict.fromkeys(filter(None, found)))


def scan(cases: list[Case]) -> dict[Case, str]:
    """Every case that is not well, with what became of it."""
    found: dict[Case, str] = {}
    done = 0
    while done < len(cases):
        some = cases[done : done + TOGETHER]
        told = outcomes(some)
        for case, line in zip(some, told, strict=False):
            if line:
                found[case] = outcomes([case])[0] or f"{line}, behind others only"
        done += len(told)
    return found


def report(found: dict[Case, str], cases: list[Case]) -> None:
    """Families: how many of how many are not well, with which channels, and an example."""
    tried = Counter(case.family for case in cases)
    families = defaultdict(list)
    for case in found:
        families[case.family].append(case)
    for family, members in sorted(families.items()):
        channels = ", ".join(map(str, sorted({case.channels for case in members})))
        told = Counter(found[case] for case in members).most_common(3)
        luck = outcomes(members[:1], TIMES)[0] or "well"
        print(f"\n{family}: {len(members)} of {tried[family]}, channels {channels}")
        print("  " + "; ".join(f"{count}x {what}" for what, count in told))
        print(f"  as {members[0]}; without guard: {luck}", flush=True)


def guard(folder: Path) -> dict[str, str]:
    """What makes a process run under ``guard.c``: nothing without a compiler."""
    library, source = folder / "guard.so", Path(__file__).with_name("guard.c")
    try:
        command = ["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"LD_PRELOAD": str(library)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="2,600 cases each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # what the guarded scan found
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    cases = [
        case for _ in range(arguments.rounds) for case in (*grid(generator), *others(generator, 60))
    ]
    if arguments.into is not None:
        arguments.into.write_bytes(pickle.dumps(scan(cases)))
        return
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        into, guarded = Path(folder, "found"), guard(Path(folder))
        command = [sys.executable, *sys.argv, "--into", str(into)]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", **guarded}, check=True)
        found = pickle.loads(into.read_bytes())
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "none")
    print(
        f"torch {torch.__version__}, ONEDNN_MAX_CPU_ISA {limit}, guard: {bool(guarded)}, seed "
        f"{arguments.seed}: {len(found)} of {len(cases)} cases, {time.monotonic() - start:.0f} s"
    )
    report(found, cases)


if __name__ == "__main__":
    main()
