"""What is traced so far, run for two numbers of samples."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from leanspike.graph.modules import called
from leanspike.graph.opening import demoted
from leanspike.graph.samples import samples_of
from leanspike.graph.undecided import SamplesError, UndecidedError
from leanspike.modes import eval_mode

SAMPLES = (2, 3)
"""The batches that are run; the sizes for others follow, each a multiple of N and a constant."""

KEPT_BYTES = 2**28
"""The most that is kept of tensors computed for each of these batches."""


@final
class TrialRuns:
    """Runs what is traced so far, as far as a question needs it, for two batch sizes.

    Attributes:
        measuring: whether a run is on, whose calls of modules are not to be traced.
        opened: by their paths, layers whose subclass is opened, and what they are.
    """

    def __init__(self, root: nn.Module, example_input: Tensor) -> None:
        self.root = root
        self.measuring = False
        self.opened: dict[str, type[nn.Module]] = {}
        repeated = [1] * (example_input.dim() - 1)
        self._runs: list[tuple[Tensor, dict[fx.Node, Any]]] = [
            (example_input[:1].repeat(n, *repeated), {}) for n in SAMPLES
        ]

    def forget(self) -> None:
        """Let go of what was computed: a graph is traced, and its shapes will be at its nodes."""
        for _, values in self._runs:
            values.clear()

    def shape(self, node: Any, samples: int) -> torch.Size:
        """Return the shape of a node's tensor for so many samples."""
        known, first, second = self._known_shapes(node)
        if len(first) != len(second):
            raise SamplesError
        pairs = zip(first, second, strict=True)
        return torch.Size(max(0, a + (b - a) * (samples - known)) for a, b in pairs)

    def _known_shapes(self, node: Any) -> tuple[int, torch.Size, torch.Size]:
        """A number of samples, and the shapes for that and for one more."""
        if node.meta.get("more") is not None:  # what was traced has been run
            return samples_of(node.graph), node.meta["shape"], node.meta["more"]
        first, second = (self.value(node, run) for run in range(len(SAMPLES)))
        if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
            raise UndecidedError("values")
        return SAMPLES[0], first.shape, second.shape

    def value(self, node: fx.Node, run: int) -> Any:
        """Return what a node gives for one of the batches; those before it are computed once."""
        image, values = self._runs[run]
        if node in values:
            return _restored(values[node])
        waiting, needed = [node], set()
        while waiting:
            current = waiting.pop()
            if current not in needed and current not in values:
                needed.add(current)
                waiting += current.all_input_nodes
        try:
            with self._measured():
                for current in [n for n in node.graph.nodes if n in needed]:
                    values[current] = self._run(current, image, values)
        except Exception as error:
            raise UndecidedError("values") from error
        value = values[node]
        _lighten(values)
        return value

    def _run(self, node: fx.Node, image: Tensor, values: dict[fx.Node, Any]) -> Any:
        if node.op == "placeholder":
            return image.clone()
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: _restored(values[n]))
        if node.op == "call_module":
            module = self.root.get_submodule(str(node.target))
            if node.target in self.opened:
                module = demoted(module, self.opened[str(node.target)])
            with eval_mode(module):
                return module(*args, **kwargs)
        return called(node, self.root)(*args, **kwargs)

    @contextmanager
    def _measured(self) -> Iterator[None]:
        outer, self.measuring = self.measuring, True
        try:
            with torch.no_grad():
                yield
        finally:
            self.measuring = outer


@dataclass(frozen=True)
class _Shape:
    """What is kept of a tensor where memory is short: all but its values, which nobody asks for."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _lighten(values: dict[fx.Node, Any]) -> None:
    """Keep shapes alone of the oldest tensors, where all are more than `KEPT_BYTES`."""
    sizes = {node: _bytes(value) for node, value in values.items()}
    total = sum(sizes.values())
    for node, size in sizes.items():
        if total <= KEPT_BYTES:
            return
        if size:
            values[node] = pytree.tree_map_only(Tensor, _shape_alone, values[node])
            total -= size


def _bytes(value: Any) -> int:
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def _shape_alone(tensor: Tensor) -> _Shape:
    return _Shape(tensor.shape, tensor.stride(), tensor.dtype, tensor.device)


def _restored(value: Any) -> Any:
    """A value with tensors of ones in the place of shapes."""
    return pytree.tree_map_only(
        _Shape,
        lambda one: torch.empty_strided(
            one.shape, one.stride, dtype=one.dtype, device=one.device
        ).fill_(1),
        value,
    )
