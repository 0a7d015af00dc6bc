"""Activations in disguise: gates, clamps, rounding. What they are only the user can know."""

from __future__ import annotations

from typing import NoReturn

from torch import fx

from leanspike.graph.signal import Call


def gate(call: Call) -> None:
    """A sigmoid or the like: of an activation, a gate, or the output. Only the user can know."""
    name, code = call.name_of_op
    whole = call.of_activation
    products = [user for user in call.node.users if multiplies(user)]
    of_itself = any(call.node.all_input_nodes[0] in user.all_input_nodes for user in products)
    if whole is None and of_itself:
        call.refuse(
            f"{name} and the product with its own input are an activation, and no ReLU",
            "write it as a module of your own, as class Swish, and name it: activations=(Swish,)",
        )
    if whole is not None:
        _refuse_whole(call, whole)
    use = "a gate" if products else "an output" if _leaves(call.node) else None
    keep = f"keep it with ops={{{code}: 'analog'}}"
    if use is not None:
        call.refuse(f"{name} is {use}, which a neuron cannot stand for", keep)
    call.refuse(
        f"{name} is not a ReLU, and a spiking neuron computes something else",
        f"train the network with nn.ReLU, or replace it too with activations=({code},); {keep} "
        "if it is a gate or an output",
    )


def other(call: Call) -> None:
    """An activation that leaves negative or graded values: it becomes a neuron only if told."""
    name, code = call.name_of_op
    whole = None if call.module is not None or call.alone else call.of_activation
    if whole is not None:
        _refuse_whole(call, whole)
    call.refuse(
        f"{name} is not a ReLU, and a spiking neuron computes something else",
        f"train the network with nn.ReLU, or replace it too with activations=({code},)",
    )


def in_disguise(call: Call) -> None:
    """A clamp, or rounding, which activations are made of."""
    name, code = call.name_of_op
    whole = call.of_activation
    if whole is not None:
        call.refuse(
            f"{name} is a part of what {whole} computes, which is no nn.ReLU",
            f"if {whole} is an activation replace it with activations=({whole},); else keep it "
            f"with ops={{{whole}: 'analog'}}",
        )
    call.refuse(
        f"a {name} may be an activation in disguise",
        f"write nn.ReLU for clamp(min=0), or replace it too with activations=({code},); else keep "
        f"it with ops={{{code}: 'analog'}}",
    )


def _refuse_whole(call: Call, whole: str) -> NoReturn:
    """Of what is computed in a module that may be an activation itself."""
    call.refuse(
        f"{call.name_of_op[0]} is all or a part of what {whole} computes, which is no ReLU",
        f"if {whole} is an activation replace it with activations=({whole},); keep a gate or "
        f"an output with ops={{{whole}: 'analog'}}",
    )


def multiplies(node: fx.Node) -> bool:
    """Whether a call is a product of entries."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op != "call_module" and name in ("mul", "imul", "mul_")


def _leaves(node: fx.Node) -> bool:
    """Whether nothing but moves lie between a node and the output."""
    return any(user.op == "output" for user in node.users)
