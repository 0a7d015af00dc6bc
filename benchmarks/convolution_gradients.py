"""Which layers of PyTorch's compute wrong gradients, crash or never end on this processor?

    python benchmarks/convolution_gradients.py
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/convolution_gradients.py

Convolutions of many kinds (kernel, stride, padding, groups, transposed, 1-d and 3-d), linear layers
and poolings, contiguous and channels_last, in float32 and bfloat16, forward and backward. Each in
a process of its own (a fork of one that has computed nothing) with a time limit, and beside the
same layer in float64. Where a C compiler is at hand, under ``guard.c``: a kernel that touches memory
outside its own is caught in the act, and uninitialised memory is NaN. "Alone" says what
became of the case's kind without it, twenty times over, when luck decides. Needs nothing but torch,
of any version, and runs without leanspike.
"""

from __future__ import annotations

import argparse
import itertools
import os
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
from torch import Tensor, nn
from torch.nn import functional as F

SECONDS = 10  # after which a case is taken to hang
CAUGHT = 99  # guard.c's exit status
TOGETHER = 40  # cases in a process
TIMES = 20  # that a case is repeated without guard
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the norm of float64's result
ALIGNED = "LEANSPIKE_GUARDED"  # set in the process that runs under guard.c

CHANNELS = (*range(1, 10), 15, 16, 17)
STRIDES = ((1, 1), (2, 2), (3, 3), (1, 2), (2, 1))
KERNELS = ((1, 1), (2, 2), (3, 3), (1, 3), (5, 5))
SIZES = (1, 2, 3, 5, 8, 16)
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Case:
    """A layer, and an input of it. Layouts: "first" is contiguous, "last" channels_last."""

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
    dilation: int = 1
    bias: bool = False
    batch: int = 16
    threads: int = 1

    def __str__(self) -> str:
        shape = "x".join(map(str, (self.batch, self.channels, *self.size)))
        extras = [f"groups {self.groups}"] * (self.groups > 1)
        extras += [f"dilation {self.dilation}"] * (self.dilation > 1) + ["bias"] * self.bias
        extras += [f"{self.threads} threads"] * (self.threads > 1)
        layouts = f"channels {self.x}, weights {self.weight}, dL/dy {self.grad}"
        return ", ".join([f"{self.family}: {shape} to {self.outputs}", layouts, *extras])

    @property
    def family(self) -> str:
        """Cases that are told of together."""
        kernel, stride, padding = (
            "x".join(map(str, v)) for v in (self.kernel, self.stride, self.padding)
        )
        dtype = str(self.dtype).removeprefix("torch.")
        grouped = "" if self.groups == 1 else " grouped"
        return f"{self.kind}{grouped} {kernel} stride {stride} padding {padding} {dtype}"


def neighbours(generator: random.Random, rounds: int) -> Iterator[Case]:
    """2-d convolutions: every kernel, stride, number of channels, type and layout.

    What is not named varies at random.
    """
    grid = itertools.product(KERNELS, STRIDES, CHANNELS, DTYPES, ("first", "last"))
    for kernel, stride, channels, dtype, x in [*grid] * rounds:
        size = tuple(generator.choice(SIZES) for _ in kernel)
        padding = tuple(k // 2 if generator.random() < 0.7 else 0 for k in kernel)
        if x == "last" and kernel == (1, 1) and generator.random() < 0.7:
            size = (16, 16)
        yield _varied(
            generator,
            Case("conv2d", channels, 8, kernel, stride, padding, size, dtype, x=x),
        )


def others(generator: random.Random, rounds: int) -> Iterator[Case]:
    """Groups, depthwise, dilated, transposed, 1-d and 3-d convolutions, linear layers, poolings."""
    for _ in range(rounds * 60):
        for dtype in DTYPES:
            for kind in KINDS:
                yield _drawn(generator, kind, dtype)


KINDS = ("grouped", "depthwise", "dilated", "transposed", "conv1d", "conv3d", "linear")
KINDS = (*KINDS, "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "sliced")


def _drawn(generator: random.Random, kind: str, dtype: torch.dtype) -> Case:
    dims = {"conv1d": 1, "conv3d": 3, "linear": 0}.get(kind, 2)
    channels, outputs = generator.choice(CHANNELS), generator.choice((1, 2, 3, 4, 8, 9, 16, 17))
    kernel = tuple(generator.choice((1, 1, 2, 3)) for _ in range(dims))
    stride = tuple(generator.choice((1, 2, 2, 3)) for _ in range(dims))
    padding = tuple(generator.choice((0, k // 2)) for k in kernel)
    size = tuple(generator.choice(SIZES[: 4 if dims == 3 else 6]) for _ in range(dims))
    groups, dilation = 1, 1
    if kind == "grouped":
        groups = generator.choice((2, 3))
        channels, outputs = channels * groups, outputs * groups
    elif kind == "depthwise":
        groups, outputs = channels, channels * generator.choice((1, 2))
    elif kind == "dilated":
        dilation = 2
    elif "pool" in kind:
        outputs = channels
    elif kind == "sliced":
        kernel, padding = (1, 1), (0, 0)
    name = "conv2d" if kind in ("grouped", "depthwise", "dilated") else kind
    case = Case(name, channels, outputs, kernel, stride, padding, size, dtype)
    return _varied(generator, replace(case, groups=groups, dilation=dilation), outputs)


def _varied(generator: random.Random, case: Case, outputs: int | None = None) -> Case:
    """The same with what does not matter to its kind at random."""
    either = ("first", "last")
    return replace(
        case,
        outputs=outputs or generator.choice((1, 2, 3, 7, 8, 9, 16, 17, 32)),
        x=case.x if case.x == "last" else generator.choice(either if outputs else ("first",)),
        weight=generator.choice(either),
        grad=generator.choice(("same", "same", "first", "last")),
        bias=generator.random() < 0.3,
        batch=generator.choice((1, 2, 16, 16)),
        threads=generator.choice((1, 1, 2, 3)),
    )


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """In channels_last or contiguous; what has no channels_last stays as it is."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if layout != "last" or tensor.dim() not in formats:
        return tensor.contiguous()
    return tensor.contiguous(memory_format=formats[tensor.dim()])


def compute(case: Case, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer's output."""
    name = f"conv_transpose{len(case.size)}d" if case.kind == "transposed" else case.kind
    how = {"stride": case.stride, "padding": case.padding}
    if case.kind == "linear":
        return F.linear(x, weight, bias)
    if case.kind == "sliced":  # a 1x1 convolution with a stride, as one of stride 1
        return F.conv2d(x[..., :: case.stride[0], :: case.stride[1]], weight, bias)
    if case.kind == "adaptive_avg_pool2d":
        return F.adaptive_avg_pool2d(x, case.kernel)
    if "pool" in case.kind:
        return getattr(F, name)(x, case.kernel, **how)
    how |= {"dilation": case.dilation, "groups": case.groups}
    return getattr(F, name)(x, weight, bias, **how)


def difference(case: Case) -> str:
    """What is wrong with the layer's results, "" if nothing: run it and compare with float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(case.dtype)

    each = case.channels // case.groups
    shape = (case.outputs, each, *case.kernel)
    if case.kind == "transposed":
        shape = (case.channels, case.outputs // case.groups, *case.kernel)
    exact = [draw(case.batch, case.channels, *case.size).double(), draw(*shape).double()]
    exact += [draw(case.outputs).double()] if case.bias else []
    layouts = (case.x, case.weight, "first")
    found = [
        laid_out(t.to(case.dtype, copy=True), how).requires_grad_()
        for t, how in zip(exact, layouts, strict=False)
    ]
    exact = [t.requires_grad_() for t in exact]
    y, expected = (compute(case, *(*t, None)[:3]) for t in (found, exact))
    grad = draw(*y.shape)
    like = case.x if case.grad == "same" else case.grad
    used = [i for i in range(len(exact)) if i == 0 or "pool" not in case.kind]
    gradients = torch.autograd.grad(y, [found[i] for i in used], laid_out(grad, like))
    right = torch.autograd.grad(expected, [exact[i] for i in used], grad.double())
    names = ("output", "dL/dx", "dL/dweight", "dL/dbias")
    results = zip(names, (y, *gradients), (expected, *right), strict=False)
    return "; ".join(filter(None, (_wrong(*r, TOLERANCE[case.dtype]) for r in results)))


def _wrong(name: str, found: Tensor, expected: Tensor, tolerance: float) -> str:
    if not found.isfinite().all():
        return f"{name} is not finite"
    scale = expected.norm().clamp(min=1e-3 * expected.numel() ** 0.5)
    error = ((found.double() - expected).norm() / scale).item()
    return f"{name} is off by {error:.1g}" if error > tolerance else ""


def is_valid(case: Case) -> bool:
    """Whether float64 can do it: padded inputs are as large as the kernel, at least."""
    if "pool" in case.kind and (case.kind.startswith("adaptive") or case.bias):
        return not case.bias
    reach = ((k - 1) * case.dilation + 1 for k in case.kernel)
    return case.kind == "transposed" or all(
        n + 2 * p >= k for n, p, k in zip(case.size, case.padding, reach, strict=True)
    )


def outcomes(cases: list[Case], times: int = 1) -> list[str]:
    """What became of the first of these cases, in one process: "" where all is well.

    They end with the one that the process died of, if it did.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        for case in cases:
            signal.alarm(SECONDS)  # which ends the process, even in C
            print(repeated(case, times), flush=True)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    lines = told.split("\n")
    last = lines.pop()
    if status == 0:
        return lines
    if not os.WIFSIGNALED(status):  # guard.c's last word
        return lines if os.WEXITSTATUS(status) == CAUGHT else [*lines, last or "ends"]
    number = os.WTERMSIG(status)
    how = "hangs" if number == signal.SIGALRM else f"dies of {signal.Signals(number).name}"
    return [*[line for line in lines if not line.startswith("free")], how]


def repeated(case: Case, times: int) -> str:
    """What is wrong with a layer's results, time after time."""
    torch.set_num_threads(case.threads)
    try:
        return "; ".join(dict.fromkeys(filter(None, (difference(case) for _ in range(times)))))
    except RuntimeError as error:
        return f"refused: {str(error).splitlines()[0][:80]}"


def scan(cases: list[Case]) -> dict[Case, str]:
    """Every case that is not well, with what became of it.

    A process takes many cases, until one ends it; what is not well there is tried alone.
    """
    found: dict[Case, str] = {}
    done = 0
    while done < len(cases):
        some = cases[done : done + TOGETHER]
        told = outcomes(some)
        for case, line in zip(some, told, strict=False):
            if line:
                found[case] = outcomes([case])[0] or f"only behind others: {line}"
        done += len(told)
        if sys.stderr.isatty():
            print(f"\r{done}/{len(cases)}, {len(found)} not well", end="", file=sys.stderr)
    return found


def report(found: dict[Case, str], cases: list[Case]) -> None:
    """Families of cases: how many of how many are not well, of which channels, and an example."""
    tried = Counter(case.family for case in cases)
    families = defaultdict(list)
    for case in found:
        families[case.family].append(case)
    for family, members in sorted(families.items()):
        print(f"\n{family}: {len(members)} of {tried[family]}")
        layouts = sorted({case.x for case in members})
        print(f"  channels {sorted({case.channels for case in members})}, {' and '.join(layouts)}")
        for told, count in Counter(found[case] for case in members).most_common(4):
            print(f"  {count}x {told}")
        print(f"  as {members[0]}")


def guard() -> Path | None:
    """``guard.c`` as a library, None without a compiler."""
    library = Path(tempfile.mkdtemp()) / "guard.so"
    source = Path(__file__).with_name("guard.c")
    try:
        command = ["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="1,200 convolutions and more each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", type=int, default=12, help="cases tried without guard")
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    drawn = [
        *neighbours(generator, arguments.rounds),
        *others(generator, arguments.rounds),
    ]
    cases = [case for case in drawn if is_valid(case)]
    start = time.monotonic()
    found = scan(cases)
    print(f"{len(found)} of {len(cases)} cases, {time.monotonic() - start:.0f} s")
    report(found, cases)


if __name__ == "__main__":
    main()
