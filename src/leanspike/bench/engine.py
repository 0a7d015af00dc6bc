"""Part "engine" of the race. Each rival answers the same test images in its own process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from leanspike.bench.result import Heat
from leanspike.bench.rivals import RIVALS
from leanspike.bench.trained import Answer, Trained, read_trained
from leanspike.bench.worker import Worker
from leanspike.errors import LeanspikeError
from leanspike.saved import load

BATCHES = (1, 64, 256)
AT_ONCE = 50


@dataclass(frozen=True)
class Contest:
    """A rival at one batch size. A call answers the batch once."""

    answer: Answer
    trained: Trained
    batch: int

    def __call__(self) -> Tensor:
        return self.answer(self.images)

    @property
    def images(self) -> Tensor:
        """The test images of a call."""
        return self.trained.test[: self.batch]

    def accuracy(self) -> float:
        """Return the share of right answers to the first `SCORED` test images."""
        parts = torch.split(self.trained.test, AT_ONCE)
        scores = torch.cat([self.answer(part) for part in parts])
        return float((scores.argmax(1) == self.trained.labels).double().mean())


def contest(rival: str, folder: Path, batch: int) -> Contest:
    """Return the work of a worker's process for a rival."""
    trained = read_trained(folder)
    if len(trained.test) < batch:
        raise LeanspikeError(
            f"{folder} has {len(trained.test)} test images, but batch {batch} needs more; give "
            "another run"
        )
    return Contest(RIVALS[rival].build(trained), trained, batch)


def engine_heats(folder: Path) -> list[Heat]:
    """Return the heats: inference of 1, 64 and 256 test images."""
    steps = load(folder / "snn").timesteps
    return [Heat(train=False, dtype="float32", batch=batch, timesteps=steps) for batch in BATCHES]


@contextmanager
def engine_workers(names: Sequence[str], folder: Path, batch: int) -> Iterator[dict[str, Worker]]:
    """Yield the rivals, each in a process of its own."""
    threads = torch.get_num_threads()
    workers = {name: Worker(partial(contest, name, folder, batch), threads) for name in names}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.end()
