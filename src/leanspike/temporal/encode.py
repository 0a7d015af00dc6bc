"""How a sample enters the network: what the first layer sees at each timestep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

from torch import Tensor

from leanspike.errors import LeanspikeError


class Encoder(ABC):
    """Turns what the user passes into the network's input.

    ``timed`` declares whether the encoded input differs from step to step. If it does not, all
    that precedes the first neuron is computed once, not once per step.
    """

    timed: ClassVar[bool]

    @abstractmethod
    def sequence(self, x: Tensor, timesteps: int) -> tuple[Tensor, int]:
        """The input of the whole sequence, folded if timed, and its number of steps."""


@final
class Direct(Encoder):
    """Analog pixels ``[N, ...]`` as a constant current at each step (DIET-SNN, section III-A).

    >>> import torch
    >>> x, timesteps = Direct().sequence(torch.zeros(2, 3, 8, 8), timesteps=5)
    >>> x.shape, timesteps
    (torch.Size([2, 3, 8, 8]), 5)
    """

    timed = False

    def sequence(self, x: Tensor, timesteps: int) -> tuple[Tensor, int]:
        return x, timesteps


@final
class Frames(Encoder):
    """A sequence ``[T, N, ...]``, one frame per step; its length is the number of steps.

    >>> import torch
    >>> x, timesteps = Frames().sequence(torch.zeros(4, 2, 2, 8, 8), timesteps=5)
    >>> x.shape, timesteps
    (torch.Size([8, 2, 8, 8]), 4)
    """

    timed = True

    def sequence(self, x: Tensor, timesteps: int) -> tuple[Tensor, int]:  # noqa: ARG002
        return x.flatten(0, 1), x.shape[0]


ENCODERS: dict[str, type[Encoder]] = {"direct": Direct, "frames": Frames}


def create_encoder(name: str) -> Encoder:
    """The encoder of that name.

    >>> create_encoder("rate")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: encode is 'rate'; choose one of direct, frames
    """
    if name not in ENCODERS:
        raise LeanspikeError(f"encode is {name!r}; choose one of {', '.join(ENCODERS)}")
    return ENCODERS[name]()
