"""Surrogate derivatives, which replace the derivative of the spike, a step function.

A spike is o = 1[z > 0] with z = u/v − 1. This z is the membrane's distance to the threshold, in
units of the threshold. The true derivative is zero almost everywhere. Each class here has another
do/dz.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.registry import ChosenPart, Registry

surrogates: Registry[Surrogate] = Registry("surrogate", "leanspike.surrogates")


@dataclass(frozen=True)
class Surrogate(ABC):
    """A function z ↦ do/dz, whose constants are all positive."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                kind = type(self).__name__
                raise LeanspikeError(f"{kind}({field.name}={value}): give a number above 0")

    @abstractmethod
    def derivative(self, z: Tensor) -> Tensor:
        """Return do/dz at the distance ``z`` (any shape), in the same shape and dtype."""

    def spike(self, z: Tensor) -> Tensor:
        """Return 1 where ``z`` > 0, else 0 (NaN does not spike), in the dtype of ``z``.

        >>> z = torch.tensor([-0.5, 0.0, 0.5], requires_grad=True)
        >>> spikes = Triangle(gamma=0.3).spike(z)
        >>> spikes.tolist()
        [0.0, 0.0, 1.0]
        >>> spikes.sum().backward()
        >>> z.grad
        tensor([0.1500, 0.3000, 0.1500])
        """
        # torch.compile does not support forward mode.
        function = _Spike if torch.compiler.is_compiling() else _SpikeBothWays
        spikes: Tensor = function.apply(z, self)
        return spikes


class _Spike(torch.autograd.Function):
    """The step function in the forward pass, the surrogate in the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, surrogate: Surrogate) -> Tensor:  # noqa: ARG004
        return (z > 0).to(z.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:  # noqa: ARG004
        z, ctx.surrogate = inputs
        ctx.save_for_backward(z)
        ctx.save_for_forward(z)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return grad_outputs[0] * ctx.surrogate.derivative(z), None


class _SpikeBothWays(_Spike):
    """The same with the surrogate as its derivative in forward mode, too."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        """Return the derivative along ``tangents[0]``."""
        (z,) = ctx.saved_tensors
        slope: Tensor = tangents[0] * ctx.surrogate.derivative(z)
        return slope


@surrogates.register("triangle")
@dataclass(frozen=True)
class Triangle(Surrogate):
    """``do/dz = γ · max(0, 1 − |z|/w)``: DIET-SNN (arXiv 2008.03658, eq. 8), γ = 0.3, w = 1.

    ``width`` w is in units of the threshold: at w = 1 membranes between 0 and 2v learn.

    >>> Triangle(gamma=0.3).derivative(torch.tensor([-2.0, 0.0, 0.5]))
    tensor([0.0000, 0.3000, 0.1500])
    """

    gamma: float = 0.3
    width: float = 1.0

    def derivative(self, z: Tensor) -> Tensor:
        return self.gamma * (1 - z.abs() / self.width).clamp(min=0)


@surrogates.register("arctan")
@dataclass(frozen=True)
class Arctan(Surrogate):
    """``do/dz = α/2 / (1 + (π/2 · α · z)²)``: Fang et al. 2021 (arXiv 2007.05785), α = 2.

    >>> Arctan(alpha=2.0).derivative(torch.tensor([0.0]))
    tensor([1.])
    """

    alpha: float = 2.0

    def derivative(self, z: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * z) ** 2)


@surrogates.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """``do/dz = α · σ(αz) · (1 − σ(αz))``: Zenke & Ganguli 2018 and many since, α = 4.

    >>> Sigmoid(alpha=4.0).derivative(torch.tensor([0.0]))
    tensor([1.])
    """

    alpha: float = 4.0

    def derivative(self, z: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * z)
        return self.alpha * s * (1 - s)


@surrogates.register("rectangle")
@dataclass(frozen=True)
class Rectangle(Surrogate):
    """``do/dz = 1/w where |z| < w/2, else 0``: STBP, Wu et al. 2018 (arXiv 1706.02609), w = 1.

    >>> Rectangle(width=0.5).derivative(torch.tensor([0.0, 0.2, 0.3]))
    tensor([2., 2., 0.])
    """

    width: float = 1.0

    def derivative(self, z: Tensor) -> Tensor:
        return (z.abs() < self.width / 2).to(z.dtype) / self.width


SURROGATES = surrogates.registered


class SurrogateSection(ChosenPart):
    """The derivative that replaces that of a spike, a step function, in training."""

    registry = surrogates

    name: str = Field("triangle", description="Its shape; DIET-SNN and BNTT take the triangle.")
    options: dict[str, float] = Field(
        {},
        description="Its constants, as gamma of the triangle; see `leanspike.neuron`.",
    )
