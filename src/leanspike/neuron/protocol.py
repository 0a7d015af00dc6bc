"""What a neuron is to the rest of leanspike: a module with a state that it hands on itself.

A neuron of your own is one file: a subclass of :class:`Neuron`. It is registered under a name if
recipes and saved models are to know it. Its methods say what else it can do: the methods of
:class:`Calibrated` let `leanspike.calibrate` set its scale.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from leanspike.backends import Call, NormScale, Rates
from leanspike.errors import LeanspikeError
from leanspike.neuron.rates import rates_by_steps
from leanspike.registry import ChosenSection, Registry
from leanspike.section import Section

State = Any
"""What a neuron remembers: a tensor ``[N, ...]``, or tuples, lists or dictionaries of such."""


@dataclass(frozen=True)
class Cost:
    """Arithmetic of one neuron in one step: multiply-accumulates, and additions alone.

    The comparison with a threshold is free, and so is what only a spike changes.

    >>> Cost(macs=1)
    Cost(macs=1, acs=0)
    """

    macs: float = 0
    acs: float = 0


class Neuron(nn.Module, ABC):
    """What stands where an activation stood: ``[T, N, ...]`` in, ``[T, N, ...]`` out.

    It keeps no state: a call begins anew each time, and :meth:`step` hands the state on.
    """

    Config: ClassVar[type[Section]] = Section
    """Its options: the keyword arguments of its constructor by which a registry builds it. An
    option that is also the name of a parameter has a default, as its value is the parameter's."""

    pointwise: ClassVar[bool] = False
    """Whether each neuron hears its own input alone, and no other neuron of the layer. Rate
    gradients ask for it."""

    remembers: ClassVar[tuple[str, ...]] = ()
    """What the tensors of its state are called, in order, where a file of one step names them."""

    @abstractmethod
    def initial(self, x_N: Tensor) -> State:
        """Return the state before the first step, for an input like this: samples along axis 0."""

    @abstractmethod
    def step(self, x_N: Tensor, state: State) -> tuple[Tensor, State]:
        """One timestep: the input and the state (None at the first) to the output and the next."""

    def forward(self, x_TN: Tensor) -> Tensor:
        """Return the outputs of all timesteps, from the same start at every call.

        They are put together along the batch, which keeps a channels_last layout.
        """
        state, outputs = self.initial(x_TN[0]), []
        for x_N in x_TN:
            o_N, state = self.step(x_N, state)
            outputs.append(o_N)
        return torch.cat(outputs).view(x_TN.shape)

    def rates(self, x_TN: Tensor, learned: Sequence[str]) -> Rates:
        """Return the outputs of all timesteps, and how their mean over time follows the mean input.

        Called without gradients, of a neuron that is ``pointwise``. ``learned``: the parameters by
        which it is differentiated, too. See :mod:`leanspike.neuron.rates`.
        """
        return rates_by_steps(self, x_TN, learned)

    def behind_norm(
        self,
        x_TN: Tensor,  # noqa: ARG002
        norm: NormScale,  # noqa: ARG002
        learned: tuple[str, ...] | None,  # noqa: ARG002
    ) -> Call | None:
        """What backends are asked for, to compute a norm in training and these neurons at once.

        ``x_TN`` enters the norm; ``learned``: for rate gradients, as :meth:`rates` has it; None:
        for all steps. The answer is a :class:`leanspike.backends.Normalised`, or a
        :class:`leanspike.backends.NormalisedRates`. None: there is no such call, so the norm runs
        first, then :meth:`forward`.
        """
        return None

    @abstractmethod
    def spike_height(self) -> Tensor | None:
        """What every output that is not 0 is; None where that differs: its outputs are graded.

        A tensor without axes, or one that goes with ``[N, ...]``.
        """

    @abstractmethod
    def update_cost(self) -> Cost:
        """Return what a step costs, for each neuron, on the mean of the layer."""

    def readings(self) -> dict[str, Tensor]:
        """Return what tables and figures show of it, by name, before and after training.

        Each a tensor without axes, or with a value for each channel or neuron.
        """
        return {}

    @property
    def options(self) -> dict[str, Any]:
        """The options by which its registry builds it again, but for what its parameters hold.

        Raises LeanspikeError where a subclass has others and does not say them.
        """
        others = self.Config.model_fields.keys() - dict(self.named_parameters(recurse=False)).keys()
        if others:
            raise LeanspikeError(
                f"{type(self).__name__} does not say what its {', '.join(sorted(others))} were, so "
                "it cannot be saved; give the class a property options, a dictionary of them"
            )
        return {}

    def sized(self, shape: torch.Size) -> None:
        """Take the shape of one sample's input, without N: called once, at a place in a network.

        A neuron with parameters for each channel or neuron makes them now.
        """

    def keep_in_range(self) -> None:
        """Put trained parameters back into their range; called after each optimiser step."""

    @property
    def emits(self) -> Literal["spike", "graded"]:
        """The kind of signal, as the table of operations has it."""
        return "graded" if self.spike_height() is None else "spike"


@runtime_checkable
class Calibrated(Protocol):
    """A neuron whose scale `leanspike.calibrate` can set, by what the ANN's activation would do.

    >>> from leanspike.neuron import create_neuron
    >>> isinstance(create_neuron("lif"), Calibrated), isinstance(nn.ReLU(), Calibrated)
    (True, False)
    """

    def as_activation(self, x: Tensor) -> Tensor:
        """Return what the activation that it stands for gives."""

    def scale(self) -> Tensor:
        """Return the input that makes it spike at every step: its threshold."""

    def set_scale(self, value: float) -> None:
        """Make that so much, for the whole layer."""

    def keeps_scale(self) -> bool:
        """Whether its outputs have the scale of the activation's: spikes as high as the scale."""

    def while_measured(self) -> AbstractContextManager[None]:
        """While scales are measured: nothing leaks."""


def _config(kind: type) -> type[Section]:
    assert issubclass(kind, Neuron)
    return kind.Config


neurons: Registry[Neuron] = Registry("neuron", "leanspike.neurons", _config)


class NeuronSection(ChosenSection):
    """A neuron by its name, and its options beside it.

    >>> NeuronSection(leak=0.5).name, NeuronSection(leak=0.5).options["leak"]
    ('lif', 0.5)
    """

    registry = neurons

    name: str = "lif"


def create_neuron(name: str, options: dict[str, Any] | None = None) -> Neuron:
    """Return the neuron of that name, with these options and the defaults of its ``Config``.

    Raises LeanspikeError for a name or an option that is not known, or a value out of range.

    >>> create_neuron("lif", {"leak": 0.5, "surrogate": {"name": "arctan"}}).leak.item()
    0.5
    """
    return neurons.create(name, options)


def name_of(neuron: Neuron) -> str | None:
    """Under which name its class is registered; None if it is not.

    >>> name_of(create_neuron("lif"))
    'lif'
    """
    return neurons.name_of(type(neuron))
