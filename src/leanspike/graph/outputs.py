"""The outputs of a network: one tensor, or tensors in nested containers of any kind.

A graph holds tuples, lists and dictionaries as they are. Other containers become tuples in the
graph. :class:`Container` restores them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from leanspike.errors import SurgeryError

KEPT = (bool, int, float, complex, str, torch.dtype, torch.device)
"""Types of values, besides None, that may stand among the tensors and are returned unchanged."""


@dataclass(frozen=True)
class Container:
    """The description of a container: its type, the names of its parts, and containers in it.

    ``spec`` is PyTorch's description of it, if PyTorch knows the type.

    >>> plain, container = opened({"a": 1, "b": (2, 3)})
    >>> container.restored({"a": 5, "b": (6, 7)})
    {'a': 5, 'b': (6, 7)}
    """

    kind: type
    names: tuple[Any, ...]
    parts: tuple[Container | None, ...]
    spec: pytree.TreeSpec | None = None

    @property
    def plain(self) -> bool:
        """Whether a graph holds the container and all in it unchanged."""
        alike = self.kind in (tuple, list, dict)
        return alike and all(part is None or part.plain for part in self.parts)

    def restored(self, plain: Any) -> Any:
        """Return the container again, from parts as `opened` returns them."""
        given = plain.values() if isinstance(plain, dict) else plain
        parts = [
            value if part is None else part.restored(value)
            for part, value in zip(self.parts, given, strict=True)
        ]
        if self.spec is not None:
            return pytree.tree_unflatten(parts, self.spec)
        if self.kind in (tuple, list):
            return self.kind(parts)
        named = dict(zip(self.names, parts, strict=True))
        return named if self.kind is dict else self.kind(**named)


def opened(value: Any) -> tuple[Any, Container | None]:
    """Return a value in tuples, lists and dictionaries only, and the container that it was.

    >>> from collections import OrderedDict
    >>> plain, container = opened(OrderedDict(logits=1, aux=None))
    >>> plain
    (1, None)
    >>> type(container.restored(plain)).__name__
    'OrderedDict'
    """
    names: tuple[Any, ...] = ()
    spec: pytree.TreeSpec | None = None
    if type(value) is dict:
        names, parts = tuple(value), list(value.values())
    elif type(value) in (tuple, list):
        parts = list(value)
    elif is_dataclass(value) and not _is_known(value):
        names = tuple(field.name for field in fields(value) if field.init)
        parts = [getattr(value, name) for name in names]
    elif _is_known(value):
        parts, spec = pytree.tree_flatten(value, is_leaf=lambda part: part is not value)
    else:
        return value, None
    found = [opened(part) for part in parts]
    inner = [plain for plain, _ in found]
    container = Container(type(value), names, tuple(part for _, part in found), spec)
    if type(value) is dict:
        return dict(zip(names, inner, strict=True)), container
    return inner if type(value) is list else tuple(inner), container


def _is_known(value: Any) -> bool:
    """Whether PyTorch knows the container: a named tuple, an OrderedDict, a registered type."""
    return not pytree.tree_structure(value, is_leaf=lambda part: part is not value).is_leaf()


def mapped(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply a function to each tensor in containers, and return the same containers.

    >>> mapped(torch.Tensor.item, (torch.ones(1), [None, torch.zeros(1)]))
    (1.0, [None, 0.0])
    """
    plain, container = opened(value)
    changed = pytree.tree_map_only(Tensor, function, plain)
    return changed if container is None else container.restored(changed)


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in containers, in order.

    >>> tensors({"logits": torch.ones(1), "step": 3})
    [tensor([1.])]
    """
    return [leaf for leaf in pytree.tree_leaves(opened(value)[0]) if isinstance(leaf, Tensor)]


def returned(value: Any) -> tuple[Any, Container | None]:
    """Return what a network returns to the tracer, opened.

    Raises SurgeryError for anything but tensors, containers and plain values.
    """
    plain, container = opened(value)
    for leaf in pytree.tree_leaves(plain):
        if not (leaf is None or isinstance(leaf, (fx.Proxy, Tensor, *KEPT))):
            raise SurgeryError(
                f"the network returns a {type(leaf).__name__}; return tensors, alone or in tuples, "
                "lists, dictionaries, named tuples or dataclasses"
            )
    return plain, container


def each_tensor(argument: Any, value: Any) -> Any:
    """Return an output node's argument, with nodes of several tensors split into single tensors.

    ``value`` is the value of the argument.
    """
    if not isinstance(argument, fx.Node):
        if isinstance(argument, dict):
            return {name: each_tensor(part, value[name]) for name, part in argument.items()}
        if isinstance(argument, tuple | list):
            pairs = zip(argument, value, strict=True)
            return type(argument)([each_tensor(part, known) for part, known in pairs])
        return argument
    if isinstance(value, torch.Size) or not isinstance(value, Mapping | tuple | list):
        return argument
    names = list(value) if isinstance(value, Mapping) else range(len(value))
    parts = [each_tensor(_entry(argument, name, value[name]), value[name]) for name in names]
    if type(value) is dict:
        return dict(zip(names, parts, strict=True))
    return parts if type(value) is list else tuple(parts)


def _entry(node: fx.Node, name: Any, value: Any) -> fx.Node:
    with node.graph.inserting_before(node.graph.output_node()):
        entry = node.graph.call_function(operator.getitem, (node, name))
    entry.meta["shape"] = value.shape if isinstance(value, Tensor) else None
    return entry
