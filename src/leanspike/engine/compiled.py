"""A spiking network compiled: what runs it, streams it, explains it and writes it down.

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
"""How many images are looked at for scales of weights and to explain, if there are more."""
PIXELS = 2**18
"""Of all these images together, at most: NumPy keeps what each layer makes of them."""


@dataclass(frozen=True)
class Pixels:
    """What a file says of its input, for who has pixels: they become (x - mean)/std.

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
    """Return the spiking network as a program that works where its spikes are, in native code.

    With weights in float32 its spikes are the network's, except for the rounding of sums. Whole
    numbers of 8 or 6 bits, with a scale for each output channel, are added up exactly.

    Args:
        snn: in eval mode or not; its parameters as they are now.
        images: some dozens, without labels, as the network takes them. By them the scales of
            whole-number weights follow how often each channel spikes. Unused for "f32".
        weights: "f32", "int8" or "int6".
        timesteps: the default number of steps; without it ``snn.timesteps``. It is also the most,
            if norms differ from step to step.
        readout: "sum" or "mean", by which the network was trained; a note in the file.
        pixels: how pixels become input, and the names of the classes; notes in the file.

    Raises:
        LeanspikeError: for what cannot be compiled, by its path, with what to do.

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
            f"{type(snn).__name__} is no spiking network; make one with leanspike.spike"
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
    """A compiled network. Made by :func:`compile_engine`.

    Attributes:
        program: what runs.
        runs_in: what computes it: native code and its instructions, or NumPy.
    """

    def __init__(self, program: Program, entry: Entry) -> None:
        self.program = program
        self._entry = entry
        self._runner: Runner = runner_of(program)

    @property
    def batch_axis(self) -> int:
        """Where samples lie in what it takes: 0, or 1 behind time."""
        return self._entry.encoder.batch_axis

    @property
    def runs_in(self) -> str:
        """See above."""
        return self._runner.name

    def __call__(self, images: Images, timesteps: int | None = None) -> Images:
        """The output of every step, as the network gives it: a tensor of tensors, else an array.

        Args:
            images: ``[N, ...]``, as the network takes them; frames ``[T, N, ...]``.
            timesteps: T; default those that it was compiled for. Frames bring their own.

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
        """One timestep, for streaming: the output ``[N, K]``, and the state for the next.

        Args:
            x_N: this step's input, ``[N, ...]``. With direct encoding only the first step's counts.
            state: what the previous step returned; None to begin. In native code a state goes on
                once: of one that has, only the newest can be given.

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
        """Samples leave inside the native loop over steps; see `leanspike.evaluation.exit_early`.

        Args:
            images: as for a call.
            margin: a sample leaves at this margin: the probability of the first class less that of
                the second, by the mean of the logits so far. Above 1 none leaves.
            latest: the step after which all others leave; default the last.

        Returns:
            The mean logits ``[N, K]`` and the steps ``[N]`` that samples left with. None if NumPy
            computes, or for a single logit.
        """
        x, steps = self._entry.encoded(images, latest or self.program.timesteps)
        with in_leanspike():
            found = self._runner.exits(x, margin, min(steps, latest or steps))
        if found is None:
            return None
        return torch.from_numpy(found[0]), torch.from_numpy(found[1]).long()

    def explain(self, images: Any) -> Explanation:
        """Return what each layer does for these images: events, work, and, in native code, time.

        Args:
            images: a tensor or an array, or batches; the first 128 are looked at, of
                large images fewer.
        """
        given = images_of(images, torch.nn.Identity(), self.batch_axis)
        some = _first(given, self._entry)
        x, steps = self._entry.encoded(some, self.program.timesteps)
        with in_leanspike():
            return explained(self.program, x, self._runner.seconds(x, steps))

    def save(self, path: str | Path) -> Path:
        """Write the program into a file, which `leanspike_runtime` and C read.

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
    """What a compiled network remembers between two steps.

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
    """Errors of the engine as leanspike's own."""
    try:
        yield
    except EngineError as error:
        raise LeanspikeError(str(error)) from None
