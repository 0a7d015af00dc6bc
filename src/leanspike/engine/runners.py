"""The runners of a program: native code if it is built, else the reference in NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Any, final

import torch

from leanspike.errors import LeanspikeError
from leanspike.notice import say
from leanspike_runtime import Engine, EngineError, Program, Reference, State, Stream, to_bytes
from leanspike_runtime.program import Array


class Runner(ABC):
    """Runs a program on images ``[N, H, W, C]``, or ``[T, N, H, W, C]`` with steps."""

    name: str
    """The name of the runner in tables."""

    @abstractmethod
    def whole(self, x: Array, steps: int) -> Array:
        """Return the logits of the first steps, ``[T, N, K]``."""

    @abstractmethod
    def begin(self, samples: int) -> Any:
        """Return the memory before the first step."""

    @abstractmethod
    def step(self, x_N: Array, memory: Any, taken: int) -> tuple[Array, Any]:
        """Compute a step; return its logits, ``[N, K]``, and the memory after it."""

    @abstractmethod
    def keep(self, memory: Any, samples: Array) -> Any:
        """Return the memory of some samples: a boolean mask ``[N]`` or indices."""

    def exits(self, x: Array, margin: float, latest: int) -> tuple[Array, Array] | None:  # noqa: ARG002
        """Run with early exit by the margin, at the latest after a step; return mean logits
        ``[N, K]`` and steps ``[N]``, or None if the runner cannot."""
        return None

    def seconds(self, x: Array, steps: int) -> list[float] | None:  # noqa: ARG002
        """Return the seconds of each node for these images, in one thread; None if not measured."""
        return None


@final
class Native(Runner):
    """Runs a program in native code."""

    def __init__(self, program: Program) -> None:
        self.engine = Engine(to_bytes(program))
        self.static = program.input.static
        self.name = f"native, {self.engine.instructions}"

    def whole(self, x: Array, steps: int) -> Array:
        """Return the logits, computed in torch's number of threads."""
        return self.engine(x, steps, torch.get_num_threads())

    def exits(self, x: Array, margin: float, latest: int) -> tuple[Array, Array] | None:
        """Run with early exit, in torch's number of threads; return None for a single logit."""
        if self.engine.facts.outputs < 2:
            return None
        found = self.engine.answer(x, margin, latest, torch.get_num_threads())
        return found.logits_NK, found.steps_N

    def begin(self, samples: int) -> Stream:
        """Return a stream, which holds the states of the samples."""
        return self.engine.stream(samples)

    def step(self, x_N: Array, memory: Stream, taken: int) -> tuple[Array, Stream]:
        """Compute a step. The stream changes in place, so earlier states are gone."""
        if memory.steps != taken:
            raise LeanspikeError(
                f"this state is of step {taken}, but the stream is at step {memory.steps}; "
                "give the newest state, or begin with state=None"
            )
        return memory.step(x_N), memory

    def keep(self, memory: Stream, samples: Array) -> Stream:
        """Drop the other samples from the stream, and return it."""
        memory.keep(samples)
        return memory

    def seconds(self, x: Array, steps: int) -> list[float]:
        """Return the seconds of each node in the second run of two."""
        self.engine.work(x, steps)
        return [node.seconds for node in self.engine.work(x, steps)]


@final
class InNumPy(Runner):
    """Runs a program by the reference in NumPy."""

    name = "NumPy"

    def __init__(self, program: Program) -> None:
        self.reference = Reference(program)
        self.static = program.input.static

    def whole(self, x: Array, steps: int) -> Array:
        """Return the logits of all steps, computed at once."""
        return self.reference.run(x, steps)[0]

    def begin(self, samples: int) -> State:  # noqa: ARG002
        """Return an empty state."""
        return State()

    def step(self, x_N: Array, memory: State, taken: int) -> tuple[Array, State]:  # noqa: ARG002
        """Compute one step, as a chunk of length 1."""
        logits_1NK, after = self.reference.run(x_N if self.static else x_N[None], 1, memory)
        return logits_1NK[0], after

    def keep(self, memory: State, samples: Array) -> State:
        """Return the state of these samples alone."""
        return memory.keep(samples)


def runner_of(program: Program) -> Runner:
    """Return native code, or the reference if it is not built, with one line that says so."""
    try:
        return Native(program)
    except EngineError as error:
        _say_once(str(error))
        return InNumPy(program)


@cache
def _say_once(why: str) -> None:
    say(f"engine: {why}; meanwhile NumPy computes, slowly")
