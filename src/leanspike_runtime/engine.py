"""Running a file of ``leanspike compile`` in native code, from images to logits.

N images, T timesteps, K outputs. Images are float32 ``[N, H, W, C]``, channels last, or
``[T, N, H, W, C]`` if the input changes with time.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanspike_runtime.errors import EngineError
from leanspike_runtime.library import (
    INSTRUCTIONS,
    MESSAGE_BYTES,
    MOST_STEPS,
    PORTABLE,
    Batch,
    Count,
    Facts,
    chosen_instructions,
    library,
)
from leanspike_runtime.threads import parallel

if TYPE_CHECKING:
    from pathlib import Path

    from leanspike_runtime.program import Array


@dataclass(frozen=True)
class Exits:
    """The answers with which images left, ``[N, K]`` (means over their steps), and the steps."""

    logits_NK: Array
    steps_N: Array


@dataclass(frozen=True)
class Work:
    """The work of a node in a run.

    It counts the node's events (once for each synapse that read them), the weights that the events
    met, the multiplications of analog inputs, and the seconds.
    """

    events: int
    accumulates: int
    multiplies: int
    seconds: float


class Engine:
    """A compiled network in native code.

    Args:
        content: the content of a file of ``leanspike compile``.
        instructions: "portable", "plain", "avx2" or "avx512". The default is that of the
            environment variable LEANSPIKE_INSTRUCTIONS, or else the processor's best. No result
            depends on it.

    Raises:
        EngineError: for content that is damaged, of another version, or no program. Also if the
            library is not built.

    >>> Engine.load("nowhere.leanspike")
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: nowhere.leanspike cannot be read (No such file ...
    """

    def __init__(self, content: bytes, instructions: str | None = None) -> None:
        self._library = library()
        self.instructions = chosen_instructions(instructions)
        self._file = _memory(len(content))
        self._file[:] = np.frombuffer(content, np.uint8)
        self._tables, self._program = self._opened()
        self._packed = self._pack()
        self.facts: Facts = self._library.ls_about(self._program)
        self._spare: list[Array] = []  # memory of calls that have ended

    def begin(self, steps: int) -> tuple[int, Array]:
        """Return a state before the first step, for runs of so many steps, and its memory."""
        memory = _memory(self._library.ls_state_room(self._program, steps))
        state = self._library.ls_begin(self._program, steps, memory.ctypes.data, len(memory))
        if not state:
            raise EngineError(f"the engine cannot hold {steps} steps at once; give fewer")
        return state, memory

    @classmethod
    def load(cls, path: str | Path, instructions: str | None = None) -> Engine:
        """Return the engine of a file."""
        try:
            with open(path, "rb") as file:
                return cls(file.read(), instructions)
        except OSError as error:
            raise EngineError(
                f"{path} cannot be read ({error.strerror}); give another path"
            ) from None
        except EngineError as error:
            raise EngineError(f"{path}: {error}") from None

    def _opened(self) -> tuple[Array, int]:
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        file = (self._file.ctypes.data, len(self._file))
        room = self._library.ls_program_room(*file, message)
        tables = _memory(room)
        program = room and self._library.ls_open(*file, tables.ctypes.data, room, message)
        if not program:
            raise EngineError(message.value.decode())
        return tables, program

    def _pack(self) -> Array | None:
        """Return the weights laid out for the instructions. Portable code reads the file itself."""
        if self.instructions == PORTABLE:
            return None
        kernels = self._library.ls_kernels_of(INSTRUCTIONS.index(self.instructions))
        packed = _memory(self._library.ls_pack_room(self._program, kernels))
        self._library.ls_pack(self._program, kernels, packed.ctypes.data, len(packed))
        return packed

    def __call__(self, x: Array, steps: int | None = None, threads: int | None = None) -> Array:
        """Return the logits of each step, ``[T, N, K]``.

        Args:
            x: images.
            steps: T; default the number that the network was trained for. Frames have their own T.
            threads: the number of threads; default one for each processor. No result depends on it.
        """
        x = self._checked(x)
        steps = self._steps(x, steps)
        logits_NTK = np.empty((len(x), steps, self.facts.outputs), np.float32)
        self._run(x, threads, Batch(steps=steps, logits=logits_NTK.ctypes.data))
        return logits_NTK.transpose(1, 0, 2)

    def answer(
        self, x: Array, margin: float = 0.9, latest: int | None = None, threads: int | None = None
    ) -> Exits:
        """Answer with early exit: each image leaves, and costs no more, when its answer is sure.

        Args:
            x: images.
            margin: the margin at which an image leaves: the probability of the first class minus
                that of the second, by the mean of the logits so far. Above 1 none leaves.
            latest: the step after which unsure images leave, too.
            threads: as for a call.
        """
        x = self._checked(x)
        latest = self._steps(x, latest, fewer=True)
        logits_NK = np.empty((len(x), self.facts.outputs), np.float32)
        steps_N = np.empty(len(x), np.int32)
        places = {"logits": logits_NK.ctypes.data, "taken": steps_N.ctypes.data}
        self._run(x, threads, Batch(latest=latest, margin=margin, **places))
        return Exits(logits_NK, steps_N)

    def stream(self, samples: int) -> Stream:
        """Return the states of so many samples before the first step, for single steps."""
        return Stream(self, [_State(self, 1) for _ in range(samples)])

    def work(self, x: Array, steps: int | None = None) -> tuple[Work, ...]:
        """Return the work of each node for all these images, in one thread."""
        x = self._checked(x)
        steps = self._steps(x, steps)
        counts = (Count * max(1, self.facts.nodes))()
        state = _State(self, steps)
        self._library.ls_watch(state.address, counts, self._clock())
        for image in x:
            state.run(image, 0, steps)
        return tuple(Work(c.events, c.accumulates, c.multiplies, c.seconds) for c in counts)

    def _clock(self) -> int | None:
        return ctypes.cast(self._library.ls_now, ctypes.c_void_p).value

    # -- of calls --------------------------------------------------------------------------------

    def _checked(self, x: Array) -> Array:
        """Return images as float32, N first, after checking them."""
        shape = (self.facts.height, self.facts.width, self.facts.channels)
        timed = () if self.facts.static_input else ("T",)
        x = np.asarray(x, np.float32)
        if x.ndim != 4 + len(timed) or x.shape[-3:] != shape:
            wanted = ", ".join(map(str, (*timed, "N", *shape)))
            raise EngineError(f"input of shape {list(x.shape)}; give [{wanted}], channels last")
        return np.ascontiguousarray(x.swapaxes(0, 1) if timed else x)

    def _steps(self, x: Array, steps: int | None, *, fewer: bool = False) -> int:
        """Return the number of steps. An input with steps has that many, or ``fewer``."""
        most = min(self.facts.most_steps, MOST_STEPS)
        given = None if self.facts.static_input else x.shape[1]
        if steps is None:
            steps = self.facts.timesteps if given is None else given
        low = 1 if given is None or fewer else given
        high = most if given is None else min(most, given)
        if not low <= steps <= high:
            raise EngineError(f"{steps} steps are asked for; give {low} to {high}")
        return steps

    def _run(self, x: Array, threads: int | None, batch: Batch) -> None:
        batch.program, batch.images = self._program, x.ctypes.data
        batch.count, batch.size = len(x), math.prod(x.shape[1:])
        batch.threads, batch.parallel = threads or os.cpu_count() or 1, parallel()
        room = self._library.ls_batch_room(ctypes.byref(batch))
        memory = self._spare.pop() if self._spare else _memory(0)
        if len(memory) < room:
            memory = _memory(room)
        batch.memory = memory.ctypes.data
        failed = room == 0 or self._library.ls_run_batch(ctypes.byref(batch))
        self._spare.append(memory)
        if failed:
            raise EngineError("the engine cannot hold so many steps; give fewer")


class Stream:
    """Running networks, one for each sample, for single steps. `Engine.stream` makes it.

    Samples do not influence each other. ``steps`` is the number of steps taken.
    """

    def __init__(self, engine: Engine, states: Sequence[_State]) -> None:
        self._engine = engine
        self._states = list(states)
        self.steps = 0

    def step(self, x_N: Array) -> Array:
        """Return the logits of the next step, ``[N, K]``, from images ``[N, H, W, C]``.

        If the input does not change with time, only the first step's images count.

        Raises:
            EngineError: for another number of samples, or more steps than the network has.
        """
        facts = self._engine.facts
        x_N = np.ascontiguousarray(x_N, np.float32)
        shape = (len(self._states), facts.height, facts.width, facts.channels)
        if x_N.shape != shape:
            raise EngineError(f"input of shape {list(x_N.shape)}; give {list(shape)}")
        if self.steps == facts.most_steps:
            raise EngineError(f"the network has {self.steps} steps, and they are over; begin anew")
        step = self.steps
        logits = [state.run(x, step, step + 1) for state, x in zip(self._states, x_N, strict=True)]
        self.steps += 1
        return np.concatenate(logits) if logits else np.empty((0, facts.outputs), np.float32)

    def keep(self, samples: Array) -> None:
        """Keep some samples only: a boolean mask ``[N]`` or indices."""
        chosen = np.arange(len(self._states))[samples]
        self._states = [self._states[number] for number in chosen]


class _State:
    """An ``ls_state`` and its memory."""

    def __init__(self, engine: Engine, steps: int) -> None:
        self._engine = engine  # whose memory it reads
        self.address, self._memory = engine.begin(steps)

    def run(self, x: Array, first: int, after: int) -> Array:
        logits = np.empty((after - first, self._engine.facts.outputs), np.float32)
        done = library().ls_run(self.address, x.ctypes.data, first, after, logits.ctypes.data)
        assert done == 0
        return logits


def _memory(size: int) -> Array:
    """Return bytes that begin at a line of the cache."""
    given = np.empty(size + 63, np.uint8)
    begin = -given.ctypes.data % 64
    return given[begin : begin + size]
