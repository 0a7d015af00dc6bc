"""How long a training step and an answer of VGG9 take, ANN and SNN, as they stand.

The network is that of `leanspike bench`, BNTT's VGG9 without norms; weights, images and labels are
random, in channels_last; a training step is forward, cross-entropy, backward and SGD.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu.cases import Case, Found, Options
from leanspike.backends import Dynamics, reference
from leanspike.bench.contenders import Leanspike, network
from leanspike.surgery import SpikingNetwork

DTYPES = ("bfloat16", "float32")
SECONDS = 1.5
"""The longest that one case is timed for, after the first round."""

Compiled = Literal["", "neurons", "network"]


@dataclass(frozen=True)
class Work:
    """What is timed: ``timesteps`` 0 is the ANN; ``compiled`` by `torch.compile`, or nothing."""

    train: bool
    timesteps: int
    dtype: str
    compiled: Compiled = ""

    @property
    def name(self) -> str:
        """As in the table."""
        what = "training" if self.train else "inference"
        who = f"T = {self.timesteps}" if self.timesteps else "ANN"
        how = f", {self.compiled} compiled" if self.compiled else ""
        return f"{what}, {self.dtype}, {who}{how}"


def cases(options: Options) -> Sequence[Case]:
    """ANN and SNN in both dtypes, then a layer of neurons alone."""
    works = [
        Work(train, timesteps, dtype)
        for timesteps in (0, *options.timesteps)
        for dtype in DTYPES
        for train in (True, False)
    ]
    networks = [Case(work.name, partial(measure_network, work, options), 30) for work in works]
    layer = partial(measure_layer, options, reference.lif)
    return [*networks, Case("one layer of neurons, forward and backward", layer, 30)]


def measure_network(work: Work, options: Options) -> Found:
    """The median time of its calls, their quartiles, and the most memory that it took."""
    call = prepare(work, options)
    return timed(call, options, {**vars(work), "batch": options.batch})


def prepare(work: Work, options: Options) -> Callable[[], object]:
    """A training step or an answer, as a function without arguments."""
    device = torch.device(options.device)
    module = network(options.width)
    if work.timesteps:
        module = Leanspike(module, work.timesteps)
    module = module.to(device).to(memory_format=torch.channels_last).train(work.train)
    module = compile_part(module, work.compiled)
    x = torch.randn(options.batch, 3, 32, 32, device=device)
    x = x.to(memory_format=torch.channels_last)
    labels = torch.randint(10, (options.batch,), device=device)
    dtype = getattr(torch, work.dtype)

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return module(x)

    optimizer = torch.optim.SGD(module.parameters(), 1e-6)

    def step() -> None:
        loss = F.cross_entropy(forward().float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step if work.train else torch.no_grad()(forward)


def compile_part(module: nn.Module, what: Compiled) -> nn.Module:
    """The module with that part of it compiled."""
    if what == "network":
        return torch.compile(module, dynamic=False)
    if what == "neurons":
        for part in module.modules():
            if isinstance(part, SpikingNetwork):
                for _, neuron in part.neurons():
                    neuron.compile(dynamic=False)
    return module


def measure_layer(
    options: Options, kernel: Callable[[Tensor, Tensor, Tensor, Dynamics], Tensor]
) -> Found:
    """VGG9's first layer of neurons at T = 4 in float32, beside a copy of its input."""
    channels = max(1, round(64 * options.width))
    shape = (4, options.batch, channels, 32, 32)
    x, grad, out = (torch.randn(shape, device=options.device) for _ in range(3))
    x.requires_grad_()
    leak, threshold = (
        torch.tensor(value, device=options.device, requires_grad=True) for value in (0.9, 0.7)
    )

    def both() -> None:
        spikes = kernel(x, leak, threshold, Dynamics())
        torch.autograd.grad(spikes, (x, leak, threshold), grad)

    with torch.no_grad():
        copy_ms = median(milliseconds(lambda: out.copy_(x), options))
    found = timed(both, options, {"copy_ms": copy_ms})
    copies = found.values["ms"] / copy_ms
    return Found(
        found.figure, f"{copies:.1f} copies of its input; {found.detail}", None, found.values
    )


def timed(call: Callable[[], object], options: Options, values: dict[str, Any]) -> Found:
    """Warm up, then time; the memory is that of PyTorch's tensors, at most."""
    on_gpu = torch.device(options.device).type == "cuda"
    call()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    times = milliseconds(call, options)
    low, middle, high = quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    peak = torch.cuda.max_memory_allocated() if on_gpu else None
    detail = f"{low:.2f} to {high:.2f}, {len(times)} rounds"
    if peak is not None:
        detail += f", {peak / 2**30:.2f} GiB"
    values = values | {"ms": middle, "quartiles": [low, high], "rounds": len(times), "peak": peak}
    return Found(f"{middle:.2f} ms", detail, values=values)


def milliseconds(call: Callable[[], object], options: Options) -> list[float]:
    """Of each call, after three (one on a CPU) to warm up: by events of the GPU's own clock."""
    on_gpu = torch.device(options.device).type == "cuda"
    for _ in range(3 if on_gpu else 1):
        call()
    begun, times, events = time.perf_counter(), [], []
    for _ in range(options.rounds):
        start = time.perf_counter()
        if on_gpu:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            events.append((first, last))
            last.synchronize()
        else:
            call()
            times.append((time.perf_counter() - start) * 1e3)
        if time.perf_counter() - begun > SECONDS:
            break
    return times or [first.elapsed_time(last) for first, last in events]
