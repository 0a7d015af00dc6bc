"""Neurons and norms on the device, beside the reference in float64 on the CPU.

Inputs are whole numbers of 64ths and leaks a half, so that membranes are exact in float32: spikes
must be equal, bit for bit. Only where inputs are random may rounding decide, and it is counted.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import product
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from benchmarks.gpu.cases import Case, Found
from leanspike.backends import Dynamics, reference
from leanspike.neuron import LIF, SURROGATES
from leanspike.temporal import TEMPORAL_NORMS, broadcast

SHAPE = (6, 8, 16, 8, 8)  # T, N, C, H, W
LEAK, THRESHOLD = 0.5, 0.75
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float64: 1e-9}
"""The largest relative error of a gradient, by the type of the input."""


def cases(device: str) -> Sequence[Case]:
    """Spikes, gradients, layouts, streaming, autocast, compiled; then the norms."""
    types = (torch.float32, torch.bfloat16, torch.float64)
    neurons = {
        **{f"neuron, {_name(t)}: spikes, exact inputs": partial(spikes, device, t) for t in types},
        "neuron, float32: spikes, random inputs": partial(random_spikes, device),
        **{f"neuron, {_name(t)}: gradients": partial(gradients, device, t) for t in types},
        "neuron: one input for all steps": partial(static_input, device),
        "neuron: step by step": partial(streaming, device),
        "neuron: under autocast": partial(autocast, device),
    }
    norms = {f"norm {name}": partial(norm, device, name) for name in TEMPORAL_NORMS}
    quick = [Case(name, run) for name, run in (neurons | norms).items()]
    return [*quick, Case("neuron: compiled", partial(compiled, device), limit=120)]


def kinds() -> Iterator[dict[str, Any]]:
    """Every way in which a neuron can be set, as arguments of ``LIF``."""
    choices = get_type_hints(Dynamics)
    names = ("reset", "initial", "height")
    for values in product(*(get_args(choices[name]) for name in names), SURROGATES.values()):
        yield {**dict(zip(names, values[:3], strict=True)), "surrogate": values[3]()}


def neuron(device: str, kind: dict[str, Any], **other: float) -> LIF:
    """Such a neuron, with learned leak and threshold."""
    values = {"threshold": THRESHOLD, "leak": LEAK} | other
    return LIF(**values, **kind, learn=("leak", "threshold")).to(device)


def exact(seed: int = 0) -> Tensor:
    """Inputs whose membranes are exact, ``[T, N, C, H, W]``, steps in channels_last."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-64, 128, SHAPE, generator=generator) / 64
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


def truth(x_TN: Tensor, layer: LIF, grad_TN: Tensor | None = None) -> tuple[Tensor, ...]:
    """Spikes, and gradients of x, leak and threshold, by the reference in float64 on the CPU."""
    x, leak, threshold = (
        value.detach().cpu().double().requires_grad_()
        for value in (x_TN, layer.leak, layer.threshold)
    )
    o_TN = reference.lif(x, leak, threshold, layer.dynamics)
    if grad_TN is None:
        return (o_TN.detach(),)
    return o_TN.detach(), *torch.autograd.grad(o_TN, (x, leak, threshold), grad_TN.cpu().double())


def spikes(device: str, dtype: torch.dtype) -> Found:
    """Of every kind of neuron: how many differ."""
    x_TN, wrong, number = exact(), 0, 0
    for kind in kinds():
        layer = neuron(device, kind)
        with torch.no_grad():
            o_TN = layer(x_TN.to(device, dtype))
        (expected,) = truth(x_TN, layer)
        wrong += int((o_TN.cpu().double() != expected).sum())
        number += 1
    return _differing(wrong, number * x_TN.numel(), f"{number} kinds")


def random_spikes(device: str) -> Found:
    """Of normal inputs, beside float32 on the CPU: the same operations should round alike."""
    generator = torch.Generator().manual_seed(0)
    x_TN, wrong, number = torch.randn(SHAPE, generator=generator), 0, 0
    for kind in kinds():
        layer = neuron(device, kind, threshold=0.7, leak=0.9)
        with torch.no_grad():
            o_TN = layer(x_TN.to(device)).cpu()
            leak, threshold = layer.leak.cpu(), layer.threshold.cpu()
            expected = reference.lif(x_TN, leak, threshold, layer.dynamics)
        wrong += int(((o_TN != 0) != (expected != 0)).sum())
        number += 1
    return _differing(wrong, number * x_TN.numel(), "rounding may decide", most=1e-6)


def gradients(device: str, dtype: torch.dtype) -> Found:
    """Of input, leak and threshold: the largest error, relative to the norm."""
    x_TN = exact()
    grad_TN = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) + 0.5
    grad_TN = grad_TN.to(torch.bfloat16)  # which every type holds
    worst: dict[str, float] = {}
    for kind in kinds():
        layer = neuron(device, kind)
        layer = layer.double() if dtype == torch.float64 else layer
        x = x_TN.to(device, dtype).requires_grad_()
        inputs = (x, layer.leak, layer.threshold)
        found = torch.autograd.grad(layer(x), inputs, grad_TN.to(device, dtype))
        _, *expected = truth(x_TN, layer, grad_TN)
        for name, ours, theirs in zip(("x", "leak", "threshold"), found, expected, strict=True):
            worst[name] = max(worst.get(name, 0.0), error(ours, theirs))
    return _closeness(worst, CLOSE[dtype])


def static_input(device: str) -> Found:
    """A broadcast view gives what the same input gives, written out for each step."""
    x_N = exact()[0].to(device)
    wrong, worst = 0, 0.0
    for kind in kinds():
        layer = neuron(device, kind)
        seen = []
        for enter in (broadcast, lambda x, t: torch.stack([x] * t)):
            x = x_N.clone().requires_grad_()
            o_TN = layer(enter(x, 5))
            seen.append((o_TN, *torch.autograd.grad(o_TN.sum(), x)))
        wrong += int((seen[0][0] != seen[1][0]).sum())
        worst = max(worst, error(seen[0][1], seen[1][1]))
    found = _closeness({"x": worst}, 1e-5)
    return Found(found.figure, f"{wrong} spikes differ", bool(found.ok) and wrong == 0)


def streaming(device: str) -> Found:
    """Step by step fires as the whole sequence does."""
    wrong = number = 0
    for kind, dtype in product(kinds(), (torch.float32, torch.bfloat16)):
        layer, x_TN, u_N = neuron(device, kind), exact().to(device, dtype), None
        with torch.no_grad():
            for x_N, expected in zip(x_TN, layer(x_TN), strict=True):
                o_N, u_N = layer.step(x_N, u_N)
                wrong += int((o_N != expected).sum())
                number += o_N.numel()
                assert u_N.dtype == torch.float32
    return _differing(wrong, number, "membranes are float32")


def autocast(device: str) -> Found:
    """Autocast to bfloat16 changes nothing about a neuron."""
    wrong = number = 0
    for kind, dtype in product(kinds(), (torch.float32, torch.bfloat16)):
        layer, x_TN = neuron(device, kind), exact().to(device, dtype)
        with torch.no_grad():
            expected = layer(x_TN)
            with torch.autocast(device, torch.bfloat16):
                o_TN = layer(x_TN)
        wrong += int((o_TN != expected).sum()) + (o_TN.dtype != expected.dtype)
        number += o_TN.numel()
    return _differing(wrong, number, "")


def compiled(device: str) -> Found:
    """`torch.compile` of a neuron: its spikes and gradients."""
    x_TN, worst = exact()[:3], {}  # each further step makes the compiler's work longer
    kind = {"reset": "soft", "initial": "half", "height": "threshold"}
    layer = neuron(device, kind)
    x = x_TN.to(device).requires_grad_()
    o_TN = torch.compile(layer, dynamic=False)(x)
    grads = torch.autograd.grad(o_TN.sum(), (x, layer.leak, layer.threshold))
    expected, *theirs = truth(x_TN, layer, torch.ones_like(x_TN))
    wrong = int((o_TN.detach().cpu().double() != expected).sum())
    for name, ours, true in zip(("x", "leak", "threshold"), grads, theirs, strict=True):
        worst[name] = error(ours, true)
    found = _closeness(worst, CLOSE[torch.float32])
    return Found(found.figure, f"{wrong} spikes differ", bool(found.ok) and wrong == 0)


def norm(device: str, name: str) -> Found:
    """A temporal norm: outputs, gradients, running statistics, eval mode, single steps."""
    steps, channels = SHAPE[0], SHAPE[2]
    torch.manual_seed(0)
    layer = TEMPORAL_NORMS[name](channels, steps)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    double, layer = deepcopy(layer).double(), layer.to(device)
    x_TN, weights = torch.randn(SHAPE), torch.randn(SHAPE)
    worst: dict[str, float] = {}
    seen = []
    for module, x in ((layer, x_TN.to(device)), (double, x_TN.double())):
        x.requires_grad_()
        y_TN = module(x)
        inputs = (x, *module.parameters())
        grads = torch.autograd.grad(y_TN, inputs, weights.to(y_TN))
        with torch.no_grad():
            evaluated = module.eval()(x)
            single = module.step(x[1], 1)
        statistics = (module.running_mean, module.running_var)
        seen.append((y_TN.detach(), *grads, *statistics, evaluated, single))
    for number, (ours, theirs) in enumerate(zip(*seen, strict=True)):
        worst[str(number)] = error(ours, theirs)
    return _closeness({"anything": max(worst.values())}, 1e-4)


def error(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖; infinite for NaN."""
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    found = float((ours - theirs).norm() / theirs.norm().clamp(min=1e-30))
    return found if found == found else float("inf")


def _differing(wrong: int, number: int, detail: str, most: float = 0.0) -> Found:
    figure = f"{wrong:,} of {number / 1e6:.1f} M differ"
    return Found(figure, detail, wrong <= most * number, {"wrong": wrong, "number": number})


def _closeness(worst: dict[str, float], most: float) -> Found:
    largest = max(worst.values())
    detail = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    return Found(f"error {largest:.1e}", f"at most {most:.0e}; {detail}", largest <= most, worst)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
