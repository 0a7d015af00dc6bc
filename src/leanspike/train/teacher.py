"""The teacher of a distillation: any trained network, frozen, asked once per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.surgery import SpikingNetwork, readout


@final
class Teacher:
    """Any trained network that shows what it answers, and what it finds on the way.

    It is put into eval mode at each question and gets no gradient. Objectives that share a teacher
    ask it once per batch.

    Args:
        network: from the same input as the student's to logits ``[N, K]``; a
            :class:`SpikingNetwork` answers with the mean of its steps.
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
        self._asked: Tensor | None = None
        self._logits = torch.zeros(0)
        self._features: dict[str, Tensor] = {}

    @classmethod
    def of(cls, teacher: nn.Module | Teacher) -> Teacher:
        """That teacher, or a new one of a network."""
        return teacher if isinstance(teacher, Teacher) else cls(teacher)

    def watch(self, path: str) -> None:
        """Keep what the module at ``path`` puts out, for :meth:`feature`.

        Raises:
            LeanspikeError: if there is no such module, with those that there are.
        """
        if path in self._features:
            return
        modules = dict(self.network.named_modules())
        if path not in modules or not path:
            names = ", ".join(name for name in modules if name)
            raise LeanspikeError(f"the teacher has no module {path!r}; it has {names}")
        self._features[path] = torch.zeros(0)

        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            self._features[path] = output

        modules[path].register_forward_hook(keep)

    def logits(self, x: Tensor) -> Tensor:
        """What it answers, ``[N, K]`` in float32."""
        self._ask(x)
        return self._logits

    def feature(self, path: str, x: Tensor) -> Tensor:
        """What a watched module puts out, ``[N, ...]``; that of neurons is averaged over time."""
        self._ask(x)
        found = self._features[path]
        return found.mean(0) if isinstance(self.network, SpikingNetwork) else found

    @torch.no_grad()
    def _ask(self, x: Tensor) -> None:
        if self._asked is x:
            return
        self.network.eval()
        mixed = self.dtype != torch.float32
        with torch.autocast(x.device.type, self.dtype, enabled=mixed):
            answer = self.network(x)
        if isinstance(self.network, SpikingNetwork):
            answer = readout(answer, "mean")[-1]
        self._logits = answer.to(torch.promote_types(answer.dtype, torch.float32))
        self._asked = x


@final
class Renormalised(nn.Module):
    """A network behind another normalisation of the pixels than the one it was trained with.

    Args:
        network: trained on (pixel − own mean) / own std.
        mean, std: per channel, of the input that will come.
        own_mean, own_std: those of its training.

    >>> network = Renormalised(nn.Identity(), (0.5,), (0.5,), own_mean=(0.0,), own_std=(1.0,))
    >>> network(torch.tensor([[[[1.0]]]])).item()  # a pixel of 1.0
    1.0
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        own_mean: Sequence[float],
        own_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network
        a, b, c, d = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std, own_mean, own_std))
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", b / d, persistent=False)
        self.register_buffer("shift", (a - c) / d, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The network's answer to ``[N, C, H, W]``."""
        answer: Tensor = self.network(x * self.scale + self.shift)
        return answer
