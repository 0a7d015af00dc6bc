"""What a network returns: one tensor, or tensors in containers of any kind, nested.

A graph holds tuples, lists and dictionaries as they are. Other containers are tuples there, and
:class:`Container` makes them again of those.
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
"""What may stand among the tensors, besides None: it is returned as it is."""


@dataclass(frozen=True)
class Container:
    """A container: its type, the names of its parts, and what those are that are containers, too.

    ``spec`` is PyTorch's word for it, where it has one and needs one.

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
        """Whether a graph holds it, and all that is in it, as it is."""
        alike = self.kind in (tuple, list, dict)
        return alike and all(part is None or part.plain for part in self.parts)

    def restored(self, plain: Any) -> Any:
        """Return the container of such parts as `opened` gives."""
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
    """A value in tuples, lists and dictionaries alone, and what it was; None if no container.

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
    """Whether it is a container of PyTorch's: a named tuple, an OrderedDict, a registered type."""
    return not pytree.tree_structure(value, is_leaf=lambda part: part is not value).is_leaf()


def mapped(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return the same containers, with what the function makes of each tensor; all else stays.

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
    """Return what a network gives to the tracer, opened.

    Raises SurgeryError for what is neither a tensor nor a container nor a plain value.
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
    """Return what an output node reads, where a node that gives several tensors is read one by one.

    ``value`` is what it comes to.
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
