"""A run's SNN compiled, and what of its answers stayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from leanspike.data import Loader, Split
from leanspike.engine import Engine, Pixels, compile_engine
from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork, readout
from leanspike.run.run import Run

LOOKED_AT = 128
"""Training images that scales of weights go by, and test images that are compared."""


@dataclass(frozen=True)
class Compiled:
    """A compiled network; how many of so many test images it answers as the network does.

    ``images``: those, as input.
    """

    engine: Engine
    same: int
    images: Tensor

    @property
    def compared(self) -> int:
        """How many images were looked at; frames are ``[T, N, ...]``."""
        return self.images.shape[self.engine.batch_axis]


@torch.no_grad()
def compile_run(
    run: Run, weights: Literal["f32", "int8", "int6"] = "f32", timesteps: int | None = None
) -> Compiled:
    """Compile the SNN of a run; no label is looked at.

    Raises:
        LeanspikeError: where the run has no SNN yet, or one that cannot be compiled.
    """
    if not (run.folder / "snn").is_dir():
        raise LeanspikeError(
            f"{run.folder} holds no trained SNN; let leanspike train end, or give another run"
        )
    if not run.data.of_images or run.data.task != "multiclass":
        raise LeanspikeError(
            f"{run.data.name} has no images of one class each, which the command compiles for; in "
            "Python: leanspike.compile_engine(leanspike.load(folder), x)"
        )
    snn = run.load("snn").cpu()
    assert isinstance(snn, SpikingNetwork)
    data, mode = run.data, run.recipe.evaluate.readout
    pixels = Pixels(tuple(data.mean), tuple(data.std), tuple(data.classes))
    engine = compile_engine(
        snn,
        _first(run, data.train),
        weights=weights,
        timesteps=timesteps,
        readout=mode,
        pixels=pixels,
    )
    images = _first(run, data.test)
    both = (readout(answers(images), mode)[-1].argmax(1) for answers in (engine, snn))
    first, second = both
    return Compiled(engine, int((first == second).sum()), images)


def _first(run: Run, split: Split) -> Tensor:
    """The first images of a split, as input."""
    data = run.data
    loader = Loader(
        split,
        batch_size=min(LOOKED_AT, len(split)),
        mean=data.mean,
        std=data.std,
        seed=run.recipe.seed,
        train=False,
    )
    images, _ = next(iter(loader))
    return images.cpu()
