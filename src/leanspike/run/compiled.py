"""Compiling a run's SNN, and comparing its answers with the network's."""

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
"""The number of training images that set the scales of weights, and of test images compared."""


@dataclass(frozen=True)
class Compiled:
    """A compiled network, and the number ``same`` of test images with the network's answers.

    ``images`` are these test images, as input.
    """

    engine: Engine
    same: int
    images: Tensor

    @property
    def compared(self) -> int:
        """The number of compared images. Frames are ``[T, N, ...]``."""
        return self.images.shape[self.engine.batch_axis]


@torch.no_grad()
def compile_run(
    run: Run, weights: Literal["f32", "int8", "int6"] = "f32", timesteps: int | None = None
) -> Compiled:
    """Compile the SNN of a run. No label is used.

    Raises:
        LeanspikeError: if the run has no SNN yet, or one that cannot be compiled.
    """
    if not (run.folder / "snn").is_dir():
        raise LeanspikeError(
            f"{run.folder} holds no trained SNN; finish it with leanspike train, or give another"
        )
    if not run.data.of_images or run.data.task != "multiclass":
        raise LeanspikeError(
            f"{run.data.name} has no images of one class each, which this command needs; in Python "
            "call leanspike.compile_engine(leanspike.load(folder), x)"
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
    """Return the first images of a split, as input."""
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
