"""Where a call stands: the module in whose forward it is, and names for calls that have none."""

from __future__ import annotations

from collections import Counter

from torch import fx

from leanspike.graph.signal import name_of


def owner(node: fx.Node) -> str:
    """The path of the module in whose forward the call stands ("" for the network itself)."""
    stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    if node.op == "call_module":
        stack = stack[:-1]
    return stack[-1] if stack else ""


def where(node: fx.Node) -> str:
    """Return how an error names a call: the module's path, or the owner's path and the function."""
    if node.op == "call_module":
        return f"module {node.target}"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")
    return f"{name} in {owner(node) or 'the network itself'}"


def names_of_calls(nodes: list[fx.Node], stem: str) -> dict[fx.Node, str]:
    """A path for each call: the module's own if called once, else owner, stem and call order."""
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
    """A path for each call of a function or method: owner and name, numbered if there are more."""
    found: dict[str, list[fx.Node]] = {}
    for node in nodes:
        if node.op in ("call_function", "call_method"):
            found.setdefault(f"{owner(node)}.{name_of(node)}".lstrip("."), []).append(node)
    return {
        node: place if len(group) == 1 else f"{place}_{number}"
        for place, group in found.items()
        for number, node in enumerate(group)
    }
