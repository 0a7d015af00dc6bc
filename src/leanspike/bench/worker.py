"""A contender in a process of its own, which does a heat's work at its turn.

So its peak of memory is its own, and no library's settings affect another's. While one worker
works, the others wait. All are forked from one clean process that has imported torch.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Protocol, runtime_checkable

import torch
from torch.nn import functional as F

from leanspike.backends import Backends, watch_backends
from leanspike.bench.contenders import CONTENDERS, SEED, network
from leanspike.bench.profile import kinds_of_work
from leanspike.bench.result import Heat
from leanspike.errors import one_line
from leanspike.memory import (
    forget_peak,
    keep_freed_memory,
    release_freed_memory,
    resident_bytes,
)

TURN = 0.1  # the least seconds of a turn, so that waking the process does not dominate
LEARNING_RATE = 1e-6  # leaves weights and spikes nearly unchanged


Job = Callable[[], Callable[..., torch.Tensor]]
"""The preparation of a process. It returns the function to call at each turn.

The function is called with what "call" was asked with: nothing, or the batch.
"""


@runtime_checkable
class Scored(Protocol):
    """Work with a measure of its right answers."""

    def accuracy(self) -> tuple[float, float | None]:
        """Return the share of right answers, and the mean steps that images took, if they leave."""


@dataclass(frozen=True)
class Answer:
    """The answer of a worker: the call's result, or one line on the failure."""

    value: Any = None
    failure: str | None = None


class Worker:
    """The parent's side of a process, which it starts, asks and ends."""

    def __init__(self, job: Job, threads: int, kept: bool = False) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["leanspike.bench.worker", "torch._dynamo"])
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, job, threads, kept), daemon=True)
        self._process.start()
        far.close()

    def ask(self, question: str, *given: int) -> Answer:
        """Ask for "call", "memory", "backends", "profile" or "accuracy", and return the answer."""
        try:
            self._pipe.send((question, given))
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            return Answer(failure=f"its process died (exit status {code}); memory may be short")
        return answer

    def end(self) -> None:
        """End the process, by closing its pipe or by force."""
        self._pipe.close()
        self._process.join(timeout=10)
        self._process.kill()


def _serve(pipe: Connection, job: Job, threads: int, kept: bool) -> None:
    warnings.simplefilter("ignore")  # of other people's imports
    os.environ["KINETO_LOG_LEVEL"] = "99"  # else the profiler reports a missing GPU
    torch.set_num_threads(threads)
    if kept:
        keep_freed_memory()
    answers: dict[str, Callable[..., Any]]
    try:
        answers = _prepare(job)
    except Exception as error:  # another library's error is reported as it is
        answers = dict.fromkeys(("call", "ready"), partial(_refuse, error))
    while True:
        try:
            question, given = pipe.recv()
        except EOFError:  # the parent is gone
            return
        try:
            answer = Answer(answers[question](*given))
        except Exception as error:
            answer = Answer(failure=f"{type(error).__name__}: {one_line(error)}")
        pipe.send(answer)


def _prepare(job: Job) -> dict[str, Callable[..., Any]]:
    call = job()
    gc.collect()
    release_freed_memory()
    forget_peak()  # what building took is no part of a call's memory
    before = resident_bytes()
    return {
        "ready": lambda: True,
        "call": lambda *given: seconds_of(partial(call, *given)),
        "memory": lambda: (before, resident_bytes(most=True)),
        "backends": lambda *given: backends_of(partial(call, *given)),
        "profile": lambda: kinds_of_work(call),
        "accuracy": lambda: call.accuracy() if isinstance(call, Scored) else None,
    }


def _refuse(error: Exception, *_given: int) -> None:
    raise error


def backends_of(call: Callable[[], object]) -> Backends:
    """Return the leanspike code that a call runs.

    >>> heat = Heat(train=False, dtype="float32", batch=2, timesteps=3, width=0.125)
    >>> backends_of(work("ann", heat)).backend is None
    True
    """
    with watch_backends() as ran:
        call()
    return ran


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of the median call of a turn.

    >>> 0 < seconds_of(lambda: time.sleep(0.01)) < 10
    True
    """
    seconds: list[float] = []
    while sum(seconds) < TURN:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def work(contender: str, heat: Heat) -> Callable[[], torch.Tensor]:
    """Return the contender's work in a heat, as a function that returns the output.

    >>> heat = Heat(train=False, dtype="float32", batch=2, timesteps=3, width=0.125)
    >>> work("leanspike", heat)().shape
    torch.Size([2, 10])
    """
    row = CONTENDERS[contender]
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(heat.batch, 3, 32, 32, generator=generator).to(memory_format=row.layout)
    labels = torch.randint(10, (heat.batch,), generator=generator)
    module = row.build(network(heat.width), heat.timesteps).to(memory_format=row.layout)
    module.train(heat.train)
    dtype = getattr(torch, heat.dtype)

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            y: torch.Tensor = module(x)
        return y

    @torch.no_grad()
    def infer() -> torch.Tensor:
        return forward()

    if not heat.train:
        return infer
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE)

    def step() -> torch.Tensor:
        y = forward()
        optimizer.zero_grad()
        F.cross_entropy(y.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return y.detach()

    return step
