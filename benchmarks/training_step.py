"""What a training step costs beside one of the ANN's, and where its time goes.

    python benchmarks/training_step.py [cifar10|vgg9|resnet20] [--batch 64] [--norm keep] [--bf16]

The convolutional network with batch norms of the recipe `cifar10`, norms kept; the network of
`leanspike bench` (BNTT's VGG9, without norms); or `cifar_resnet20`, where every second norm is
followed by an addition. T = 5, batch 64, float32, images of noise, memory kept. A step is forward,
loss, backward and SGD. The ANN by PyTorch alone, the ANN as `fit` trains it, `rate` and `bptt` take
turns within one process, so that whatever else the machine does hits all alike; each figure is the
median of the rounds' ratios to the first, with quartiles. Times are the processor's. Thresholds are
fixed; the shares of convolutions' inputs that are not 0 are printed, as the time of event-driven
convolutions goes by them.

Rows further down are the same step with less of what makes it fast: small images not laid side by
side for the gradients of weights (in bfloat16, with matrix units); max pools of rate gradients in
PyTorch; dense convolutions by PyTorch;
also norms that no neurons alone read; all norms there, and neurons after them; linear layers of
rate gradients run on all steps and on their mean; neurons of rate gradients in plain PyTorch. The
profile is of one step each, by kind of work, as PyTorch's profiler tells it.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median, quantiles
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from leanspike import LIF, SpikingNetwork, keep_freed_memory, spike
from leanspike.backends.native import convolution
from leanspike.bench.contenders import network as vgg9
from leanspike.models import create_model
from leanspike.recipes import load_recipe
from leanspike.surrogate import Triangle
from leanspike.synapse import EventConv2d, convolving_faster

T = 5
DENSE = {"leanspike.backends.native.winograd.knows": lambda _call: False}
APART = DENSE | {"leanspike.backends.native.norm.LEAST_WORK": math.inf}
TWICE = {"leanspike.execute.rate.follows_mean": lambda _layer, _x: False}
PLAIN = {"leanspike.backends.native.lif.serves": lambda _call: False}
ALONE = DENSE | {"leanspike.backends.native.norm_alone.serves": lambda _call: False}
APART_IMAGES = {"leanspike.backends.native.side_by_side.knows": lambda _call: False}
POOLS = {"leanspike.backends.native.pool.serves": lambda _call: False}
BEFORE: dict[str, tuple[str, dict[str, Any]]] = {
    "ann, fit, images apart": ("ann, as fit trains it", APART_IMAGES),
    "rate, images apart": ("rate", APART_IMAGES),
    "bptt, images apart": ("bptt", APART_IMAGES),
    "rate, max pools in PyTorch": ("rate", POOLS),
    "rate, dense by PyTorch": ("rate", DENSE),
    "bptt, dense by PyTorch": ("bptt", DENSE),
    "rate, lone norms in PyTorch": ("rate", ALONE),
    "rate, norms apart": ("rate", APART),
    "rate, and layers twice": ("rate", APART | TWICE),
    "rate, and neurons in PyTorch": ("rate", APART | TWICE | PLAIN),
    "bptt, lone norms in PyTorch": ("bptt", ALONE),
    "bptt, norms apart": ("bptt", APART),
}
"""Names of steps, which step that is, and what is patched."""
LEARNING_RATE = 1e-6  # keeps the weights as they are, and the spikes
THRESHOLD = {"cifar10": 3.0, "vgg9": 1.0, "resnet20": 3.0}
KINDS = {  # the first whose word is in an operator's name
    "convolution backward": ("convolution_backward", "weight_gradient", "winograd_input"),
    "convolution forward": ("conv", "winograd", "leanspike::density"),
    "norm and neuron, fused": ("norm_lif",),
    "norm": ("batch_norm", "::var", "::rsqrt", "leanspike::norm"),
    "neuron": ("lif",),
    "pooling": ("pool",),
    "matrix product": ("mm", "linear"),
    "copy, fill, stack": ("copy", "clone", "fill", "zero", "cat", "stack", "repeat"),
}
ELEMENTS, REST = "element by element, sums", "rest: Python, dispatch, waiting"
OURS = "GeneratedBackwardFor_"


def main(
    name: Annotated[str, typer.Argument(help="cifar10, vgg9 or resnet20.")] = "cifar10",
    rounds: Annotated[int, typer.Option(help="That are timed, after one.")] = 7,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
    only: Annotated[str, typer.Option(help="rate or bptt, beside the ANN.")] = "",
    before: Annotated[bool, typer.Option(help="Also how it was before.")] = True,
    batch: Annotated[int, typer.Option(help="Images.")] = 64,
    norm: Annotated[str, typer.Option(help="keep, bntt, tebn or tdbn.")] = "keep",
    bf16: Annotated[bool, typer.Option(help="Under autocast.")] = False,
) -> None:
    """Print ratios and profiles."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    steps, snn, x = contenders(name, batch, norm)
    if bf16:
        steps = {key: in_bfloat16(step) for key, step in steps.items()}
    if before:
        steps |= {key: patched(steps[of], how) for key, (of, how) in BEFORE.items()}
    steps = {key: step for key, step in steps.items() if key.startswith(("ann", only))}
    kind = f"norms: {norm}, {'bfloat16' if bf16 else 'float32'}"
    print(f"{name}: torch {torch.__version__}, {threads} thread(s), T = {T}, batch {batch}, {kind}")
    shares = ", ".join(f"{path} {share:.2f}" for path, share in densities(snn, x).items())
    print(f"inputs of convolutions that are not 0: {shares}")
    times = [{key: seconds(step) for key, step in steps.items()} for _ in range(rounds + 1)][1:]
    print(f"medians of {rounds} rounds (quartiles), in steps of the ANN")
    for key in steps:
        ratios = [each[key] / each["ann"] for each in times]
        low, _, high = quantiles(ratios, n=4)
        ms = 1e3 * median(each[key] for each in times)
        print(f"{key:30} {median(ratios):5.2f} ({low:.2f}-{high:.2f}) {ms:8.0f} ms", flush=True)
    show({key: kinds_of_work(step) for key, step in steps.items()})


def patched(step: Callable[[], object], how: dict[str, Any]) -> Callable[[], None]:
    """A step with other values in the places of some."""

    def run() -> None:
        with ExitStack() as stack:
            for place, value in how.items():
                stack.enter_context(patch(place, value))
            step()

    return run


def in_bfloat16(step: Callable[[], object]) -> Callable[[], None]:
    """A step under autocast."""

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            step()

    return run


def contenders(
    name: str, batch: int, norm: str
) -> tuple[dict[str, Callable[[], object]], SpikingNetwork, Tensor]:
    """A training step of each; the spiking network, and the images."""
    torch.manual_seed(0)
    if name == "vgg9":
        ann = vgg9()
    elif name == "resnet20":
        ann = create_model("cifar_resnet20", 10)
    else:
        ann = create_model("vgg", 10, image_size=32, **load_recipe("cifar10").model.options)
    x = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last)
    neuron = LIF(
        *(THRESHOLD[name], 7 / 8 if name == "vgg9" else 1.0),
        learn=("leak", "threshold"),
        height="unit" if name == "vgg9" else "threshold",
        initial="zero" if name == "vgg9" else "half",
        surrogate=Triangle(1.0),
    )
    snn = spike(ann, example_input=x[:1], timesteps=T, neuron=neuron, norm=norm)
    ann, snn = (each.train().to(memory_format=torch.channels_last) for each in (ann, snn))
    steps = {
        "ann": training_step(ann, lambda: ann(x), batch),
        "ann, as fit trains it": faster(ann, training_step(ann, lambda: ann(x), batch)),
        "rate": faster(snn, training_step(snn, lambda: snn(x, gradient="rate").sum(0), batch)),
        "bptt": faster(snn, training_step(snn, lambda: snn(x).sum(0), batch)),
    }
    return steps, snn, x


def faster(network: nn.Module, step: Callable[[], None]) -> Callable[[], None]:
    """A step with the convolutions of a network in training."""

    def run() -> None:
        with convolving_faster(network):
            step()

    return run


def training_step(
    network: nn.Module, answer: Callable[[], Tensor], batch: int
) -> Callable[[], None]:
    """Forward, loss, backward and SGD."""
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)
    labels = torch.randint(10, (batch,), generator=torch.Generator().manual_seed(1))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(answer(), labels).backward()
        optimizer.step()

    return step


@torch.no_grad()
def densities(snn: SpikingNetwork, x: Tensor) -> dict[str, float]:
    """The share of inputs that are not 0, of each event-driven convolution."""
    found: dict[str, float] = {}

    def observe(node: Any, values: Any, _value: Any) -> None:
        layer = snn.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, EventConv2d):
            found[node.target] = convolution.density(values[node.all_input_nodes[0]])

    snn.run(x, observer=observe)
    return found


def seconds(call: Callable[[], object]) -> float:
    """The processor's time for one call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def kinds_of_work(call: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of one call by kind of work; each operator's own time."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        begun = time.perf_counter()
        call()
        wall_ms = (time.perf_counter() - begun) * 1e3
    shares: dict[str, float] = defaultdict(float)
    for operator in trace.key_averages():
        kind = _kind(operator.key)
        if kind is not None:
            shares[kind] += operator.self_cpu_time_total / 1e3
    shares[REST] = max(0.0, wall_ms - sum(shares.values()))
    return shares


def _kind(operator: str) -> str | None:
    """The kind of an operator; None for what only holds others."""
    if operator.startswith(OURS):
        operator = operator.removeprefix(OURS)
    elif "::" not in operator or operator.startswith("autograd::"):
        return None
    for kind, words in KINDS.items():
        if any(word in operator for word in words):
            return kind
    return ELEMENTS


def show(profiles: dict[str, dict[str, float]]) -> None:
    """A table of all, and the share of what is no convolution."""
    kinds = [kind for kind in (*KINDS, ELEMENTS, REST) if any(kind in p for p in profiles.values())]
    for key, shares in profiles.items():
        whole = sum(shares.values())
        parts = ", ".join(f"{kind} {shares.get(kind, 0.0) / whole:.1%}" for kind in kinds)
        convolved = sum(ms for kind, ms in shares.items() if kind.startswith("convolution"))
        print(f"{key}: no convolution {1 - convolved / whole:.1%}; {parts}")


if __name__ == "__main__":
    typer.run(main)
