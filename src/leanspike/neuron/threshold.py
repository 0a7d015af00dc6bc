"""The common parts of neurons with a leaky membrane and a threshold."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.neuron.kernels import Dynamics, Reset
from leanspike.neuron.protocol import Cost, Neuron
from leanspike.section import Positive, Section, Share
from leanspike.surrogate import SurrogateSection, surrogates

SMALLEST_THRESHOLD = 1e-4
Per = Literal["layer", "channel", "neuron"]
Value = float | Tensor


class ThresholdConfig(Section):
    """The options that these neurons have in common."""

    threshold: Positive = Field(
        1.0, description="The membrane above which a neuron spikes; a calibration sets it anew."
    )
    leak: Share = Field(
        1.0, description="The share of the membrane left after a step; 1: nothing leaks."
    )
    learn: tuple[str, ...] = Field(
        ("leak", "threshold"),
        description="Which of the neuron's numbers are trained; the others keep their value.",
    )
    reset: Reset = Field(
        "soft",
        description="After a spike: subtract the threshold, go to 0, or as DIET-SNN's eq. 1.",
    )
    initial: Literal["zero", "half"] = Field(
        "zero",
        description="The membrane before step 1: 0, or half a threshold, which answers sooner.",
    )
    height: Literal["unit", "threshold"] = Field(
        "unit",
        description="A spike is 1, or as high as the threshold, which keeps the ANN's scale.",
    )
    surrogate: SurrogateSection = Field(
        SurrogateSection(), description="The derivative of a spike in training."
    )
    per: Per = Field(
        "layer",
        description="One threshold, leak and so on for each layer, channel or neuron.",
    )


class ThresholdNeuron(Neuron):
    """Neurons with a threshold v and a leak λ of the membrane, one or several for a layer.

    ``ranges`` holds, for each parameter, the lowest and the highest value that it may have. A
    parameter is a single number, or has the shape of the channels or of the neurons. The shape of
    the channels is ``[C, 1, 1]`` for images, where C is the axis behind N.
    """

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "threshold": (SMALLEST_THRESHOLD, math.inf),
        "leak": (0.0, 1.0),
    }

    pointwise = True
    threshold: Tensor
    leak: Tensor

    def __init__(
        self, values: dict[str, Value], learn: Collection[str], per: Per, dynamics: Dynamics
    ) -> None:
        super().__init__()
        self._check_choices(learn, per, dynamics)
        shapes = {value.shape for value in values.values() if isinstance(value, Tensor)} - {()}
        if len(shapes) > 1:
            found = " and ".join(str(tuple(shape)) for shape in sorted(shapes))
            raise LeanspikeError(f"values of the shapes {found}; give them one shape, or numbers")
        shape = next(iter(shapes), torch.Size())
        if shape:
            per = "channel" if shape.numel() == shape[0] else "neuron"
        self.per: Per = per
        self.learn = tuple(sorted(learn))
        self.dynamics = dynamics
        for name, value in values.items():
            self._check_range(name, value)
            full = torch.as_tensor(value, dtype=torch.float32).detach().expand(shape).clone()
            self.register_parameter(name, nn.Parameter(full, requires_grad=name in learn))

    # -- of every neuron -----------------------------------------------------------------------

    def spike_height(self) -> Tensor:
        """Return 1, or the threshold."""
        return self.threshold if self.keeps_scale() else torch.ones_like(self.threshold)

    def update_cost(self) -> Cost:
        """Return the cost of λ·u + x: a multiply-accumulate, or an addition where λ is 1."""
        leaking = (self.leak.detach() != 1).double().mean().item()
        return Cost(macs=leaking, acs=1 - leaking)

    def memory(self, timesteps: int) -> Tensor:
        """Return λ^j after j steps, on the mean of the layer."""
        leaks = self.leak.detach().cpu().flatten()
        return (leaks ** torch.arange(timesteps).unsqueeze(1)).mean(1)

    def readings(self) -> dict[str, Tensor]:
        """Return the parameters."""
        return {name: self.get_parameter(name).detach() for name in self.ranges}

    @property
    def options(self) -> dict[str, Any]:
        """See :attr:`Neuron.options`."""
        surrogate = self.dynamics.surrogate
        name = surrogates.name_of(type(surrogate))
        if name is None:
            raise LeanspikeError(
                f"{surrogate} has no name in the registry; register its class, as "
                '@leanspike.neuron.surrogates.register("its_name")'
            )
        return {
            "learn": self.learn,
            "reset": self.dynamics.reset,
            "initial": self.dynamics.initial,
            "height": self.dynamics.height,
            "surrogate": {"name": name, "options": vars(surrogate)},
            "per": self.per,
        }

    @torch.no_grad()
    def sized(self, shape: torch.Size) -> None:
        """Repeat each number for each channel or neuron, if ``per`` says so."""
        channels = torch.Size((*shape[:1], *[1] * (len(shape) - 1)))
        wanted = {"layer": torch.Size(), "channel": channels, "neuron": shape}[self.per]
        for name in self.ranges:
            old = self.get_parameter(name)
            if old.shape == wanted:
                continue
            if old.ndim:
                raise LeanspikeError(
                    f"{name} has the shape {tuple(old.shape)}, but this place in the network needs "
                    f'{tuple(wanted)}; give a number and per="{self.per}"'
                )
            full = old.detach().expand(wanted).clone()
            self.register_parameter(name, nn.Parameter(full, requires_grad=old.requires_grad))

    @torch.no_grad()
    def keep_in_range(self) -> None:
        """Clamp leaks to [0, 1], v to at least 1e-4, and other parameters to their range."""
        for name, (lowest, highest) in self.ranges.items():
            self.get_parameter(name).clamp_(lowest, highest)

    # -- as Calibrated -------------------------------------------------------------------------

    def as_activation(self, x: Tensor) -> Tensor:
        """Return the ReLU of ``x``."""
        return F.relu(x)

    def scale(self) -> Tensor:
        """Return the threshold."""
        return self.threshold

    @torch.no_grad()
    def set_scale(self, value: float) -> None:
        """Set the threshold of the whole layer."""
        self.threshold.fill_(value)
        self.keep_in_range()

    def keeps_scale(self) -> bool:
        """Return whether spikes are as high as the threshold."""
        return self.dynamics.height == "threshold"

    @contextmanager
    def while_measured(self) -> Iterator[None]:
        """Set the leak to 1 inside, and restore it afterwards."""
        before = self.leak.detach().clone()
        try:
            with torch.no_grad():
                self.leak.fill_(1.0)
            yield
        finally:
            with torch.no_grad():
                self.leak.copy_(before)

    # -- checks --------------------------------------------------------------------------------

    def check_sized(self) -> None:
        """Raise LeanspikeError if numbers were not yet repeated for each channel or neuron."""
        if self.per != "layer" and self.threshold.ndim == 0:
            raise LeanspikeError(
                f'per is "{self.per}", but this neuron has no place in a network yet; put it there '
                "with leanspike.spike, or call its sized(shape) with the shape of a sample"
            )

    def _check_range(self, name: str, value: Value) -> None:
        lowest, highest = self.ranges[name]
        low = high = value
        if isinstance(value, Tensor):
            low, high = value.min().item(), value.max().item()
        if lowest <= low <= high <= highest and math.isfinite(high):
            return
        shown = value if low is value else f"{low} to {high}"
        hint = " (1: no leak)" if name == "leak" else ""
        way = f"a number from {lowest:g} to {highest:g}{hint}"
        if highest == math.inf:
            way = f"{lowest:g} or more"
        raise LeanspikeError(f"{name} is {shown}; give {way}")

    def _check_choices(self, learn: Collection[str], per: str, dynamics: Dynamics) -> None:
        if isinstance(learn, str) or not set(learn) <= set(self.ranges):
            names = " and ".join(f'"{name}"' for name in sorted(self.ranges))
            raise LeanspikeError(f"learn is {learn!r}; give a tuple of {names}")
        for name, value, choices in (
            ("reset", dynamics.reset, self._resets()),
            ("initial", dynamics.initial, ("zero", "half")),
            ("height", dynamics.height, ("unit", "threshold")),
            ("per", per, get_args(Per)),
        ):
            if value not in choices:
                raise LeanspikeError(f"{name} is {value!r}; choose one of {', '.join(choices)}")

    def _resets(self) -> tuple[str, ...]:
        return get_args(Reset)

    def extra_repr(self) -> str:
        """Return the neuron's settings, for ``print(network)``."""
        d = self.dynamics
        values = (f"{name}={_shown(value)}" for name, value in self.readings().items())
        per = "" if self.per == "layer" else f", per={self.per!r}"
        floor = "" if d.floor is None else f", floor={d.floor:g}"
        return (
            f"{', '.join(values)}, learn={self.learn}, reset={d.reset!r}, initial={d.initial!r}, "
            f"height={d.height!r}, surrogate={d.surrogate}{per}{floor}"
        )


def checked_floor(floor: float | None) -> float | None:
    """Return the floor of a membrane, in thresholds.

    Raises LeanspikeError for a floor that is not above 0.

    >>> checked_floor(-1.0)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: floor is -1.0; give a number above 0, in thresholds, or None
    """
    number = isinstance(floor, int | float) and not isinstance(floor, bool)
    if floor is None or (number and 0 < floor < math.inf):
        return floor
    raise LeanspikeError(f"floor is {floor!r}; give a number above 0, in thresholds, or None")


def _shown(value: Tensor) -> str:
    low, high = value.min().item(), value.max().item()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
