"""What computes a program: native code where it is built, else the reference in NumPy."""

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
    """Runs a program: images ``[N, H, W, C]``, or ``[T, N, H, W, C]`` of an input with steps."""

    name: str
    """What computes, as tables show it."""

    @abstractmethod
    def whole(self, x: Array, steps: int) -> Array:
        """Return the logits of the first steps, ``[T, N, K]``."""

    @abstractmethod
    def begin(self, samples: int) -> Any:
        """Return what is remembered before the first step."""

    @abstractmethod
    def step(self, x_N: Array, memory: Any, taken: int) -> tuple[Array, Any]:
        """The logits of the step after so many, ``[N, K]``, and what is remembered after it."""

    @abstractmethod
    def keep(self, memory: Any, samples: Array) -> Any:
        """Return what is remembered of some samples: a boolean mask ``[N]`` or indices."""

    def exits(self, x: Array, margin: float, latest: int) -> tuple[Array, Array] | None:  # noqa: ARG002
        """Mean logits ``[N, K]`` and steps ``[N]`` of images that leave by the margin, or after the
        latest step; None where nobody leaves inside a run."""
        return None

    def seconds(self, x: Array, steps: int) -> list[float] | None:  # noqa: ARG002
        """What each node takes for these images, in one thread; None where nobody measures."""
        return None


@final
class Native(Runner):
    """In native code."""

    def __init__(self, program: Program) -> None:
        self.engine = Engine(to_bytes(program))
        self.static = program.input.static
        self.name = f"native, {self.engine.instructions}"

    def whole(self, x: Array, steps: int) -> Array:
        """In torch's number of threads."""
        return self.engine(x, steps, torch.get_num_threads())

    def exits(self, x: Array, margin: float, latest: int) -> tuple[Array, Array] | None:
        """Inside the loop over steps, in torch's number of threads; None of a single logit."""
        if self.engine.facts.outputs < 2:
            return None
        found = self.engine.answer(x, margin, latest, torch.get_num_threads())
        return found.logits_NK, found.steps_N

    def begin(self, samples: int) -> Stream:
        """Return the states of the samples."""
        return self.engine.stream(samples)

    def step(self, x_N: Array, memory: Stream, taken: int) -> tuple[Array, Stream]:
        """Return the stream goes on, so its states before are gone."""
        if memory.steps != taken:
            raise LeanspikeError(
                f"this state is of step {taken}, and the stream has gone on to {memory.steps}; "
                "give the newest state, or begin with state=None"
            )
        return memory.step(x_N), memory

    def keep(self, memory: Stream, samples: Array) -> Stream:
        """Return the others leave the stream."""
        memory.keep(samples)
        return memory

    def seconds(self, x: Array, steps: int) -> list[float]:
        """Of the second run of two."""
        self.engine.work(x, steps)
        return [node.seconds for node in self.engine.work(x, steps)]


@final
class InNumPy(Runner):
    """By the reference."""

    name = "NumPy"

    def __init__(self, program: Program) -> None:
        self.reference = Reference(program)
        self.static = program.input.static

    def whole(self, x: Array, steps: int) -> Array:
        """At once."""
        return self.reference.run(x, steps)[0]

    def begin(self, samples: int) -> State:  # noqa: ARG002
        """Nothing yet."""
        return State()

    def step(self, x_N: Array, memory: State, taken: int) -> tuple[Array, State]:  # noqa: ARG002
        """Return a chunk of one step."""
        logits_1NK, after = self.reference.run(x_N if self.static else x_N[None], 1, memory)
        return logits_1NK[0], after

    def keep(self, memory: State, samples: Array) -> State:
        """Return a state of these alone."""
        return memory.keep(samples)


def runner_of(program: Program) -> Runner:
    """Native code; the reference where it is not built, which is said once."""
    try:
        return Native(program)
    except EngineError as error:
        _say_once(str(error))
        return InNumPy(program)


@cache
def _say_once(why: str) -> None:
    say(f"engine: {why}; meanwhile NumPy computes, slowly")
