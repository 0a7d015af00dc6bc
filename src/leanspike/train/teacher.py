"""The teacher of a distillation: any trained network, frozen, asked once per batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError, one_line
from leanspike.surgery import SpikingNetwork, readout
from leanspike.synapse import convolving_faster
from leanspike.train.watch import maps


@final
class Teacher:
    """Any trained network that shows what it answers, and what it finds on the way.

    It is put into eval mode at each question and gets no gradient. Nothing else in it changes.
    Objectives that share a teacher ask it once per batch: give them the same ``Teacher``.

    Args:
        network: from the student's input to logits ``[N, K]``; a :class:`SpikingNetwork` answers
            with the mean of its steps.
        dtype: bfloat16 lets it compute under autocast.

    >>> teacher = Teacher(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)))
    >>> teacher.watch("1")
    >>> x = torch.rand(4, 3)
    >>> teacher.logits(x).shape, teacher.feature("1", x).shape
    (torch.Size([4, 2]), torch.Size([4, 8]))
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        self.dtype = dtype
        self._watched: list[str] = []
        self._asked: tuple[Tensor, int] | None = None
        self._logits = torch.zeros(0)
        self._features: dict[str, Tensor] = {}

    @classmethod
    def of(cls, teacher: nn.Module | Teacher) -> Teacher:
        """Return that teacher, or make one from a network."""
        return teacher if isinstance(teacher, Teacher) else cls(teacher)

    def watch(self, path: str) -> None:
        """Keep what the module at ``path`` puts out, for :meth:`feature`.

        Raises:
            LeanspikeError: if there is no such module; it names the modules that there are.
        """
        modules = dict(self.network.named_modules())
        if path not in modules or not path:
            names = ", ".join(name for name in modules if name)
            raise LeanspikeError(f"the teacher has no module {path!r}; it has {names}")
        if path not in self._watched:
            self._watched.append(path)
            self._asked = None  # the answer that is kept lacks this module's output

    def logits(self, x: Tensor) -> Tensor:
        """Return the teacher's answer, ``[N, K]`` in float32."""
        self._ask(x)
        return self._logits

    def feature(self, path: str, x: Tensor) -> Tensor:
        """Return what a watched module puts out, ``[N, ...]`` in float32.

        The maps of an SNN are averaged over time.
        """
        self._ask(x)
        return self._features[path]

    @torch.no_grad()
    def _ask(self, x: Tensor) -> None:
        version = 0 if x.is_inference() else x._version  # grows when x is written into
        if self._asked is not None and self._asked[0] is x and self._asked[1] == version:
            return
        self.network.eval()
        mixed = self.dtype != torch.float32
        with (
            maps(self.network, self._watched, self._features),
            torch.autocast(x.device.type, self.dtype, enabled=mixed),
            convolving_faster(self.network),
        ):
            answer = self._answer(x)
        if not isinstance(answer, Tensor):
            raise LeanspikeError(
                f"the teacher answers a {type(answer).__name__}; give one that answers one tensor"
            )
        if isinstance(self.network, SpikingNetwork):
            answer = readout(answer, "mean")[-1]
        self._logits = answer.to(torch.promote_types(answer.dtype, torch.float32))
        self._asked = x, version

    def _answer(self, x: Tensor) -> Tensor:
        try:
            answer: Tensor = self.network(x)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            raise LeanspikeError(
                f"the teacher cannot take the student's input of shape {tuple(x.shape)} "
                f"({one_line(error)}); give one that can"
            ) from error
        return answer


def renormalise(
    network: nn.Module,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    own_mean: Sequence[float],
    own_std: Sequence[float],
) -> None:
    """Let ``network`` take pixels of another normalisation than that of its training.

    The network is changed in place, by a hook before its forward pass. Its class and the paths of
    its modules stay.

    Args:
        network: trained on (pixel − own mean) / own std.
        mean, std: per channel, of the input that will come.
        own_mean, own_std: per channel, of the network's training.

    Raises:
        LeanspikeError: if the constants do not fit each other.

    >>> network = nn.Identity()
    >>> renormalise(network, (0.5,), (0.5,), own_mean=(0.0,), own_std=(1.0,))
    >>> network(torch.tensor([[[[1.0]]]])).item()  # a pixel of 1.0
    1.0
    """
    if len({len(mean), len(std), len(own_mean), len(own_std)}) > 1 or min(own_std) <= 0:
        raise LeanspikeError(
            f"a teacher's mean {tuple(own_mean)} and std {tuple(own_std)} do not fit the data's "
            f"{tuple(mean)} and {tuple(std)}; give one number per channel, std positive"
        )
    scale = [ours / own for ours, own in zip(std, own_std, strict=True)]
    shift = [(ours - own) / d for ours, own, d in zip(mean, own_mean, own_std, strict=True)]
    network.register_forward_pre_hook(partial(_rescale, scale, shift))


def _rescale(
    scale: list[float], shift: list[float], _module: nn.Module, args: tuple[Any, ...]
) -> tuple[Any, ...]:
    x, *rest = args
    return (x * x.new_tensor(scale).view(-1, 1, 1) + x.new_tensor(shift).view(-1, 1, 1), *rest)
