"""The places of calls: the module whose forward makes a call, and paths for calls without one."""

from __future__ import annotations

from collections import Counter

from torch import fx

from leanspike.graph.signal import name_of


def owner(node: fx.Node) -> str:
    """Return the path of the module whose forward makes the call ("" for the network itself)."""
    stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    if node.op == "call_module":
        stack = stack[:-1]
    return stack[-1] if stack else ""


def where(node: fx.Node) -> str:
    """Return a call's name for errors: the module's path, or the function and the owner's path."""
    if node.op == "call_module":
        return f"module {node.target}"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")
    return f"{name} in {owner(node) or 'the network itself'}"


def names_of_calls(nodes: list[fx.Node], stem: str) -> dict[fx.Node, str]:
    """Return a path for each call: the module's if called once, else owner, stem and order."""
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    counts: Counter[str] = Counter()
    names = {}
    for node in nodes:
        if node.op == "call_module" and calls[node.target] == 1:
            names[node] = str(node.target)
            continue
        place = owner(node)
        names[node] = f"{place}.{stem}_{counts[place]}".lstrip(".")
        counts[place] += 1
    return names


def places_of_functions(nodes: list[fx.Node]) -> dict[fx.Node, str]:
    """Return a path for each call of a function or method: owner, name, and number if several."""
    found: dict[str, list[fx.Node]] = {}
    for node in nodes:
        if node.op in ("call_function", "call_method"):
            found.setdefault(f"{owner(node)}.{name_of(node)}".lstrip("."), []).append(node)
    return {
        node: place if len(group) == 1 else f"{place}_{number}"
        for place, group in found.items()
        for number, node in enumerate(group)
    }
