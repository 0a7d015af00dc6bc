"""Norms that know the timestep: batch normalisation through time and its relatives.

They take and return the currents of all steps, ``[T, N, C, ...]``. Plain batch norm over time
(``norm="keep"``) has one γ, and the statistics of all steps together. It needs no class here: it is
``nn.BatchNorm2d`` on the stacked batch.

Shapes: T timesteps, N samples, C channels; ``_TC`` is a value for each step and channel. ``_G`` are
groups with statistics of their own: one for each step, or one in all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.backends import NormScale
from leanspike.errors import LeanspikeError
from leanspike.registry import Registry
from leanspike.temporal.affine import affine_of_norm, scale_and_shift
from leanspike.temporal.means import mean_of_affine, normalised_steps_mean
from leanspike.temporal.moments import Moments, keep_statistics
from leanspike.temporal.synchronise import (
    synchronised,
    synchronised_batch_norm,
    together,
)


class TemporalNorm(nn.Module, ABC):
    """What stands where a batch norm stood, on an edge that depends on time.

    Args:
        channels: C.
        timesteps: the largest T that it can be called with; fewer steps are the first ones.
        bias: whether there is a learned shift β.
        eps: ε, added to the variance.
        momentum: the weight of a new batch in the running statistics, in (0, 1].
        synchronise: in training, take the statistics over the batches of all processes
            (``torch.distributed``), as one process with the whole batch would.

    Raises:
        LeanspikeError: for arguments out of range.
    """

    per_step: ClassVar[bool]
    """Whether each step has statistics and parameters of its own, ``[T, C]`` instead of ``[C]``."""
    folds: ClassVar[bool] = False
    """Whether the norm is the same at each step in eval mode, so that weights can take it up."""

    def __init__(
        self,
        channels: int,
        timesteps: int,
        *,
        bias: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        synchronise: bool = False,
    ) -> None:
        super().__init__()
        for name, count in (("channels", channels), ("timesteps", timesteps)):
            if count < 1:
                raise LeanspikeError(f"{name} is {count}; give 1 or more")
        if not eps > 0:
            raise LeanspikeError(f"eps is {eps}; give a small number above 0")
        if not 0 < momentum <= 1:
            raise LeanspikeError(f"momentum is {momentum}; give a number in (0, 1]")
        self.channels, self.timesteps = channels, timesteps
        self.eps, self.momentum, self.synchronise = eps, momentum, synchronise
        shape = (timesteps, channels) if self.per_step else (channels,)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def forward(self, x_TN: Tensor) -> Tensor:
        """Normalise the currents of all steps, ``[T, N, C, ...]`` in and out."""
        self._check(x_TN, len(x_TN))
        return (
            self._train(x_TN) if self.training else scale_and_shift(x_TN, *self.affine(len(x_TN)))
        )

    def step(self, x_N: Tensor, step: int) -> Tensor:
        """Normalise one timestep ``[N, C, ...]`` as in eval mode, for streaming; the first is 0."""
        x_1N = x_N.unsqueeze(0)
        self._check(x_1N, step + 1)
        scale_TC, shift_TC = self.affine(step + 1)
        return scale_and_shift(x_1N, scale_TC[step:], shift_TC[step:])[0]

    @abstractmethod
    def _train(self, x_TN: Tensor) -> Tensor:
        """Normalise by the statistics of these currents, and keep them in the running ones."""

    @property
    def gain(self) -> float:
        """A constant factor of the scale γ."""
        return 1.0

    def scale_in_training(self, timesteps: int) -> NormScale | None:  # noqa: ARG002
        """Return what :meth:`forward` does in training once it has the statistics of its groups.

        None stands for a norm that does more than that, or takes statistics of several processes. A
        caller that computes by this record instead passes the statistics to :meth:`keep`.
        """
        return None

    @torch.no_grad()
    def keep(self, mean_GC: Tensor, var_GC: Tensor, count: int) -> None:
        """Keep statistics of ``count`` values each in the running ones (variances over n)."""
        keep_statistics(self._of_groups(self.running_mean, len(mean_GC)), mean_GC, self.momentum)
        unbiased_GC = var_GC * (count / (count - 1))
        keep_statistics(self._of_groups(self.running_var, len(mean_GC)), unbiased_GC, self.momentum)

    def _of_groups(self, values: Tensor, groups: int) -> Tensor:
        return values[:groups] if self.per_step else values.unsqueeze(0)

    def _plain_scale(self, timesteps: int) -> NormScale | None:
        """Return the record of a norm that does no more than what its parameters say."""
        if together(self.synchronise):
            return None
        groups = timesteps if self.per_step else 1
        weight_GC = self._of_groups(self.weight, groups)
        bias_GC = None if self.bias is None else self._of_groups(self.bias, groups)
        return NormScale(weight_GC if self.gain == 1 else weight_GC * self.gain, bias_GC, self.eps)

    def learned(self, timesteps: int) -> tuple[Tensor, Tensor | None]:
        """Return γ and β, which scale and shift each step's normalised currents: ``[T, C]``."""

        def of_steps(values: Tensor) -> Tensor:
            return values[:timesteps] if self.per_step else values.expand(timesteps, -1)

        bias = None if self.bias is None else of_steps(self.bias)
        return of_steps(self.gain * self.weight), bias

    def affine(self, timesteps: int) -> tuple[Tensor, Tensor]:
        """Return what the norm does in eval mode, y = scale·x + shift: both ``[T, C]``."""
        mean, var = self.running_mean, self.running_var
        if self.per_step:
            mean, var = mean[:timesteps], var[:timesteps]
        return affine_of_norm(mean, var, self.eps, *self.learned(timesteps))

    def of_mean(self, x_N: Tensor, x_TN: Tensor) -> Tensor:
        """Return the mean output over time as a function of the mean input, for rate gradients.

        ``x_N`` is the mean input and ``x_TN`` are the currents of the steps; see
        :mod:`leanspike.temporal.means`.
        """
        timesteps = len(x_TN)
        if not self.training:
            return mean_of_affine(x_N, x_TN, *self.affine(timesteps))
        self._check_learned()
        how = *self.learned(timesteps), self.eps, self.per_step
        with synchronised(self.synchronise):
            return normalised_steps_mean(x_N, x_TN, *how)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments besides channels and timesteps that make another norm like this one."""
        names = ("eps", "momentum", "synchronise")
        return {"bias": self.bias is not None, **{name: getattr(self, name) for name in names}}

    @torch.no_grad()
    def load_batch_norm(self, state: Mapping[str, Tensor]) -> None:
        """Take over a batch norm's parameters and statistics, the same ones for each step.

        ``state`` is the batch norm's ``state_dict``.

        Raises:
            LeanspikeError: if the batch norm has a shift β that is not all 0, and this norm has
                none; or if the state is no batch norm of these channels.
        """
        places = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        for name, value in state.items():
            if name not in places or value.shape not in ((), (self.channels,)):
                raise LeanspikeError(
                    f"a batch norm of {self.channels} channels has no {name} of shape "
                    f"{tuple(value.shape)}"
                )
        for name, value in state.items():
            own = None if name == "num_batches_tracked" else getattr(self, name)
            if own is not None:
                own.copy_(value)
            elif name == "bias" and value.any():
                raise LeanspikeError(
                    f"the batch norm has a trained shift, and {type(self).__name__} has none; "
                    "give it one with bias=True (in a recipe: spike.norm_options.bias=true)"
                )

    @torch.no_grad()
    def set_statistics(self, chunks_TN: Iterable[Tensor]) -> None:
        """Take the running statistics from these currents, which are chunks of one batch."""
        moments = Moments((1, 3) if self.per_step else (0, 1, 3))
        moments.add_all(x_TN.reshape(*x_TN.shape[:3], -1) for x_TN in chunks_TN)
        steps = len(moments.mean) if self.per_step else self.channels
        self.running_mean[:steps] = moments.mean
        self.running_var[:steps] = moments.variance()

    def extra_repr(self) -> str:
        """Return the settings, for ``print(network)``."""
        settings = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.channels}, timesteps={self.timesteps}, {settings}"

    def _check(self, x_TN: Tensor, steps: int) -> None:
        if x_TN.dim() < 3 or x_TN.shape[2] != self.channels:
            raise LeanspikeError(
                f"currents of shape {tuple(x_TN.shape)}; expected [T, N, {self.channels}, ...]"
            )
        self.check_steps(steps)

    def check_steps(self, steps: int) -> None:
        """Raise LeanspikeError unless there are parameters for this number of steps."""
        if steps > self.timesteps:
            raise LeanspikeError(
                f"{type(self).__name__} has parameters for {self.timesteps} timesteps and is asked "
                f"for {steps}; ask for {self.timesteps} or fewer, or make the network with "
                f"timesteps={steps} and train it"
            )

    def _check_learned(self) -> None:
        """Raise where a subclass has scales of its own, and tells them for eval mode alone."""
        kind = type(self)
        own = kind.affine is not TemporalNorm.affine
        if own and kind.learned is TemporalNorm.learned:
            raise LeanspikeError(
                f"{kind.__name__} has an affine of its own, and rate gradients ask for its scale "
                "and shift in training; give it learned(timesteps) in place of affine, or train "
                "with gradient=bptt"
            )

    def _batch_norm(self, x_TN: Tensor) -> Tensor:
        """Apply batch norm to each step by itself, or to all steps together."""
        if self.per_step:
            return self._normalise_groups(x_TN)
        return self._normalise_groups(x_TN.flatten(0, 1).unsqueeze(0)).view_as(x_TN)

    def _normalise_groups(self, x_GN: Tensor) -> Tensor:
        """Apply batch norm to each group by itself.

        Each group takes one native call, as its step's currents lie together in memory. The call
        needs fewer passes over them for statistics, output and gradient than PyTorch operations
        would.
        """
        groups = len(x_GN)
        weight = self._of_groups(self.weight, groups)
        weight = weight if self.gain == 1 else weight * self.gain
        bias = None if self.bias is None else self._of_groups(self.bias, groups)
        mean, var = (
            self._of_groups(self.running_mean, groups),
            self._of_groups(self.running_var, groups),
        )
        if together(self.synchronise):
            return synchronised_batch_norm(x_GN, mean, var, weight, bias, self.momentum, self.eps)
        y = [
            F.batch_norm(
                *(x_N, mean[g], var[g], weight[g], None if bias is None else bias[g]),
                training=True,
                momentum=self.momentum,
                eps=self.eps,
            )
            for g, x_N in enumerate(x_GN.unbind(0))
        ]
        return torch.stack(y) if len(y) > 1 else y[0].unsqueeze(0)


norms: Registry[TemporalNorm] = Registry("norm", "leanspike.norms")


TEMPORAL_NORMS = norms.registered

NormFactory = Callable[[int, int], TemporalNorm]
"""From the channels and the timesteps to a new norm: a class above, or a partial of it."""


def temporal_norm(
    name: str, options: Mapping[str, Any] | None = None, threshold: float = 1.0
) -> NormFactory:
    """Return a function that makes norms of that name with these options, for ``leanspike.spike``.

    ``threshold`` is the threshold of the neurons that follow. A tdBN takes it, unless its options
    say otherwise.

    >>> temporal_norm("bntt", {"bias": True})(2, 5)
    BNTT(2, timesteps=5, bias=True, eps=0.0001, momentum=0.1, synchronise=False)
    >>> temporal_norm("bntt", {"shift": True})
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: norm bntt has no option 'shift'; valid are bias, eps, ...
    """
    scaled = {"threshold": threshold} if "threshold" in norms.config(name).model_fields else {}
    return partial(norms.find(name), **norms.options(name, scaled | dict(options or {})))
