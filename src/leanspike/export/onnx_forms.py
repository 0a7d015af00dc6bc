"""The two forms of an ONNX file: how each is made, and how it is compared with the network.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from leanspike.execute import SpikingNetwork
from leanspike.execute.answers import readout
from leanspike.export.onnx_model import Names, converted, traced
from leanspike.export.onnx_proof import ONNXProof, Ours, Session, compared, observed
from leanspike.export.traceable import OneStep, WholeSequence

TRACED = 2
"""The number of samples in the trace. A batch of 1 could hide in shapes."""


class Form(ABC):
    """A form of a network in a file, which can make and run such a file."""

    name: ClassVar[str]

    def __init__(self, snn: SpikingNetwork, timesteps: int, batch: int | None) -> None:
        self.snn, self.timesteps, self.batch = snn, timesteps, batch
        self.encoder = snn.plan.encoder
        self.spikes = {path: f"{path}.spikes" for path, _ in snn.neurons()}
        self.samples = batch or TRACED

    def example(self, samples: int) -> Tensor:
        """Return random input as for a call, in the range of the calibration's images."""
        steps = (self.timesteps,) if self.encoder.batch_axis == 1 else ()
        shape, generator = self.snn.plan.sample_shape, torch.Generator().manual_seed(0)
        x = torch.rand(*steps, samples, *shape, generator=generator)
        low, high = self.snn.input_range or (-1.0, 1.0)
        return low + (high - low) * x

    def free(self, axis: int, times: int = 1) -> dict[int, Any]:
        """Return the samples' axis for the exporter, or nothing if N is fixed."""
        number = torch.export.Dim("samples", min=1)  # sympy takes N for a function
        return {} if self.batch is not None else {axis: number if times == 1 else number * times}

    @abstractmethod
    def model(self) -> tuple[Any, Names]:
        """Return the model with spikes as further outputs, and the names of its parts."""

    @abstractmethod
    def prove(self, full: bytes, file: bytes, x: Tensor) -> ONNXProof:
        """Compare the file's answers, and the spikes of the same model, with the network's."""


@final
class SequenceForm(Form):
    """The form with all timesteps."""

    name = "whole_sequence"

    def __init__(
        self,
        snn: SpikingNetwork,
        timesteps: int,
        batch: int | None,
        mode: Literal["sum", "mean"],
    ) -> None:
        super().__init__(snn, timesteps, batch)
        self.mode = mode

    def model(self) -> tuple[Any, Names]:
        """Return the model with spikes as further outputs, and the names of its parts."""
        network = WholeSequence(self.snn, self.timesteps, self.mode)
        axis = self.encoder.batch_axis
        program = traced(network, (self.example(self.samples),), (self.free(axis),))
        names = Names(["input"], network.seen.outputs, list(self.spikes.values()), axis)
        return converted(program, names), names

    def prove(self, full: bytes, file: bytes, x: Tensor) -> ONNXProof:
        """Compare the file's answers, and the spikes of the same model, with the network's."""
        ours = observed(self.snn, x, self.timesteps)
        ours = Ours(ours.spikes, [readout(y_TN, self.mode) for y_TN in ours.answers])
        found = Session(full).run({"input": x})
        spikes = {path: found[name] for path, name in self.spikes.items()}
        return compared(ours, list(Session(file).run({"input": x}).values()), spikes)


@final
class StepForm(Form):
    """The form with one timestep and the state outside."""

    name = "one_step"

    def model(self) -> tuple[Any, Names]:
        """Return the model with spikes as further outputs, and the names of its parts."""
        x_N = self._inputs(self.example(self.samples), 0)
        self.network = network = OneStep(self.snn, x_N)
        state_shapes = [self.free(0, len(state) // self.samples) for state in network.states]
        arguments = x_N, torch.tensor(0), network.states
        program = traced(network, arguments, (self.free(0), None, state_shapes))
        after = [f"{name}.next" for name in network.state_names]
        names = Names(
            ["input", "step", *network.state_names],
            [*network.seen.outputs, *after],
            list(self.spikes.values()),
            0,
        )
        return converted(program, names), names

    def prove(self, full: bytes, file: bytes, x: Tensor) -> ONNXProof:
        """Compare the file's outputs, and the spikes of the same model, with the network's."""
        ours = observed(self.snn, x, self.timesteps)
        steps = self._stream(Session(full), x)
        spikes = {
            path: torch.stack([found[name] for found in steps])
            for path, name in self.spikes.items()
        }
        steps = self._stream(Session(file), x)
        names = [name for name in steps[0] if name.partition(".")[0] == "output"]
        answers = [torch.stack([found[name] for found in steps]) for name in names]
        return compared(ours, answers[: len(ours.answers)], spikes)

    def _stream(self, session: Session, x: Tensor) -> list[dict[str, Tensor]]:
        """Return the outputs of every step, with the states passed from step to step."""
        times = x.shape[self.encoder.batch_axis] / self.samples
        states = {
            name: state.new_zeros(round(len(state) * times), *state.shape[1:])
            for name, state in zip(self.network.state_names, self.network.states, strict=True)
        }
        steps = []
        for step in range(self.timesteps):
            given = {"input": self._inputs(x, step), "step": torch.tensor(step), **states}
            steps.append(session.run(given))
            states = {name: steps[-1][f"{name}.next"] for name in states}
        return steps

    def _inputs(self, x: Tensor, step: int) -> Tensor:
        """Return the network's input at a step, from an input as for a call."""
        return x[step] if self.encoder.batch_axis == 1 else self.encoder.step(x, step)
