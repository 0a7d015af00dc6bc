"""Graphs with the modules that they call. Several graphs may share one tree of modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from leanspike.graph.ops import Signal


def submodule(root: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, or None if it calls none.

    >>> graph = fx.Graph()
    >>> called = graph.call_module("0", (graph.placeholder("x"),))
    >>> submodule(nn.Sequential(nn.Identity()), called)
    Identity()
    """
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def called(node: fx.Node, root: nn.Module) -> Any:
    """Return the callable of a node, as a function of the node's arguments."""
    if node.op == "call_module":
        return root.get_submodule(str(node.target))
    if node.op == "call_method":
        name = str(node.target)
        return lambda x, *rest, **named: getattr(x, name)(*rest, **named)
    return node.target


def neuron_nodes(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that call neurons or what else replaces an activation, in order."""
    return [node for node in graph.nodes if node.op == "call_module" and node.meta.get("neuron")]


def as_module(root: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """Return a graph as a module that shares modules, parameters and buffers with ``root``.

    A module that is later put into one of them, or moved, is changed in the other, too.

    >>> root, graph = nn.Sequential(nn.Linear(2, 3)), fx.Graph()
    >>> _ = graph.output(graph.call_module("0", (graph.placeholder("x"),)))
    >>> module = as_module(root, graph)
    >>> root[0] = nn.Linear(2, 4)
    >>> module.get_submodule("0").out_features
    4
    """
    for node in graph.nodes:
        if node.op == "get_attr":
            _register_constant(root, str(node.target))
    module = fx.GraphModule(root, graph, class_name="Graph")
    share(root, module)
    return module


def put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path, and keep the children of the module that it replaces.

    So a norm that holds its activation can be replaced without losing the activation.

    >>> norm = nn.BatchNorm1d(3)
    >>> norm.act = nn.ReLU()
    >>> root = nn.Sequential(norm)
    >>> put(root, "0", nn.Identity())
    >>> root.get_submodule("0.act")
    ReLU()
    """
    for name, child in root.get_submodule(path)._modules.items():
        module.add_module(name, child)
    root.set_submodule(path, module)


def own_state(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the module itself, without those of its children."""
    return {name: value for name, value in state_dict.items() if "." not in name}


def share(root: nn.Module, other: nn.Module) -> None:
    """Give ``other`` the same dictionaries of modules, parameters and buffers as ``root``."""
    names = ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")
    vars(other).update({name: vars(root)[name] for name in names})


def _register_constant(root: nn.Module, target: str) -> None:
    """Register a tensor that the tracer made of a constant in a forward as a buffer."""
    value = vars(root).get(target)
    if value is not None and not isinstance(value, nn.Module):
        delattr(root, target)
        root.register_buffer(target, value, persistent=False)


def copied_tree(module: nn.Module, called: set[int], made: dict[int, nn.Module]) -> nn.Module:
    """Copy the tree of modules, but not the called ones: their ids are in ``called``."""
    inner = (part for child in module.children() for part in child.modules())
    if id(module) in called and not any(id(part) in called for part in inner):
        return module
    if id(module) not in made:
        bare = nn.Module() if isinstance(module, fx.GraphModule) else _bare(module)
        twin = made[id(module)] = bare
        parts = vars(twin)
        parts["_parameters"] = dict(module._parameters)
        parts["_buffers"] = dict(module._buffers)
        parts["_non_persistent_buffers_set"] = set(module._non_persistent_buffers_set)
        parts["training"] = module.training
        parts["_modules"] = {
            name: child and copied_tree(child, called, made)
            for name, child in module._modules.items()
        }
    return made[id(module)]


def _bare(module: nn.Module) -> nn.Module:
    twin = object.__new__(type(module))
    vars(twin).update(vars(module))
    return twin


def is_static(node: fx.Node) -> bool:
    """Return whether the result of a node is the same at each step."""
    signal: Signal | None = node.meta.get("signal")
    return node.op not in ("placeholder", "output") and signal is not None and not signal.timed
