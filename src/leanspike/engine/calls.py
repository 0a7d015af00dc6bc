"""A call in the graph of a step, as the engine sees it: what it reads, and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from leanspike.engine.moves import Scattered
from leanspike.engine.values import Value
from leanspike.errors import LeanspikeError
from leanspike.graph.modules import called, submodule

Signal = Value | Scattered


@dataclass(frozen=True)
class Same:
    """A value that is no signal (parameter, number or size): one for all steps or one for each."""

    each: tuple[Any, ...]

    def at(self, step: int) -> Any:
        """Return the value at a step."""
        return self.each[step if len(self.each) > 1 else 0]


@dataclass(frozen=True)
class Called:
    """A node, with the values of the nodes before it."""

    node: fx.Node
    root: nn.Module
    found: Mapping[fx.Node, Any]
    timesteps: int

    @property
    def path(self) -> str:
        """The module's path, or the owner's path and the function."""
        return str(self.node.meta.get("place") or self.node.target)

    @property
    def module(self) -> nn.Module | None:
        """The called module, or None if a function is called."""
        return submodule(self.root, self.node)

    @property
    def signals(self) -> list[Signal]:
        """The inputs that depend on the samples, in order; one given twice counts twice."""
        read: list[Signal] = []

        def note(source: fx.Node) -> None:
            held = self.found[source]
            parts = held if isinstance(held, tuple) else (held,)
            read.extend(part for part in parts if isinstance(part, Value | Scattered))

        fx.node.map_arg((self.node.args, self.node.kwargs), note)
        return read

    @property
    def steps(self) -> range:
        """One step, or all steps if the call may differ between steps."""
        held = [self.found[source] for source in self.node.all_input_nodes]
        several = any(isinstance(value, Same) and len(value.each) > 1 for value in held)
        return range(self.timesteps if several else 1)

    def constant(self) -> Same:
        """Return the result at each step, for a call that needs only the shapes of signals."""
        call = called(self.node, self.root)

        def held(step: int) -> Callable[[fx.Node], Any]:
            def value(source: fx.Node) -> Any:
                read = self.found[source]
                if isinstance(read, Value | Scattered):
                    return torch.zeros(1, *read.shape)
                return read.at(step) if isinstance(read, Same) else read

            return value

        try:
            return Same(tuple(self._with(call, held(step)) for step in self.steps))
        except IndexError:
            self.refuse(
                f"has no row for each of {self.timesteps} steps",
                "give timesteps the number that the network was made for",
            )

    def run(self, step: int = 0) -> Callable[[Sequence[Tensor]], Any]:
        """Return the call as a function of its signals, in float64."""
        call = called(self.node, self.root)
        call = deepcopy(call).double() if isinstance(call, nn.Module) else call

        def run(tensors: Sequence[Tensor]) -> Any:
            left = iter(tensors)

            def value(source: fx.Node) -> Any:
                held = self.found[source]
                if isinstance(held, tuple):
                    return tuple(next(left) for _ in held)
                signal = isinstance(held, Value | Scattered)
                return next(left) if signal else _double(held.at(step))

            return self._with(call, value)

        return run

    def number(self, argument: Any) -> Any:
        """Return the value of an argument that is no signal and the same at each step."""
        held = self.found[argument] if isinstance(argument, fx.Node) else Same((argument,))
        return held.at(0) if isinstance(held, Same) and len(held.each) == 1 else held

    def refuse(self, why: str, fix: str) -> NoReturn:
        """Raise LeanspikeError with the place, the reason and the way out."""
        raise LeanspikeError(f"{self.path} {why}; {fix}")

    def _with(self, call: Callable[..., Any], value: Callable[[fx.Node], Any]) -> Any:
        args: Any = fx.node.map_arg(self.node.args, value)
        named: Any = fx.node.map_arg(self.node.kwargs, value)
        return call(*args, **named)


def _double(value: Any) -> Any:
    """Return a floating-point tensor in float64, and any other value as it is."""
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.detach().double() if floating else value
