"""The protocol of neurons: modules that take and return their state.

A neuron of your own is one file: a subclass of :class:`Neuron`. Register it under a name if
recipes and saved models are to know it. With the methods of :class:`Calibrated` it lets
`leanspike.calibrate` set its scale.

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
"""The state of neurons: a tensor ``[N, ...]``, or tuples, lists or dictionaries of such."""


@dataclass(frozen=True)
class Cost:
    """The arithmetic of one neuron in one step: multiply-accumulates, and accumulates alone.

    The comparison with a threshold is free, and so is what happens only at a spike.

    >>> Cost(macs=1)
    Cost(macs=1, acs=0)
    """

    macs: float = 0
    acs: float = 0


class Neuron(nn.Module, ABC):
    """A layer of neurons in the place of an activation: ``[T, N, ...]`` in, ``[T, N, ...]`` out.

    It keeps no state: each call begins anew, and :meth:`step` takes and returns the state.
    """

    Config: ClassVar[type[Section]] = Section
    """The options: the keyword arguments by which a registry calls the constructor. An option that
    is also a parameter's name must have a default, since its value is kept in the parameter."""

    pointwise: ClassVar[bool] = False
    """Whether each neuron depends on its own input only, and on no other neuron of the layer. Rate
    gradients need that."""

    remembers: ClassVar[tuple[str, ...]] = ()
    """The names of the state's tensors, in order, for exported files of one step."""

    @abstractmethod
    def initial(self, x_N: Tensor) -> State:
        """Return the state before the first step, for an input like ``x_N`` (samples on axis 0)."""

    @abstractmethod
    def step(self, x_N: Tensor, state: State) -> tuple[Tensor, State]:
        """Compute one timestep (the first if ``state`` is None); return output and next state."""

    def forward(self, x_TN: Tensor) -> Tensor:
        """Return the outputs of all timesteps. Each call starts from the initial state.

        The outputs are joined along the batch, which keeps a channels_last layout.
        """
        state, outputs = self.initial(x_TN[0]), []
        for x_N in x_TN:
            o_N, state = self.step(x_N, state)
            outputs.append(o_N)
        return torch.cat(outputs).view(x_TN.shape)

    def rates(self, x_TN: Tensor, learned: Sequence[str], arrival_T: Tensor | None = None) -> Rates:
        """Return the outputs of all timesteps, and the derivatives of their mean over time.

        The derivatives are by the mean input and by the parameters named in ``learned``. In the
        mean that is differentiated each step has its weight in ``arrival_T``; None: 1 each. It is
        called without gradients, and only if the neuron is ``pointwise``. See
        :mod:`leanspike.neuron.rates`.
        """
        return rates_by_steps(self, x_TN, learned, arrival_T)

    def memory(self, timesteps: int) -> Tensor:
        """Return how much of an input the membrane holds after 0, 1, ... steps, ``[T]`` on a CPU.

        Resets do not count. Rate gradients ask for it, to know at which steps a gradient arrives.
        Unless a subclass overrides this, the membrane holds nothing after the step itself.
        """
        return torch.eye(1, timesteps)[0]

    def behind_norm(
        self,
        x_TN: Tensor,  # noqa: ARG002
        norm: NormScale,  # noqa: ARG002
        learned: tuple[str, ...] | None,  # noqa: ARG002
        arrival_T: Tensor | None = None,  # noqa: ARG002
    ) -> Call | None:
        """Return the call that computes a norm in training and these neurons at once, or None.

        ``x_TN`` enters the norm. With ``learned`` and ``arrival_T``, as in :meth:`rates`, the call
        is for rate gradients, and a backend answers it with
        :class:`leanspike.backends.NormalisedRates`. If ``learned`` is None, it is for all steps,
        and the answer is a :class:`leanspike.backends.Normalised`. If the method returns None, the
        norm runs first, then :meth:`forward`.
        """
        return None

    @abstractmethod
    def spike_height(self) -> Tensor | None:
        """Return the one value of outputs that are not 0, or None if they are graded.

        It is a tensor without axes, or one that broadcasts with ``[N, ...]``.
        """

    @abstractmethod
    def update_cost(self) -> Cost:
        """Return the cost of a neuron in a step, as a mean over the layer."""

    def readings(self) -> dict[str, Tensor]:
        """Return the values that tables and figures show before and after training, by name.

        Each is a tensor without axes, or with a value for each channel or neuron.
        """
        return {}

    @property
    def options(self) -> dict[str, Any]:
        """The options by which its registry builds it again, without the values of parameters.

        Raises LeanspikeError if a subclass has other options and does not return them.
        """
        others = self.Config.model_fields.keys() - dict(self.named_parameters(recurse=False)).keys()
        if others:
            raise LeanspikeError(
                f"{type(self).__name__} does not return its {', '.join(sorted(others))}, so it "
                "cannot be saved; give the class a property options, a dictionary of them"
            )
        return {}

    def sized(self, shape: torch.Size) -> None:
        """Take the shape of one sample's input, without N. The surgery calls this once.

        Parameters for each channel or neuron are made here.
        """

    def keep_in_range(self) -> None:
        """Clamp trained parameters to their range. Called after each step of the optimiser."""

    @property
    def emits(self) -> Literal["spike", "graded"]:
        """The kind of the output's signal, as in the table of operations."""
        return "graded" if self.spike_height() is None else "spike"


@runtime_checkable
class Calibrated(Protocol):
    """A neuron whose scale `leanspike.calibrate` can set.

    >>> from leanspike.neuron import create_neuron
    >>> isinstance(create_neuron("lif"), Calibrated), isinstance(nn.ReLU(), Calibrated)
    (True, False)
    """

    def as_activation(self, x: Tensor) -> Tensor:
        """Return the output of the activation that the neuron stands for."""

    def scale(self) -> Tensor:
        """Return the input at which the neuron spikes at every step: its threshold."""

    def set_scale(self, value: float) -> None:
        """Set the scale of the whole layer."""

    def keeps_scale(self) -> bool:
        """Return whether spikes are as high as the scale, so outputs keep that of activations."""

    def while_measured(self) -> AbstractContextManager[None]:
        """Set the leak to 1 while scales are measured."""


def _config(kind: type) -> type[Section]:
    assert issubclass(kind, Neuron)
    return kind.Config


neurons: Registry[Neuron] = Registry("neuron", "leanspike.neurons", _config)


class NeuronSection(ChosenSection):
    """The section of a neuron: its name, with its options beside it.

    >>> NeuronSection(leak=0.5).name, NeuronSection(leak=0.5).options["leak"]
    ('lif', 0.5)
    """

    registry = neurons

    name: str = "lif"


def create_neuron(name: str, options: dict[str, Any] | None = None) -> Neuron:
    """Return a new neuron of that name, with these options and the defaults of its ``Config``.

    Raises LeanspikeError for an unknown name or option, or a value out of range.

    >>> create_neuron("lif", {"leak": 0.5, "surrogate": {"name": "arctan"}}).leak.item()
    0.5
    """
    return neurons.create(name, options)


def name_of(neuron: Neuron) -> str | None:
    """Return the name under which the neuron's class is registered, or None.

    >>> name_of(create_neuron("lif"))
    'lif'
    """
    return neurons.name_of(type(neuron))
