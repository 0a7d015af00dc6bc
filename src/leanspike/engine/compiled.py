"""Compiled spiking networks: running, streaming, explaining and saving them.

Shapes: T timesteps, N samples, K outputs; ``_TNK`` is ``[T, N, K]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from leanspike.batches import images_of
from leanspike.engine.entry import Entry
from leanspike.engine.explain import Explanation, explained
from leanspike.engine.lowering import lowered
from leanspike.engine.quantise import WEIGHTS, moments, quantised
from leanspike.engine.runners import Runner, runner_of
from leanspike.errors import LeanspikeError, check_count
from leanspike.execute import SpikingNetwork
from leanspike.files import atomic
from leanspike_runtime import EngineError, Program, to_bytes
from leanspike_runtime.program import Array

Images = TypeVar("Images", Tensor, Array)
ENOUGH, FEWEST = 128, 8
"""The most images used for scales of weights and for explanations, and the fewest of large ones."""
PIXELS = 2**18
"""The most pixels of all these images together: NumPy keeps the output of each layer."""


@dataclass(frozen=True)
class Pixels:
    """Notes in a file on its input: pixels become (x - mean)/std.

    ``mean`` and ``std``: for each channel, of pixels from 0 to 1. ``classes``: the outputs' names.

    >>> Pixels((0.5,), (0.25,)).classes is None
    True
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None


def compile_engine(
    snn: SpikingNetwork,
    images: Any = None,
    *,
    weights: Literal["f32", "int8", "int6"] = "f32",
    timesteps: int | None = None,
    readout: Literal["sum", "mean"] = "sum",
    pixels: Pixels = Pixels(),
) -> Engine:
    """Compile a spiking network into a native program that computes only where there are spikes.

    With weights in float32 its spikes are those of the network, except for the rounding of sums.
    Weights of 8 or 6 bits are whole numbers with a scale for each output channel. Their sums are
    exact.

    Args:
        snn: the network, in any mode, with its parameters as they are now.
        images: some dozens, without labels, as the network takes them. They tell how often each
            channel spikes, from which the scales of whole-number weights follow. Unused for "f32".
        weights: "f32", "int8" or "int6".
        timesteps: the default number of steps; without it ``snn.timesteps``. If norms differ from
            step to step, it is also the largest number.
        readout: the readout of the training, "sum" or "mean", as a note in the file.
        pixels: notes in the file: the constants of pixels and the names of the classes.

    Raises:
        LeanspikeError: for what cannot be compiled, by its path, with a way out.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> _ = torch.manual_seed(0)
    >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> x = torch.rand(5, 1, 4, 4)
    >>> snn = spike(ann, example_input=x[:1], timesteps=4)
    >>> engine = compile_engine(snn)
    >>> torch.allclose(engine(x), snn(x), atol=1e-5)
    True
    """
    if not isinstance(snn, SpikingNetwork):
        raise LeanspikeError(
            f"snn is a {type(snn).__name__}; give a spiking network, made with leanspike.spike"
        )
    if weights not in WEIGHTS:
        raise LeanspikeError(f"weights is {weights!r}; choose one of {', '.join(WEIGHTS)}")
    steps = check_count("timesteps", snn.timesteps if timesteps is None else timesteps)
    places = {str(p.device) for p in snn.parameters()} - {"cpu"}
    if places:
        raise LeanspikeError(f"the network is on {places.pop()}; compile snn.cpu()")
    program = lowered(snn, steps, readout, f"leanspike {version('leanspike')}")
    given = replace(program.input, mean=pixels.mean, std=pixels.std, classes=pixels.classes)
    program = replace(program, input=given)
    entry = Entry(snn.plan.encoder, snn.plan.sample_shape)
    if weights != "f32":
        some = None if images is None else images_of(images, snn, entry.encoder.batch_axis)
        seen = None if some is None else entry.encoded(_first(some, entry), steps)[0]
        program = quantised(program, weights, moments(program, seen))
    return Engine(program, entry)


def _first(images: Tensor, entry: Entry) -> Tensor:
    axis, pixels = entry.encoder.batch_axis, math.prod(entry.sample_shape[1:])
    most = min(ENOUGH, max(FEWEST, PIXELS // pixels))
    return images.narrow(axis, 0, min(most, images.shape[axis]))


@final
class Engine:
    """A compiled network. :func:`compile_engine` makes it.

    Attributes:
        program: the program.
        runs_in: native code with its instructions, or NumPy.
    """

    def __init__(self, program: Program, entry: Entry) -> None:
        self.program = program
        self._entry = entry
        self._runner: Runner = runner_of(program)

    @property
    def batch_axis(self) -> int:
        """The axis of the samples in its input: 0, or 1 behind time."""
        return self._entry.encoder.batch_axis

    @property
    def runs_in(self) -> str:
        """Native code with its instructions, or NumPy."""
        return self._runner.name

    def __call__(self, images: Images, timesteps: int | None = None) -> Images:
        """Return the output of every step, as the network does. For arrays it is an array.

        Args:
            images: ``[N, ...]``, as the network takes them; frames ``[T, N, ...]``.
            timesteps: T; default the number that it was compiled for. Frames have their own T.

        Returns:
            ``[T, N, K]`` in float32, not cumulated; see :func:`leanspike.readout`.

        Raises:
            LeanspikeError: for input of another shape or type, or more steps.
        """
        steps = self.program.timesteps if timesteps is None else timesteps
        x, steps = self._entry.encoded(torch.as_tensor(images), check_count("timesteps", steps))
        with in_leanspike():
            logits_TNK = self._runner.whole(x, steps)
        return _like(logits_TNK, images)

    def step(self, x_N: Images, state: EngineState | None = None) -> tuple[Images, EngineState]:
        """Compute one timestep, for streaming: the output ``[N, K]`` and the next state.

        Args:
            x_N: the input of this step, ``[N, ...]``. With direct input only that of the first
                step counts.
            state: the state that the previous step returned; None to begin. In native code each
                state can be used once: only the newest can be given.

        Raises:
            LeanspikeError: for other samples than the state's, or more steps than it was compiled
                for.
        """
        given = torch.as_tensor(x_N)
        state = state or EngineState(self._runner, self._runner.begin(len(given)))
        x = self._entry.encoded_step(given, state.steps)
        with in_leanspike():
            logits_NK, memory = self._runner.step(x, state.memory, state.steps)
        return _like(logits_NK, x_N), replace(state, memory=memory, steps=state.steps + 1)

    def by_margin(
        self, images: Tensor, margin: float, latest: int | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Run with early exit inside the native loop; see `leanspike.evaluation.exit_early`.

        Args:
            images: as for a call.
            margin: the margin at which a sample leaves: the probability of the first class minus
                that of the second, by the mean of the logits so far. Above 1 none leaves.
            latest: the step after which all other samples leave; default the last.

        Returns:
            The mean logits ``[N, K]`` and the steps ``[N]`` with which samples left. None if NumPy
            computes, or if there is a single logit.
        """
        x, steps = self._entry.encoded(images, latest or self.program.timesteps)
        with in_leanspike():
            found = self._runner.exits(x, margin, min(steps, latest or steps))
        if found is None:
            return None
        return torch.from_numpy(found[0]), torch.from_numpy(found[1]).long()

    def explain(self, images: Any) -> Explanation:
        """Return the events, the work and, in native code, the time of each layer for these images.

        Args:
            images: a tensor or an array, or batches. The first 128 are used, of large images
                fewer.
        """
        given = images_of(images, torch.nn.Identity(), self.batch_axis)
        some = _first(given, self._entry)
        x, steps = self._entry.encoded(some, self.program.timesteps)
        with in_leanspike():
            return explained(self.program, x, self._runner.seconds(x, steps))

    def save(self, path: str | Path) -> Path:
        """Write the program into a file that `leanspike_runtime` and C can read.

        >>> from tempfile import TemporaryDirectory
        >>> from leanspike import spike
        >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU())
        >>> engine = compile_engine(spike(ann.eval(), example_input=torch.zeros(1, 2)))
        >>> with TemporaryDirectory() as folder:
        ...     engine.save(Path(folder, "answer.leanspike")).stat().st_size % 4
        0
        """
        with atomic(Path(path)) as part:
            part.write_bytes(to_bytes(self.program))
        return Path(path)


@dataclass(frozen=True)
class EngineState:
    """The state of a compiled network between two steps.

    >>> from leanspike import spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU())
    >>> engine = compile_engine(spike(ann.eval(), example_input=torch.zeros(1, 2)))
    >>> _, state = engine.step(torch.ones(3, 2))
    >>> state.steps, len(engine.step(torch.ones(2, 2), state.keep(np.array([0, 2])))[0])
    (1, 2)
    """

    runner: Runner
    memory: Any
    steps: int = 0

    def keep(self, samples: Tensor | Array) -> EngineState:
        """Return the state of some samples only: a boolean mask ``[N]`` or indices."""
        return replace(self, memory=self.runner.keep(self.memory, np.asarray(samples)))


def _like(logits: Array, given: Images) -> Images:
    return torch.from_numpy(np.ascontiguousarray(logits)) if isinstance(given, Tensor) else logits


@contextmanager
def in_leanspike() -> Iterator[None]:
    """Raise errors of the engine as LeanspikeError."""
    try:
        yield
    except EngineError as error:
        raise LeanspikeError(str(error)) from None
