"""How a sample enters the network: what the first layer sees at each timestep.

``_TN`` is ``[T, N, ...]`` and ``_N`` is ``[N, ...]``. A name without a suffix is stacked,
``[T*N, ...]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from leanspike.distributed import drawn
from leanspike.errors import LeanspikeError
from leanspike.registry import Registry


class Encoder(ABC):
    """Turns what the user passes into the network's input.

    ``timed`` says whether the encoded input differs from step to step. If it does not, all that
    precedes the first neuron is computed once for all steps. ``emits`` is the kind of signal.
    ``batch_axis`` is the axis of the samples in what the user passes: 0, or 1 where time comes
    first.
    """

    timed: ClassVar[bool]
    emits: ClassVar[Literal["analog", "spike"]] = "analog"
    batch_axis: ClassVar[Literal[0, 1]] = 0

    @abstractmethod
    def sequence(self, x: Tensor, timesteps: int, training: bool) -> tuple[Tensor, int]:
        """Return the input of the whole sequence, stacked if timed, and its number of steps."""

    def step(self, x_N: Tensor, step: int) -> Tensor:  # noqa: ARG002
        """Return the input of one timestep in eval mode, for streaming; the first ``step`` is 0."""
        return x_N


encoders: Registry[Encoder] = Registry("encode", "leanspike.encoders")


@encoders.register("direct")
@final
@dataclass(frozen=True)
class Direct(Encoder):
    """Analog pixels ``[N, ...]`` as a constant current at each step (DIET-SNN, section III-A).

    >>> x, timesteps = Direct().sequence(torch.zeros(2, 3, 8, 8), timesteps=5, training=False)
    >>> x.shape, timesteps
    (torch.Size([2, 3, 8, 8]), 5)
    """

    timed = False

    def sequence(self, x: Tensor, timesteps: int, training: bool) -> tuple[Tensor, int]:  # noqa: ARG002
        return x, timesteps


@encoders.register("frames")
@final
@dataclass(frozen=True)
class Frames(Encoder):
    """A sequence ``[T, N, ...]`` with one frame per step; T is the number of steps.

    Args:
        counts: whether the frames hold counts of events. Each event then costs one accumulate for
            each weight that it meets. Otherwise the values are analog and cost
            multiply-accumulates.

    >>> x, timesteps = Frames().sequence(torch.zeros(4, 2, 2, 8, 8), timesteps=5, training=False)
    >>> x.shape, timesteps
    (torch.Size([8, 2, 8, 8]), 4)
    """

    counts: bool = False

    timed = True
    batch_axis = 1

    @property
    def emits(self) -> Literal["analog", "graded"]:  # type: ignore[override]
        """The kind of signal: "graded" (sums of spikes) for counts, else "analog"."""
        return "graded" if self.counts else "analog"

    def sequence(self, x: Tensor, timesteps: int, training: bool) -> tuple[Tensor, int]:  # noqa: ARG002
        return x.flatten(0, 1), x.shape[0]


@encoders.register("poisson")
@final
@dataclass(frozen=True)
class Poisson(Encoder):
    """Normalised pixels ``[N, ...]`` as random spikes with their sign, drawn anew at each step::

        P(spike) = min(1, gain·|x|)          spike = sign(x)

    Source: BNTT, arXiv 2010.01729, section III; its code has the gain ½. In training the spikes
    come from torch's generator. In eval mode they follow from ``seed``, the sample's own values and
    the step. So an evaluation gives the same spikes each time, for every batch size and order of
    the samples, streamed or not. The paper's code draws all samples from one stream instead.

    Args:
        gain: above 0.
        seed: a whole number, 0 or more; another seed gives other spikes.

    >>> x_N = torch.tensor([[0.0, 1.0, -1.0, 3.0]])
    >>> x, timesteps = Poisson().sequence(x_N, timesteps=1000, training=False)
    >>> [round(rate, 1) for rate in x.mean(0).tolist()]
    [0.0, 0.5, -0.5, 1.0]
    """

    gain: float = 0.5
    seed: int = 0

    timed = True
    emits = "spike"

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise LeanspikeError(f"gain is {self.gain}; give a number above 0")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise LeanspikeError(f"seed is {self.seed}; give a whole number, 0 or more")

    def sequence(self, x: Tensor, timesteps: int, training: bool) -> tuple[Tensor, int]:
        if training:
            shape = (timesteps, *x.shape)
            uniform = drawn(shape, lambda whole: torch.rand(*whole, device=x.device), axis=1)
        else:
            keys = _keys(x)
            uniform = torch.stack([self._uniform(x, keys, step) for step in range(timesteps)])
        spikes = [self._spikes(x, uniform_N) for uniform_N in uniform]
        return torch.cat(spikes), timesteps

    def step(self, x_N: Tensor, step: int) -> Tensor:
        """Return the spikes of one timestep."""
        return self._spikes(x_N, self._uniform(x_N, _keys(x_N), step))

    def _spikes(self, x_N: Tensor, uniform_N: Tensor) -> Tensor:
        return x_N.sign() * (uniform_N < self.gain * x_N.abs())

    def _uniform(self, x_N: Tensor, keys: list[int], step: int) -> Tensor:
        """Draw numbers in [0, 1) for one step, each sample's from a generator of its own."""
        shape = x_N.shape[1:]
        draws = [
            np.random.Generator(np.random.SFC64([self.seed, key, step])).random(shape, np.float32)
            for key in keys
        ]
        uniform = np.stack(draws) if draws else np.empty((0, *shape), np.float32)
        return torch.from_numpy(uniform).to(x_N.device)


def _keys(x_N: Tensor) -> list[int]:
    """Return a number for each sample that depends on its values and nothing else."""
    bits = x_N.detach().float().cpu().contiguous().flatten(1).view(torch.int32).long()
    places = torch.arange(1, 2 * bits.shape[1], 2)  # odd, so that no bit is lost
    mixed: list[int] = ((bits * places).sum(1) & 0x7FFFFFFFFFFFFFFF).tolist()
    return mixed


ENCODERS = encoders.registered


def create_encoder(name: str, options: Mapping[str, Any] | None = None) -> Encoder:
    """Return the encoder of that name, with the options of its class.

    >>> create_encoder("poisson", {"seed": 3})
    Poisson(gain=0.5, seed=3)
    >>> create_encoder("rate")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: encode is 'rate'; choose one of direct, frames, poisson
    """
    return encoders.create(name, options)
