"""Answers to what a network's code asks of shapes while it is traced, where they are certain.

A graph holds one path. Where code branches, counts or loops on sizes, the graph has the path of the
example's shape. The number of samples must not decide: an SNN counts timesteps among the samples.
Where code branches on the type or the device of a tensor, the graph has the example's path, too.
"""

from __future__ import annotations

import math
import operator
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.graph.modules import called
from leanspike.graph.trial_runs import SAMPLES, TrialRuns
from leanspike.graph.undecided import EachSampleError, SamplesError, UndecidedError

TRIED = (1, 2, 3, 4, 5, 7, 8, 16, 64, 1024)
"""Batch sizes for which an answer must be the same, besides those near numbers in the code."""


TYPES: dict[str, tuple[Any, ...]] = {
    "dtype": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
    "device": tuple(map(torch.device, ("cpu", "cuda", "mps", "xpu"))),
    "is_cuda": (False, True),
}
"""Attributes besides the shape that code asks for, and the values that networks may move to."""


@final
class Sizes:
    """Answers questions about sizes by running the graph traced so far.

    Attributes:
        fixed: whether the shape of the example decided a branch or a loop.
        by_type: the places where its type or device decided, and another might decide otherwise.
        runs: the runs of the graph traced so far, for two batch sizes.
    """

    def __init__(self, root: nn.Module, example_input: Tensor) -> None:
        self.root = root
        self.fixed = False
        self.by_type: dict[str, None] = {}
        self.runs = TrialRuns(root, example_input)

    def rank(self, node: fx.Node) -> int | None:
        """Return the number of axes of a tensor, or None if it is unknown."""
        try:
            return len(self.runs.shape(node, SAMPLES[0]))
        except UndecidedError:
            return None

    def length(self, node: fx.Node) -> int:
        """Return the length of a shape or a list of tensors, or of axis 0 of a tensor.

        Raises EachSampleError if axis 0 of a tensor holds the samples.
        """
        several = [self.runs.value(node, run) for run in range(len(SAMPLES))]
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
        """Return the index of the part of that name in a named tuple, or None."""
        try:
            value = self.runs.value(node, 0)
        except UndecidedError:
            return None
        names: tuple[str, ...] = getattr(type(value), "__match_args__", ())
        return names.index(name) if isinstance(value, tuple) and name in names else None

    def device_type(self, node: fx.Node) -> str | None:
        """Return the device type of a tensor, as "cpu", or None if it is unknown."""
        try:
            return str(self.runs.value(node, 0).device.type)
        except UndecidedError:
            return None

    def ask_device(self, other: object, place: str) -> None:
        """Note that code of the module at ``place`` asks whether a tensor is on such a device."""
        if other in {device.type for device in TYPES["device"]}:
            self.by_type[place] = None

    def decide(self, node: fx.Node, place: str) -> Any:
        """Return a value computed from sizes, if it is the same for each batch size.

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
        """Return the factor between a number and the number of samples.

        The first of several sizes counts, as in ``x.shape``. The factor is 0 for anything that is
        the same for all numbers of samples, or no number. It is None for a number that grows in
        another way.
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
        """Whether an answer would differ for tensors of another type or on another device."""
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
        """Return a value computed from sizes, for ``samples``; ``asked`` gathers its sources."""
        if node in found:
            return found[node]
        if _is_size(node):
            asked.add(node)
            found[node] = _read(node, self.runs.shape(node.args[0], samples))
        elif node.target is getattr and node.args[1] in TYPES:
            asked.add(node)
            found[node] = getattr(self.runs.value(node.all_input_nodes[0], 0), str(node.args[1]))
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
    """Whether a node asks for the channels of the input or a parameter: each call checks those."""
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
    """Return the whole numbers that a node is computed from, with their neighbours, from 1 on."""
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
