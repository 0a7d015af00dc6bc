"""Rules for gates, clamps and comparisons, which may be activations. Only the user can know."""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn

from torch import fx

from leanspike.graph import rules
from leanspike.graph.costs import signal_nodes
from leanspike.graph.signal import Call, Kind, name_of

OWN = "a module of your own, as class Act, and name it: activations=(Act,)"

FIXED = ("zeros_like", "ones_like", "full_like", "zeros", "ones", "full", "new_zeros", "new_ones")
"""Functions and methods whose result is the same for each sample."""
ARITHMETIC = ("add", "sub", "mul", "truediv", "div", "neg", "abs")
CASTS = ("float", "to", "type_as", "type", "double", "half")

# -- what leaves -------------------------------------------------------------------------------


def extreme(call: Call) -> Kind | None:
    """Return the kind of an extremum: "analog" for two signals, a maximum's along an axis."""
    return rules.analog(call) if _operands(call) else rules.maximum(call)


# -- what must not be --------------------------------------------------------------------------


def gate(call: Call) -> None:
    """Refuse a sigmoid or the like: it may belong to an activation, a gate or the output."""
    name, code = call.name_of_op
    products = [user for user in call.node.users if multiplies(user)]
    of_itself = any(call.node.all_input_nodes[0] in user.all_input_nodes for user in products)
    if call.whole is not None:
        _refuse_whole(call, call.whole.name)
    if of_itself:
        call.refuse(
            f"{name} and the product with its own input are an activation, but no ReLU",
            "write it as a module of your own, as class Swish, and name it: activations=(Swish,)",
        )
    keep = f"keep it with ops={{{code}: 'analog'}}"
    if call.node.meta.get("use") is not None:
        call.refuse(f"{name} is {_use(call)}, which no neuron can replace", keep)
    call.refuse(
        f"{name} is not a ReLU, and a spiking neuron computes something else",
        f"train the network with nn.ReLU, or replace it too with activations=({code},); {keep} "
        "if it is a gate or an output",
    )


def other(call: Call) -> None:
    """Refuse an activation other than ReLU. It becomes a neuron only if the user names it."""
    name, code = call.name_of_op
    if call.whole is not None and not call.whole.alone:
        _refuse_whole(call, call.whole.name)
    call.refuse(
        f"{name} is not a ReLU, and a spiking neuron computes something else",
        f"train the network with nn.ReLU, or replace it too with activations=({code},)",
    )


def in_disguise(call: Call) -> None:
    """Refuse a clamp or a rounding, since activations are made of these."""
    name, code = call.name_of_op
    _refuse_part(call)
    call.refuse(
        f"a {name} may be an activation in disguise",
        f"write nn.ReLU for clamp(min=0), or replace it too with activations=({code},); else keep "
        f"it with ops={{{code}: 'analog'}}",
    )


def extremum(call: Call) -> None:
    """Refuse max and min along axis 0, and those that may be an activation, as a clamp."""
    if not _operands(call):
        call.check_axes(call.argument(1, "dim"))
        return
    name, code = call.name_of_op
    signals = varying(call.node)
    alone = len(signals) == 1
    if not alone and not (signals and _computed_of_another(signals)):
        return
    _refuse_part(call)
    relu = f"write nn.ReLU for {name}(x, 0), or " * ("max" in name)
    keep = f"else keep it with ops={{{code}: 'analog'}}"
    if alone:
        call.refuse(
            f"{name} with a constant may be an activation in disguise",
            f"{relu}replace it too with activations=({code},); {keep}",
        )
    call.refuse(
        f"{name} of one signal in two forms may be an activation", f"write it as {OWN}; {keep}"
    )


def compared(call: Call) -> None:
    """Refuse a comparison of a signal: what it selects may be a ReLU."""
    if not varying(call.node):
        return
    name, code = call.name_of_op
    _refuse_part(call)
    way = f"write nn.ReLU for x * (x > 0) and torch.where(x > 0, x, 0), or write it as {OWN}"
    if _selects_of_its_own(call.node, call.node.all_input_nodes):
        call.refuse(
            f"a comparison ({name}) selects entries of its own input, as an activation does", way
        )
    call.refuse(
        f"{name} compares a signal, which may be a part of an activation in disguise",
        f"{way}; else keep it with ops={{{code}: 'analog'}}",
    )


def varying(node: fx.Node) -> list[fx.Node]:
    """Return the input signals of a call that differ between samples."""
    return [source for source in signal_nodes(node) if name_of(source) not in FIXED]


def _selects_of_its_own(node: fx.Node, compared: Collection[fx.Node]) -> bool:
    return any(
        set(compared) & (set(user.all_input_nodes) - {node})
        or (name_of(user) in CASTS and _selects_of_its_own(user, compared))
        for user in node.users
    )


def _refuse_part(call: Call) -> None:
    if call.whole is None:
        return
    whole = call.whole.name
    call.refuse(
        f"{call.name_of_op[0]} is a part of {whole}, which is no nn.ReLU",
        f"if {whole} is an activation, replace it with activations=({whole},); else keep it "
        f"with ops={{{whole}: 'analog'}}",
    )


def _refuse_whole(call: Call, whole: str) -> NoReturn:
    """Refuse a call within a module that may be an activation itself."""
    call.refuse(
        f"{call.name_of_op[0]} is all or a part of {whole}, which is no ReLU",
        f"if {whole} is an activation, replace it with activations=({whole},); keep a gate or "
        f"an output with ops={{{whole}: 'analog'}}",
    )


def _use(call: Call) -> str:
    return "a gate" if call.node.meta["use"] == "gate" else "an output"


def multiplies(node: fx.Node) -> bool:
    """Return whether a call is a product of entries."""
    return node.op != "call_module" and name_of(node) in ("mul", "imul", "mul_")


def _operands(call: Call) -> list[fx.Node]:
    """Return the two tensors of ``torch.max(x, y)``; [] for ``torch.max(x, dim)``."""
    nodes = [value for value in call.operands() if isinstance(value, fx.Node)]
    given = [node for node in nodes if node.meta.get("shape") is not None]
    return given if len(given) == 2 else []


def _computed_of_another(signals: list[fx.Node]) -> bool:
    """Whether one of these signals is an arithmetic function of another, or the same signal."""
    arithmetic = [s for s in signals if name_of(s) in ARITHMETIC]
    of_another = any(set(s.all_input_nodes) & set(signals) for s in arithmetic)
    return of_another or len(set(signals)) < len(signals)
