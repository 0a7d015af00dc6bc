"""What a network's code asks of shapes while it is traced, answered where the answer is certain.

A graph holds one path. Where code branches, counts or loops on sizes, the path is that of the
example's shape. The number of samples must not decide: later, timesteps are counted among them.
Where it branches on the type or the device of a tensor, the path is that of the example's, too.
"""

from __future__ import annotations

import math
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
from leanspike.modes import eval_mode

SAMPLES = (2, 3)
"""The batches that are run; the sizes for others follow, each a multiple of N and a constant."""

KEPT_BYTES = 2**28
"""Of tensors that are computed for each of these batches."""

TRIED = (1, 2, 3, 4, 5, 7, 8, 16, 64, 1024)
"""Batch sizes for which an answer must be the same, besides those around the code's own numbers."""


TYPES: dict[str, tuple[Any, ...]] = {
    "dtype": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
    "device": tuple(map(torch.device, ("cpu", "cuda", "mps", "xpu"))),
    "is_cuda": (False, True),
}
"""What code asks of a tensor besides its shape, and what networks may be moved to."""


class UndecidedError(Exception):
    """Why there is no answer: what the code asks for, in words."""


class SamplesError(UndecidedError):
    """The answer depends on the number of samples."""

    def __init__(self, asked: str = "the number of samples") -> None:
        super().__init__(asked)


class EachSampleError(SamplesError):
    """A tensor is to be taken apart along the samples."""

    def __init__(self) -> None:
        super().__init__("the samples of a tensor, one by one")


@final
class Sizes:
    """Runs what is traced so far, as far as a question needs it, for two batch sizes.

    Attributes:
        fixed: whether the shape of the example decided something.
        by_type: the places where its type or device decided, and another would otherwise.
        measuring: whether a run is on, whose calls of modules are not to be traced.
        opened: by their paths, layers whose subclass is opened, and what they are.
    """

    def __init__(self, root: nn.Module, example_input: Tensor) -> None:
        self.root = root
        self.fixed = False
        self.by_type: dict[str, None] = {}
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

    def rank(self, node: fx.Node) -> int | None:
        """The number of axes of a tensor; None where that cannot be told."""
        try:
            return len(self._shape(node, SAMPLES[0]))
        except UndecidedError:
            return None

    def length(self, node: fx.Node) -> int:
        """The number of entries of a shape, of a list of tensors, or of axis 0 of a tensor.

        The samples of a tensor are not counted.
        """
        several = [self._value(node, run) for run in range(len(SAMPLES))]
        if all(isinstance(value, Tensor) and value.dim() for value in several):
            if len(several[0]) != len(several[1]):
                raise EachSampleError
        elif not all(isinstance(value, tuple | list) for value in several):
            raise UndecidedError("values")
        count, other = map(len, several)
        if count != other:
            raise SamplesError
        self.fixed |= not isinstance(several[0], torch.Size)
        return count

    def place(self, node: fx.Node, name: str) -> int | None:
        """Where a named tuple holds its part of that name; None for what has none."""
        try:
            value = self._value(node, 0)
        except UndecidedError:
            return None
        names: tuple[str, ...] = getattr(type(value), "__match_args__", ())
        return names.index(name) if isinstance(value, tuple) and name in names else None

    def device_type(self, node: fx.Node) -> str | None:
        """Where a tensor lies, as "cpu"; None where that cannot be told."""
        try:
            return str(self._value(node, 0).device.type)
        except UndecidedError:
            return None

    def ask_device(self, other: object, place: str) -> None:
        """Code of the module at ``place`` asks whether a tensor lies on such a device."""
        if other in {device.type for device in TYPES["device"]}:
            self.by_type[place] = None

    def decide(self, node: fx.Node, place: str) -> Any:
        """The value of what is computed from sizes, if it is the same for each batch size.

        ``place`` is the module whose code asks.
        """
        asked: set[fx.Node] = set()
        numbers = {*TRIED, *_numbers_around(node)}
        answers = [self._compute(node, samples, {}, asked) for samples in sorted(numbers)]
        if any(type(a) is not type(answers[0]) or a != answers[0] for a in answers):
            raise SamplesError
        self.fixed |= any(not _checked_anyway(access) for access in asked if _is_size(access))
        if any(self._otherwise(node, name, asked, answers[0]) for name in TYPES):
            self.by_type[place] = None
        return answers[0]

    def per_sample(self, node: fx.Node) -> int | None:
        """Of a number that is so many times that of the samples how many times.

        Of sizes it is the first that counts, as in ``x.shape``. 0 for what is the same for any
        number of samples, or no number; None for another number.
        """
        tried = sorted({*TRIED, *_numbers_around(node)})
        try:
            values = [self._compute(node, samples, {}, set()) for samples in tried]
        except UndecidedError:
            return 0
        if all(map(_is_sizes, values)):
            if len({tuple(value[1:]) for value in values}) != 1:
                return None
            values = [next(iter(value), 0) for value in values]
        if any(not isinstance(value, int | float) for value in values) or len(set(values)) == 1:
            return 0
        first = values[0]
        times = zip(values, tried, strict=True)
        whole = isinstance(first, int) and all(v == first * n for v, n in times)
        return int(first) if whole else None

    def _otherwise(self, node: fx.Node, name: str, asked: set[fx.Node], answer: Any) -> bool:
        """Whether an answer would be another for tensors of another type, or elsewhere."""
        accesses = [a for a in asked if a.target is getattr and a.args[1] == name]
        values = {access: self._compute(access, SAMPLES[0], {}, set()) for access in accesses}
        moved = [access for access, value in values.items() if value in TYPES[name]]
        try:
            others = [
                self._compute(node, SAMPLES[0], dict.fromkeys(moved, other), set())
                for other in TYPES[name] * bool(moved)
            ]
        except UndecidedError:
            return True
        return any(other != answer for other in others)

    def _compute(
        self, node: fx.Node, samples: int, found: dict[fx.Node, Any], asked: set[fx.Node]
    ) -> Any:
        """What is computed from sizes, for so many samples; ``asked`` gathers what it reads."""
        if node in found:
            return found[node]
        if _is_size(node):
            asked.add(node)
            found[node] = _read(node, self._shape(node.args[0], samples))
        elif node.target is getattr and node.args[1] in TYPES:
            asked.add(node)
            found[node] = getattr(self._value(node.all_input_nodes[0], 0), str(node.args[1]))
        elif node.target is getattr:
            raise UndecidedError(f"the .{node.args[1]} of a tensor")
        elif node.op not in ("call_function", "call_method") or not node.all_input_nodes:
            raise UndecidedError("values")
        else:
            args, kwargs = fx.map_arg(
                (node.args, node.kwargs), lambda n: self._compute(n, samples, found, asked)
            )
            try:
                found[node] = called(node, self.root)(*args, **kwargs)
            except Exception as error:
                raise UndecidedError("values") from error
        return found[node]

    def _shape(self, node: Any, samples: int) -> torch.Size:
        known, first, second = self._known_shapes(node)
        if len(first) != len(second):
            raise SamplesError
        pairs = zip(first, second, strict=True)
        return torch.Size(max(0, a + (b - a) * (samples - known)) for a, b in pairs)

    def _known_shapes(self, node: Any) -> tuple[int, torch.Size, torch.Size]:
        """A number of samples, and the shapes for that and for one more."""
        if node.meta.get("more") is not None:  # what was traced has been run
            return samples_of(node.graph), node.meta["shape"], node.meta["more"]
        first, second = (self._value(node, run) for run in range(len(SAMPLES)))
        if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
            raise UndecidedError("values")
        return SAMPLES[0], first.shape, second.shape

    def _value(self, node: fx.Node, run: int) -> Any:
        """What a node gives for one of the batches; those before it are computed once."""
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


def _is_size(node: fx.Node) -> bool:
    """Whether a node reads sizes of a tensor."""
    if node.target is getattr:
        return bool(node.args[1] == "shape")
    return node.op == "call_method" and node.target in ("size", "numel", "nelement")


def _read(node: fx.Node, shape: torch.Size) -> Any:
    if node.target in ("numel", "nelement"):
        return math.prod(shape)
    if node.target == "size" and (len(node.args) > 1 or node.kwargs):
        axis: Any = node.args[1] if len(node.args) > 1 else node.kwargs["dim"]
        return shape[axis]
    return shape


def _is_sizes(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(part, int) for part in value)


def _checked_anyway(access: fx.Node) -> bool:
    """Whether it asks for the input's channels or a parameter, the same at each call."""
    source = access.args[0]
    assert isinstance(source, fx.Node)
    if source.op == "get_attr":
        return True
    image = source.op == "placeholder"
    if access.target == "size" and len(access.args) > 1:
        return image and bool(access.args[1] == 1)
    readers = [user for user in access.users if user.target is operator.getitem]
    return (
        image and len(readers) == len(access.users) and all(bool(u.args[1] == 1) for u in readers)
    )


def _numbers_around(node: fx.Node) -> set[int]:
    """The whole numbers in what a node is computed from, each with its neighbours, from 1."""
    seen: set[fx.Node] = set()
    numbers: set[int] = set()

    def gather(leaf: Any) -> Any:
        if isinstance(leaf, int) and not isinstance(leaf, bool):
            numbers.update((leaf - 1, leaf, leaf + 1))
        return leaf

    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            fx.node.map_aggregate((current.args, current.kwargs), gather)
            if not _is_size(current):
                waiting += current.all_input_nodes
    return {number for number in numbers if 0 < number < 2**31}
