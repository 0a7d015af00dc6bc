"""Part "engine" of the race. Each rival answers the same test images in its own process.

A rival is made once. It answers the batches one after the other, the smallest first, so that its
peak of memory is that of the batch. After the last batch all answer the same test images, for
their accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from leanspike.bench.result import Counted, Heat, Outcome, StepEnergy
from leanspike.bench.rivals import racing, rival, steps_of
from leanspike.bench.snn_rivals import Leaving
from leanspike.bench.trained import Answer, Trained, read_trained
from leanspike.bench.turns import Told, take_turns
from leanspike.bench.worker import Worker
from leanspike.engine import compile_engine
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Result, evaluate
from leanspike.evaluation.rivals import Int8Prices
from leanspike.execute import SpikingNetwork
from leanspike.saved import load
from leanspike_runtime.program import Layer

BATCHES = (1, 64, 256)
SCORED = 1000
"""The number of test images on which accuracy is measured, unless another is given."""
AT_ONCE = 64


@dataclass(frozen=True)
class Contest:
    """A rival with its images. A call answers a batch of them once."""

    answer: Answer
    trained: Trained
    scored: int

    def __call__(self, batch: int = AT_ONCE) -> Tensor:
        """Return the scores of the first ``batch`` test images."""
        return self.answer(self.trained.test[:batch])

    def accuracy(self) -> tuple[float, float | None]:
        """Return the share of right answers, and the mean steps if images leave early."""
        test, labels = self.trained.test[: self.scored], self.trained.labels[: self.scored]
        scores, *steps = self._each(test)
        right = float((scores.argmax(1) == labels).double().mean())
        return right, steps[0].double().mean().item() if steps else None

    def _each(self, x: Tensor) -> list[Tensor]:
        """Return the scores of images, and their steps if they leave early.

        All batches have one size, for which a compiled network is compiled once.
        """
        missing = -len(x) % AT_ONCE
        filled = torch.cat((x, x[:1].expand(missing, *x.shape[1:])))
        answer = self.answer
        parts = [
            answer.left(part) if isinstance(answer, Leaving) else (answer(part),)
            for part in torch.split(filled, AT_ONCE)
        ]
        return [torch.cat(each)[: len(x)] for each in zip(*parts, strict=True)]


def contest(name: str, folder: Path, largest: int, scored: int) -> Contest:
    """Return the work of a worker's process for a rival."""
    trained = read_trained(folder, max(largest, scored), steps_of(name))
    if len(trained.test) < largest:
        raise LeanspikeError(
            f"{folder} has {len(trained.test)} test images, but batch {largest} needs more; give "
            f"--batches up to {len(trained.test)}"
        )
    return Contest(rival(name).build(trained), trained, scored)


@dataclass(frozen=True)
class EngineRace:
    """The heats of a trained run: its ANN, its SNN and the engine.

    ``names`` are rivals, ``scored`` is the number of test images of an accuracy.
    """

    folder: Path
    names: tuple[str, ...]
    batches: tuple[int, ...] = BATCHES
    scored: int = SCORED

    @cached_property
    def timesteps(self) -> int:
        """The number of steps of the trained SNN."""
        snn = load(self.folder / "snn")
        assert isinstance(snn, SpikingNetwork)
        return snn.timesteps

    def racing(self) -> list[str]:
        """Return all who take part."""
        return racing(self.names, self.timesteps)

    def heats(self) -> list[Heat]:
        """Return the heats: inference of each batch of test images."""
        steps = self.timesteps
        return [
            Heat(train=False, dtype="float32", batch=batch, timesteps=steps)
            for batch in sorted(self.batches)
        ]

    def run(self, rounds: int, tell: Told) -> Iterator[tuple[Outcome, ...]]:
        """Run all heats, and yield their outcomes after each, at last with accuracies."""
        found: tuple[Outcome, ...] = ()

        def version(name: str) -> str | None:
            return rival(name).version

        with self._workers(tell) as workers:
            for heat in self.heats():
                entries = take_turns(heat, workers, rounds, tell, version, heat.batch)
                found += (Outcome(heat=heat, entries=entries),)
                yield found
            scores = {}
            for name, worker in workers.items():
                tell(f"accuracy of {rival(name).title}")
                scores[name] = worker.ask("accuracy").value or (None, None)
        yield tuple(_scored(outcome, scores) for outcome in found)

    @contextmanager
    def _workers(self, tell: Told) -> Iterator[dict[str, Worker]]:
        """Yield the rivals, each in a process of its own, prepared one after the other."""
        threads, workers = torch.get_num_threads(), {}
        try:
            for name in self.racing():
                tell(f"preparing {rival(name).title}")
                job = partial(contest, name, self.folder, max(self.batches), self.scored)
                workers[name] = Worker(job, threads)
                workers[name].ask("ready")
            yield workers
        finally:
            for worker in workers.values():
                worker.end()


def _scored(outcome: Outcome, scores: Mapping[str, tuple[float | None, float | None]]) -> Outcome:
    entries = []
    for entry in outcome.entries:
        accuracy, steps = scores[entry.contender]
        entries.append(entry.model_copy(update={"accuracy": accuracy, "mean_steps": steps}))
    return Outcome(heat=outcome.heat, entries=tuple(entries))


def count_run(folder: Path, limit: int) -> Counted:
    """Count the arithmetic of a run's networks over its first test images.

    The SNN is stopped after each of its steps in turn.
    """
    trained = read_trained(folder, limit)
    snn = trained.snn
    whole, found = _whole(trained, snn), []
    for steps in range(1, snn.timesteps + 1):
        snn.timesteps = steps
        result = evaluate(snn, (trained.test, trained.labels))
        found.append(_energy(result, whole=whole))
    assert result.rivals is not None
    return Counted(
        images=result.n,
        ann_macs=sum(row.ann_macs for row in result.operations),
        ann_pj=result.energy.ann_pj,
        ann_int8_pj=result.rivals.ann_int8.arithmetic_pj,
        steps=tuple(found),
    )


def _whole(trained: Trained, snn: SpikingNetwork) -> bool:
    """Return whether all weights that spikes meet are whole numbers in the engine."""
    program = compile_engine(snn, trained.calibration, weights="int8").program
    met = [
        synapse
        for node in program.nodes
        if isinstance(node, Layer)
        for synapse in node.synapses
        if synapse.weights is not None and program.forms[synapse.edge] != "analog"
    ]
    return all(synapse.type != "f32" for synapse in met)


def _energy(result: Result, *, whole: bool) -> StepEnergy:
    accumulates = sum(row.snn_acs for row in result.operations)
    total, cheaper = result.energy.snn_pj, result.energy.ac_pj - Int8Prices().ac_pj
    return StepEnergy(
        timesteps=result.timesteps,
        accumulates=accumulates,
        multiplies=sum(row.snn_macs for row in result.operations),
        float_pj=total,
        whole_pj=total - accumulates * cheaper if whole else None,
    )
