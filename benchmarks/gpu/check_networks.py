"""Whole small networks on the device, beside the same on the CPU.

In an exact network weights and inputs are whole numbers of 256ths and 16ths, so that in float32
every sum is exact in any order: without cuDNN, whose fast algorithms transform them, outputs must
be equal, bit for bit. Shapes: T timesteps, N samples, K outputs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

import leanspike as ls
from benchmarks.gpu.cases import Case, Found
from benchmarks.gpu.check_neurons import error
from leanspike.data import Augment, Loader, synthetic
from leanspike.evaluation import Confident, anytime, choose_confidence, exit_early, pgd
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.surgery import SpikingNetwork
from leanspike.temporal import TEMPORAL_NORMS
from leanspike.train import Monitor

T, N, SIDE = 4, 16, 16
NETWORKS = {
    "VGG6": ("vgg6", "direct"),
    "VGG6, Poisson": ("vgg6", "poisson"),
    "VGG6, frames": ("vgg6", "frames"),
    "ResNet12": ("resnet12", "direct"),
}


def cases(device: str) -> Sequence[Case]:
    """Outputs, gradients, norms; then what a user does with a network."""
    networks: dict[str, Callable[[], Found]] = {
        **{f"{name}: outputs": partial(outputs, device, *how) for name, how in NETWORKS.items()},
        **{
            f"{name}: gradients": partial(gradients, device, *how) for name, how in NETWORKS.items()
        },
        "VGG6, cuDNN: outputs": partial(rounded, device, None),
        "VGG6, cuDNN, TF32: outputs": partial(rounded, device, "tf32"),
        "VGG6, cuDNN, bfloat16: outputs": partial(rounded, device, "bfloat16"),
        **{f"VGG6, {n}: outputs": partial(with_norm, device, n) for n in ("keep", *TEMPORAL_NORMS)},
    }
    uses = (streaming, saved, evaluated, calibrated, left_early, attacked, batches, whole_run)
    named = {use.__name__.replace("_", " "): partial(use, device) for use in uses}
    return [Case(name, run) for name, run in (networks | named).items()]


def network(model: str = "vgg6", encode: str = "direct", **options: Any) -> SpikingNetwork:
    """A spiking network with weights so large that every layer fires."""
    torch.manual_seed(0)
    ann = ls.models.create_model(model, 10, image_size=SIDE, width=0.25, **options)
    for parameter in ann.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 1)
    frames = () if encode != "frames" else (T,)
    example = torch.zeros(*frames, 1, 3, SIDE, SIDE)
    neuron = ls.LIF(1.0, 0.5, learn=("leak", "threshold"))
    snn = ls.spike(ann, example_input=example, encode=encode, timesteps=T, neuron=neuron)
    return snn.eval()


def exact(snn: SpikingNetwork) -> SpikingNetwork:
    """The same network with weights that are whole numbers of 256ths."""
    for module in snn.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.mul_(256).round_().div_(256)
    return snn


def images(snn: SpikingNetwork) -> Tensor:
    """Exact inputs for it, ``[N, C, H, W]`` (frames ``[T, N, C, H, W]``)."""
    frames = () if snn.plan.encoder.batch_axis == 0 else (T,)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-16, 17, (*frames, N, 3, SIDE, SIDE), generator=generator) / 16


@contextmanager
def plainly() -> Iterator[None]:
    """Convolutions and products in float32, added up as they stand."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=False, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def moved(snn: SpikingNetwork, device: str) -> SpikingNetwork:
    """A copy on the device, in channels_last."""
    return deepcopy(snn).to(device).to(memory_format=torch.channels_last)


@torch.no_grad()
def outputs(device: str, model: str, encode: str) -> Found:
    """An exact network's outputs, beside float64 on the CPU."""
    snn = exact(network(model, encode))
    x = images(snn)
    expected = deepcopy(snn).double()(x.double())
    with plainly():
        y_TNK = moved(snn, device)(x.to(device)).cpu().double()
    wrong = int((y_TNK != expected).sum())
    number = expected.numel()
    fired = int(expected.count_nonzero())
    ok = wrong == 0 and fired > number // 2
    return Found(f"{wrong} of {number} differ", f"{fired} are not 0", ok, {"wrong": wrong})


def gradients(device: str, model: str, encode: str) -> Found:
    """An exact network's gradients of all parameters, beside float64 on the CPU."""
    snn = exact(network(model, encode))
    x, labels = images(snn), torch.arange(N) % 10
    found = []
    for copy, values in ((moved(snn, device), x.to(device)), (deepcopy(snn).double(), x.double())):
        with plainly():
            logits = copy(values).sum(0) / 16
            nn.functional.cross_entropy(logits, labels.to(logits.device)).backward()
        grads = [p.grad for p in copy.parameters() if p.grad is not None]
        found.append(torch.cat([grad.flatten().cpu().double() for grad in grads]))
    far = error(*found)
    return Found(f"error {far:.1e}", "at most 1e-04", far <= 1e-4, {"error": far})


@torch.no_grad()
def rounded(device: str, how: str | None) -> Found:
    """How far outputs are from float64's where rounding moves spikes: judged in float32 only."""
    snn = network()
    x = images(snn)
    expected = deepcopy(snn).double()(x.double())
    low = torch.autocast(device, torch.bfloat16) if how == "bfloat16" else nullcontext()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=how == "tf32"), low:
        y_TNK = moved(snn, device)(x.to(device))
    far = error(y_TNK, expected)
    if how is not None:
        return Found(f"error {far:.1e}", "not judged: rounding moves spikes", values={"error": far})
    return Found(f"error {far:.1e}", "at most 0.02", far <= 0.02, {"error": far})


@torch.no_grad()
def with_norm(device: str, norm: str) -> Found:
    """A network with norms in training and in eval mode, beside float64 on the CPU."""
    torch.manual_seed(0)
    ann = ls.models.create_model("vgg6", 10, image_size=SIDE, width=0.25, batch_norm=True)
    example = torch.zeros(1, 3, SIDE, SIDE)
    snn = ls.spike(ann.train(), example_input=example, norm=norm, timesteps=T)
    for module in snn.modules():
        if hasattr(module, "p"):
            module.p = 0.0  # dropout, whose masks differ
    double, ours, x = deepcopy(snn).double(), moved(snn, device), images(snn)
    worst = 0.0
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for training in (True, False):
            y_TNK = ours.train(training)(x.to(device))
            worst = max(worst, error(y_TNK, double.train(training)(x.double())))
    return Found(f"error {worst:.1e}", "at most 0.05", worst <= 0.05, {"error": worst})


def streaming(device: str) -> Found:
    """An exact network gives the same step by step."""
    snn = moved(exact(network()), device)
    x, state, wrong = images(snn).to(device), None, 0
    with torch.no_grad(), plainly():
        expected = snn(x)
        for y_NK in expected:
            y, state = snn.step(x, state)
            wrong += int((y != y_NK).sum())
    return Found(f"{wrong} of {expected.numel()} differ", "", wrong == 0, {"wrong": wrong})


@torch.no_grad()
def saved(device: str) -> Found:
    """Saved on the device, loaded, moved back: the same outputs; and on the CPU it loads, too."""
    snn = moved(network(), device)
    x = images(snn).to(device)
    spec = ls.ModelSpec(name="vgg6", num_classes=10, image_size=SIDE, options={"width": 0.25})
    with TemporaryDirectory() as folder:
        loaded = ls.load(ls.save(snn, folder, spec))
    on_cpu = {value.device.type for value in loaded.state_dict().values()} == {"cpu"}
    loaded = loaded.to(device).to(memory_format=torch.channels_last)
    wrong = int((loaded(x) != snn(x)).sum())
    return Found(f"{wrong} outputs differ", f"loaded on the CPU: {on_cpu}", on_cpu and not wrong)


def evaluated(device: str) -> Found:
    """An evaluation counts the same spikes and operations, and finds the same accuracy."""
    snn = exact(network())
    x, labels = images(snn), torch.arange(N) % 10
    with plainly():
        theirs = ls.evaluate(snn, [(x, labels)])
        ours = ls.evaluate(moved(snn, device), [(x.to(device), labels.to(device))])
    same = {
        "accuracy": ours.accuracy == theirs.accuracy,
        "spikes": ours.neurons == theirs.neurons,
        "operations": ours.operations == theirs.operations,
        "energy": ours.energy == theirs.energy,
    }
    wrong = ", ".join(name for name, equal in same.items() if not equal)
    macs = sum(row.snn_acs for row in theirs.operations)
    return Found(f"differ: {wrong or 'none'}", f"{macs:,.0f} accumulates an image", not wrong)


def calibrated(device: str) -> Found:
    """Thresholds from the ANN's activations, and layer by layer."""
    worst = {}
    for method in ("one_pass", "layerwise"):
        found = []
        for where in (device, "cpu"):
            snn = moved(network(), where)
            with plainly():
                table = ls.calibrate(snn, images(snn).to(where), scale=0.5, method=method)
            found.append(torch.tensor([row.threshold for row in table.layers]))
        worst[method] = error(*found)
    ok = worst["one_pass"] < 1e-4 and worst["layerwise"] < 1e-2
    detail = ", ".join(f"{method} {far:.1e}" for method, far in worst.items())
    return Found(f"error {max(worst.values()):.1e}", detail, ok, worst)


def left_early(device: str) -> Found:
    """An early exit is chosen alike, and samples leave after the same steps."""
    snn = exact(network())
    x = images(snn)
    with torch.no_grad(), plainly():
        labels = snn(x).sum(0).argmax(-1)  # so that leaving too early is wrong
    choices, steps = [], []
    for where in ("cpu", device):
        copy, inputs = moved(snn, where), x.to(where)
        with plainly():
            choices.append(choose_confidence(*anytime(copy, [(inputs, labels.to(where))])))
            rule = Confident(threshold=choices[0].threshold - 1e-5)  # no sample's own confidence
            steps.append(exit_early(copy, inputs, rule).steps.cpu())
    taken = [choice.mean_steps for choice in choices]
    ok = abs(taken[0] - taken[1]) < 0.01 and torch.equal(*steps)
    return Found(f"{taken[1]:.2f} steps", f"on the CPU {taken[0]:.2f}", ok)


def attacked(device: str) -> Found:
    """Projected gradient descent stays within its bound, and moves every image."""
    snn = moved(network(), device)
    x, labels = images(snn).abs().clamp(max=1).to(device), (torch.arange(N) % 10).to(device)
    changed = pgd(snn, x, labels, 8 / 255, mean=[0.5] * 3, std=[0.25] * 3, steps=2)
    far = (changed - x).abs().flatten(1).amax(1)
    ok = bool((far <= 8.001 / 255).all() and (far > 0).all())
    return Found(f"moved by {float(far.max()) * 255:.2f}/255", "at most 8/255", ok)


def batches(device: str) -> Found:
    """Batches, augmented, have the bits of those on the CPU."""
    split = synthetic((3, 32, 32), classes=10, train=256).train
    loaders = [
        Loader(
            split,
            batch_size=64,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            seed=0,
            train=True,
            augment=Augment(crop=4, flip=True, cutout=8),
            memory_format=torch.channels_last,
            device=where,
        )
        for where in ("cpu", device)
    ]
    pairs = zip(*(loader.epoch(0) for loader in loaders), strict=True)
    wrong = sum(int((ours.cpu() != theirs).sum()) for (theirs, _), (ours, _) in pairs)
    return Found(f"{wrong} values differ", "crop, flip, cutout, normalised", wrong == 0)


def whole_run(device: str) -> Found:
    """A recipe: ANN, calibration, SNN with a teacher, a checkpoint taken up, an evaluation."""
    terms = "objective=[cross_entropy, response, spike_rate]"
    changes = [
        *(
            "data.name=synthetic",
            "data.options.image_size=8",
            "data.train_images=128",
            "ann.epochs=2",
        ),
        *(f"device={device}", "model.options.layers=[8, A]", "model.options.head=[]"),
        *("snn.0.epochs=1", f"snn.0.{terms}", "spike.calibrate.images=32"),
        "checkpoint_minutes=1e-9",  # one after each step
    ]
    with TemporaryDirectory() as folder:
        recipe, monitor = load_recipe("digits", changes), Monitor(Console(stderr=True))
        run = Run(recipe, Path(folder, "run"), monitor)
        run.begin()
        run.train_ann()
        before = run.load("ann").state_dict()
        shutil.rmtree(run.folder / "ann")
        run.train_ann()  # from the checkpoint after its last step
        again = run.load("ann").state_dict()
        run.convert()
        run.train_snn()
        snn = run.load("snn").state_dict()
    places = {value.device.type for value in snn.values()}
    finite = all(bool(value.isfinite().all()) for value in snn.values())
    taken_up = all(torch.equal(value, again[name]) for name, value in before.items())
    ok = finite and taken_up and places == {torch.device(device).type}
    return Found(f"on {', '.join(places)}", f"checkpoint taken up: {taken_up}", ok)
