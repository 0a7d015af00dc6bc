"""What processes do together, to be run by several of them and by one."""

from __future__ import annotations

import copy
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, fx, nn

from leanspike import LIF, calibrate, evaluate, spike
from leanspike.data import Augment, EventAugment, Loader, normalise
from leanspike.data.split import TensorSplit
from leanspike.distributed import ALONE, Group
from leanspike.engine import train_whole
from leanspike.errors import DataError
from leanspike.evaluation import About, LayerTable, WatchingMetric, accuracy
from leanspike.evaluation.record import Record
from leanspike.evaluation.task import UNKNOWN
from leanspike.metrics import CalibrationError
from leanspike.temporal import create_encoder
from leanspike.train import (
    TET,
    Accumulates,
    Checkpoints,
    CrossEntropy,
    Feature,
    Lookahead,
    Monitor,
    Objective,
    Response,
    SelfDistillation,
    SpikeRate,
    Stage,
    Weighted,
    create_optimizer,
    create_schedule,
    fit,
)

STEPS = 20
BATCH, IMAGES = 7, 37  # neither divides by 2 or 3
PIXELS = 6


class Doubles:
    """A loader of float64; of the sample with a number, if one is given, all pixels are NaN."""

    def __init__(self, loader: Loader, broken: int | None = None) -> None:
        self.loader, self.split = loader, loader.split
        self.name_of = loader.name_of
        self.broken = None
        if broken is not None:
            pixels, _ = self.split.batch(torch.tensor([broken]))
            self.broken = normalise(pixels, loader.mean, loader.std)

    def __len__(self) -> int:
        return len(self.loader)

    def samples(self, step: int) -> int:
        return self.loader.samples(step)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for x, labels in self.loader.epoch(epoch, start_step):
            if self.broken is not None:
                x[(x == self.broken).flatten(1).all(1)] = float("nan")
            yield x.double(), labels


class Net(nn.Module):
    """With norms, dropout of two kinds, a branch that is skipped at random, a pool."""

    def __init__(self, norms: bool = True, dropout: float = 0.3) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if norms else nn.Identity
        self.conv1, self.norm1, self.relu1 = nn.Conv2d(1, 4, 3, padding=1), norm(4), nn.ReLU()
        self.drop1 = nn.Dropout(dropout)
        self.conv2, self.norm2, self.relu2 = nn.Conv2d(4, 6, 3, padding=1), norm(6), nn.ReLU()
        self.pool, self.flatten = nn.AvgPool2d(2), nn.Flatten()
        self.head = nn.Linear(54, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop1(self.relu1(self.norm1(self.conv1(x))))
        x = self.pool(self.relu2(self.norm2(self.conv2(x))))
        out: Tensor = self.head(self.flatten(x))
        return out


class Skipping(nn.Module):
    """As torchvision and timm draw it."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.5)


def images(count: int, seed: int, frames: int | None = None) -> TensorSplit:
    made = torch.Generator().manual_seed(seed)
    steps = () if frames is None else (frames,)
    pixels = torch.randint(256, (count, *steps, 1, PIXELS, PIXELS), generator=made).byte()
    return TensorSplit(pixels, torch.arange(count) % 3)


def pictures(count: int, seed: int) -> TensorSplit:
    """A label for each pixel, of which many are unknown, in some images all."""
    made = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count, PIXELS, PIXELS), generator=made)
    unknown = torch.rand(labels.shape, generator=made) < torch.arange(count).view(-1, 1, 1) % 3 / 2
    return TensorSplit(images(count, seed).images, labels.masked_fill(unknown, UNKNOWN))


def net(seed: int = 0, **how: Any) -> Net:
    torch.manual_seed(seed)
    return Net(**how).double()


def snn(timesteps: int = 3, encode: str = "direct", norm: Any = "keep", **how: Any) -> Any:
    made = net(**how)
    shape = (2, 1, 1, PIXELS, PIXELS) if encode == "frames" else (1, 1, PIXELS, PIXELS)
    torch.manual_seed(1)
    found = spike(
        made,
        example_input=torch.rand(shape).double(),
        timesteps=timesteps,
        encode=create_encoder(encode),
        neuron=LIF(0.7, 0.9, learn=("threshold", "leak")),
        norm=norm,
    )
    found.doubts.uncalibrated = False
    return found.double()


def train(
    network: nn.Module,
    group: Group,
    folder: Path,
    name: str,
    objective: Callable[[nn.Module], Objective] = lambda _: CrossEntropy(),
    stop_after: int | None = None,
    augment: Any = None,
    frames: int | None = None,
    split: Callable[[int, int], TensorSplit] = images,
    batch: int = BATCH,
    steps: int = STEPS,
    broken: int | None = None,
    weights: Any = None,
    **how: Any,
) -> dict[str, Tensor]:
    """Weights, running statistics and adapters after some steps, and what the log says."""
    micro = how.get("accumulate", 1)
    made = {"mean": (0.4,), "std": (0.3,), "seed": 3, "group": group}
    loader = Loader(
        images(IMAGES, 0, frames) if frames else split(IMAGES, 0),
        batch_size=batch,
        train=True,
        augment=augment,
        micro_batches=micro,
        **made,
    )
    held_out = images(11, 1, frames) if frames else split(11, 1)
    val = Loader(held_out, batch_size=2, train=False, **made)
    torch.manual_seed(2)
    loss = objective(network).double()
    optimizer = create_optimizer(
        nn.ModuleList([network, loss]), learning_rate=0.05, weight_decay=1e-3
    )
    if weights is not None:
        train_whole(network, optimizer, weights)
    epochs = steps // len(loader)
    stage = Stage(
        name=name,
        number=1,
        epochs=epochs,
        timesteps=None,
        train=Doubles(loader, broken),  # type: ignore[arg-type]
        val=Doubles(val),  # type: ignore[arg-type]
        objective=loss,
        optimizer=optimizer,
        schedule=create_schedule("cosine", steps=STEPS),
        seed=5,
        dtype=torch.float32,
        select="last",
        max_gradient_norm=1.0,
        group=group,
        **how,
    )
    history: list[dict[str, Any]] = []
    checkpoints = Checkpoints(folder / f"{name}.pt", minutes=0 if stop_after else 60)
    monitor = Stopping(stop_after)
    try:
        fit(network, stage, history, checkpoints, monitor)  # type: ignore[arg-type]
    except StopIteration:
        return {}
    found = {**network.state_dict(), **{f"objective.{k}": v for k, v in loss.state_dict().items()}}
    told = [[row["train_loss"], row["train_accuracy"], row["val_accuracy"]] for row in history]
    return {key: value.clone() for key, value in found.items()} | {"log": torch.tensor(told)}


class Stopping:
    """A monitor that stops a run as a fault would, after so many steps."""

    def __init__(self, after: int | None) -> None:
        self.left = after
        self.quiet = Monitor(Console(quiet=True))
        self.console = self.quiet.console

    def begin(self, *what: Any) -> None:
        pass

    def end(self) -> None:
        pass

    def epoch(self, *what: Any) -> None:
        pass

    def step(self, loss: float, learning_rate: float) -> None:  # noqa: ARG002
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise StopIteration


def everything(network: nn.Module) -> Objective:
    """All objectives, with a teacher, and adapters that are trained."""
    teacher = net(seed=9)
    x = torch.rand(1, 1, PIXELS, PIXELS).double()
    pairs = {"relu1": "relu2"}
    return Weighted(
        [
            (0.5, CrossEntropy(label_smoothing=0.1)),
            (0.5, TET()),
            (0.5, Response(teacher)),
            (0.1, Feature(teacher, network, x, pairs)),
            (0.5, SelfDistillation()),
            (0.1, SpikeRate()),
            (0.1, Accumulates()),
            (0.1, Accumulates(target=0.2)),
        ]
    )


def per_pixel() -> nn.Module:
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
    return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), last).double()


def skipping() -> nn.Module:
    network = net()
    network.relu1 = nn.Sequential(nn.ReLU(), Skipping(), nn.Dropout2d(0.2))  # type: ignore
    return network


AUGMENT = Augment(crop=1, flip=True, cutout=2)
EVENTS = EventAugment(flip=True, shift=1, drop=0.2)

CASES: dict[str, Callable[[Group, Path], Any]] = {
    "ann": lambda g, f: train(skipping(), g, f, "ann", augment=AUGMENT),
    "bptt": lambda g, f: train(
        snn(encode="poisson", norm="bntt"), g, f, "bptt", everything, augment=AUGMENT
    ),
    "rate": lambda g, f: train(snn(), g, f, "rate", gradient="rate", steps=10),
    "whole numbers": lambda g, f: train(snn(), g, f, "whole", everything, weights="int6", steps=5),
    "pixels": lambda g, f: train(per_pixel(), g, f, "pixels", split=pictures, steps=10),
    "rate of steps": lambda g, f: train(
        snn(norm="tebn"), g, f, "rate of steps", gradient="rate", steps=5
    ),
    "kept": lambda g, f: train(snn(), g, f, "kept", steps=10),
    "one step": lambda g, f: train(snn(timesteps=1), g, f, "one step", steps=5),
    "frames": lambda g, f: train(
        snn(encode="frames", norm="tdbn"), g, f, "frames", augment=EVENTS, frames=2, steps=10
    ),
    "micro": lambda g, f: train(snn(), g, f, "micro", accumulate=2, steps=10),
    "ahead": lambda g, f: train(snn(), g, f, "ahead", steps=10, lookahead=Lookahead(steps=2)),
    "apart": lambda g, f: train(snn(), g, f, "apart", synchronise_norms=False, steps=10),
}


def interrupted(group: Group, folder: Path) -> Any:
    """Twice stopped, and gone on with."""
    for after in (3, 6, None):
        found = train(small(), group, folder, "cut", everything, after, steps=15)
    return found


def small() -> Any:
    return snn(norm="bntt", encode="poisson")


def whole(group: Group, folder: Path) -> Any:
    """The same, never stopped."""
    return train(small(), group, folder, "whole", everything, steps=15)


def gone_on_with(folder: Path) -> Any:
    """The same, from where others were stopped, by one process."""
    return train(small(), ALONE, folder, "cut", everything, steps=15)


class Count(Record):
    """How many spikes, of how many samples."""

    spikes: int
    samples: int


class Fired(WatchingMetric):
    """Counts all spikes, each process those of its own batches."""

    def begin(self, about: About) -> None:
        assert about.network is not None
        self.spikes = self.samples = 0

    def observe(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:  # noqa: ARG002
        self.spikes += int((value != 0).sum()) if node.meta.get("neuron") else 0

    def see(self, y_TN: Any, targets: Any, ann_N: Any) -> None:  # noqa: ARG002
        self.samples += y_TN.shape[1]

    def add_others(self, group: Group) -> None:
        each = group.gathered((self.spikes, self.samples))
        self.spikes, self.samples = (sum(counts) for counts in zip(*each, strict=True))

    def row(self) -> Count:
        return Count(spikes=self.spikes, samples=self.samples)

    @classmethod
    def tables(cls, row: Record) -> tuple[LayerTable, ...]:  # noqa: ARG003
        return ()


def measured(group: Group, _folder: Path) -> dict[str, Any]:
    """Calibration and evaluation; the weights after the first, what the second counts."""
    network, x = (
        snn(),
        Loader(images(48, 4), batch_size=48, mean=(0.4,), std=(0.3,), seed=0, train=False),
    )
    pixels = next(iter(x))[0].double()
    table = calibrate(
        network,
        pixels,
        method="layerwise",
        statistics="reestimate",
        scale=(0.5, 1.0),
        batch_size=7,
        group=group,
    )
    test = replace(x, split=images(23, 5), batch_size=5, group=group)
    doubles = [(x.double(), labels) for x, labels in test]
    ann = net()
    more = {"calibration_error": CalibrationError(bins=4), "fired": Fired()}
    result = evaluate(network, doubles, ann=ann, metrics=more, group=group)
    few = [(x.double(), labels) for x, labels in replace(test, split=images(4, 6))]
    return {
        "state": network.state_dict(),
        "table": table,
        "result": result.model_copy(update={"provenance": None}),
        "accuracy": accuracy(network, doubles, group=group),
        "few": accuracy(network, few, group=group),
    }


def refused(group: Group, folder: Path) -> str:
    """What is said of a sample that is no number."""
    try:
        train(net(), group, folder, "refused", broken=30, accumulate=2)
    except DataError as error:
        return str(error)
    return "nothing"


OTHERS = {"refused": refused, "cut": interrupted, "whole": whole, "measured": measured}


def tried(case: Callable[[Group, Path], Any], group: Group, folder: Path) -> Any:
    """What a case comes to, or how it fails."""
    try:
        return case(group, folder)
    except Exception:
        return traceback.format_exc()


def work(rank: int, size: int, names: list[str], folder: Path, port: int) -> None:
    """One of the processes: what it comes to lies in a file."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    from leanspike.distributed.worker import join

    torch.set_num_threads(1)
    status = 1
    try:
        group = join()
        cases = CASES | OTHERS
        torch.save(
            {name: tried(cases[name], group, folder) for name in names}, folder / f"{rank}.pt"
        )
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # see leanspike.distributed.worker


def alone(name: str, folder: Path) -> Any:
    """The same by one process."""
    cases = CASES | OTHERS
    return copy.deepcopy(cases[name](ALONE, folder))


__all__ = ["CASES", "OTHERS", "alone", "gone_on_with", "net", "snn", "train", "work"]
