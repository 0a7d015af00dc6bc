"""Trial runs of the graph traced so far, for two numbers of samples."""

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
"""The batch sizes that are run. Sizes for others follow: they are linear in the batch size."""

KEPT_BYTES = 2**28
"""The most bytes that tensors computed for each of these batches may keep."""


@final
class TrialRuns:
    """Runs the graph traced so far for two batch sizes, as far as a question needs it.

    Attributes:
        measuring: whether a trial run is under way. Its calls of modules must not be traced.
        opened: the types of layers whose subclass was opened, by their paths.
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
        """Free what was computed. After tracing, shapes are noted at the nodes."""
        for _, values in self._runs:
            values.clear()

    def shape(self, node: Any, samples: int) -> torch.Size:
        """Return the shape of a node's tensor for a number of samples."""
        known, first, second = self._known_shapes(node)
        if len(first) != len(second):
            raise SamplesError
        pairs = zip(first, second, strict=True)
        return torch.Size(max(0, a + (b - a) * (samples - known)) for a, b in pairs)

    def _known_shapes(self, node: Any) -> tuple[int, torch.Size, torch.Size]:
        """Return a number of samples, and the shapes for that number and for one more."""
        if node.meta.get("more") is not None:  # the traced graph has been run
            return samples_of(node.graph), node.meta["shape"], node.meta["more"]
        first, second = (self.value(node, run) for run in range(len(SAMPLES)))
        if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
            raise UndecidedError("values")
        return SAMPLES[0], first.shape, second.shape

    def value(self, node: fx.Node, run: int) -> Any:
        """Return a node's value for one of the batches. Each node is computed once."""
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
    """A tensor without its values, kept where memory is short. Questions ask for shapes only."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _lighten(values: dict[fx.Node, Any]) -> None:
    """Keep only the shapes of the oldest tensors if all take more than `KEPT_BYTES`."""
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
    """Return a value with tensors of ones in the place of shapes."""
    return pytree.tree_map_only(
        _Shape,
        lambda one: torch.empty_strided(
            one.shape, one.stride, dtype=one.dtype, device=one.device
        ).fill_(1),
        value,
    )
