"""Converting nodes into records of a header, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from leanspike_runtime.errors import EngineError
from leanspike_runtime.header import keyed, listed, number, text, whole, wholes
from leanspike_runtime.program import (
    Array,
    Concat,
    Layer,
    Neuron,
    Node,
    Pad,
    Pool,
    Relabel,
    Synapse,
    Upsample,
)

COMMON = ("node", "path", "shape", "form")
SYNAPSE = ("edge", "kind", "weights", "stride", "padding", "dilation", "groups", "scale")
NEURON = ("leak", "threshold", "reset", "initial")
FLOOR = "floor"
"""A key of neurons with a floor only, since early readers do not know it."""
KEYS: dict[str, tuple[str, ...]] = {
    "layer": ("synapses", "shift", "neuron"),
    "max_pool": ("edge", "kernel", "stride", "padding"),
    "sum_pool": ("edge", "kernel", "stride", "padding"),
    "concat": ("edges",),
    "pad": ("edge", "padding"),
    "upsample": ("edge", "factors"),
    "relabel": ("edge",),
}
"""The keys of each kind of node besides `COMMON`."""

PAIRS = ("kernel", "stride", "padding", "factors", "dilation")
KINDS: dict[type, str] = {
    Concat: "concat",
    Pad: "pad",
    Upsample: "upsample",
    Relabel: "relabel",
}

Number = Callable[..., int]
"""A function that adds a tensor of a type to the file, and returns its number."""


class Tensors(Protocol):
    """The tensors of a file, by their numbers."""

    def __call__(self, number: int, *types: str) -> tuple[str, Array]:
        """Return the type and the values of a tensor, which must be of one of these types."""


def node_record(node: Node, number_of: Number) -> dict[str, Any]:
    """Return the record of a node. ``number_of`` takes its tensors."""
    if isinstance(node, Layer):
        return {
            **_common("layer", node),
            "synapses": [_synapse_record(synapse, number_of) for synapse in node.synapses],
            "shift": number_of(node.shift),
            "neuron": None if node.neuron is None else _neuron_record(node.neuron, number_of),
        }
    name = node.node if isinstance(node, Pool) else KINDS[type(node)]
    record = _common(name, node)
    for key in KEYS[name]:
        if key == "edge":
            record[key] = node.edges[0]
        else:
            record[key] = list(getattr(node, key))
    return record


def _common(name: str, node: Node) -> dict[str, Any]:
    return {"node": name, "path": node.path, "shape": list(node.shape), "form": node.form}


def _synapse_record(synapse: Synapse, number_of: Number) -> dict[str, Any]:
    weights = None if synapse.weights is None else number_of(synapse.weights, synapse.type)
    pairs = {key: list(getattr(synapse, key)) for key in ("stride", "padding", "dilation")}
    return {
        "edge": synapse.edge,
        "kind": synapse.kind,
        "weights": weights,
        **pairs,
        "groups": synapse.groups,
        "scale": number_of(synapse.scale),
    }


def _neuron_record(neuron: Neuron, number_of: Number) -> dict[str, Any]:
    floor = {} if neuron.floor is None else {FLOOR: neuron.floor}
    return {
        "leak": number_of(neuron.leak),
        "threshold": number_of(neuron.threshold),
        "reset": neuron.reset,
        "initial": neuron.initial,
        **floor,
    }


def node_from(record: Any, where: str, tensors: Tensors) -> Node:
    """Return the node of a record.

    Raises EngineError for wrong keys, kinds, or numbers of tensors.
    """
    name = record.get("node") if isinstance(record, dict) else None
    if not isinstance(name, str) or name not in KEYS:
        raise EngineError(f"{where} is of the kind {str(name)[:40]}; kinds are {', '.join(KEYS)}")
    keyed(record, where, (*COMMON, *KEYS[name]))
    path, form = (text(record[key], f"{where}: {key}") for key in ("path", "form"))
    shape: Any = wholes(record["shape"], f"{where}: shape", 3)
    if form not in ("analog", "spikes", "counts"):
        raise EngineError(f"{where} has the form {form!r}; forms are analog, spikes, counts")
    if name == "layer":
        return _layer(record, where, tensors, Layer(path, shape, form, (), None, None))  # type: ignore[arg-type]
    parts = {key: _part(record, key, where, name) for key in KEYS[name] if key != "edge"}
    if name != "concat":
        parts["edges"] = (whole(record["edge"], f"{where}: edge"),)
    if name in ("max_pool", "sum_pool"):
        return Pool(name, path, shape, form, **parts)  # type: ignore[arg-type]
    kind: Any = next(kind for kind, called in KINDS.items() if called == name)
    made: Node = kind(path, shape, form, **parts)
    return made


def _part(record: Mapping[str, Any], key: str, where: str, name: str) -> Any:
    if key == "edges":
        return wholes(record[key], f"{where}: {key}")
    return wholes(record[key], f"{where}: {key}", 4 if name == "pad" else 2)


def _layer(record: Mapping[str, Any], where: str, tensors: Tensors, bare: Layer) -> Layer:
    synapses = tuple(
        _synapse(part, f"{where}, synapse {place}", tensors)
        for place, part in enumerate(listed(record["synapses"], f"{where}: synapses"))
    )
    _, shift = tensors(whole(record["shift"], f"{where}: shift"), "f32")
    neuron = record["neuron"]
    return replace(
        bare,
        synapses=synapses,
        shift=shift,
        neuron=None if neuron is None else _neuron(neuron, f"{where}, neuron", tensors),
    )


def _synapse(record: Any, where: str, tensors: Tensors) -> Synapse:
    keyed(record, where, SYNAPSE)
    kind: Any = text(record["kind"], f"{where}: kind")
    if kind not in ("conv", "linear", "same"):
        raise EngineError(f"{where} is of the kind {kind[:40]!r}; kinds are conv, linear, same")
    found: Any = ("f32", None)
    if record["weights"] is not None:
        found = tensors(whole(record["weights"], f"{where}: weights"), "f32", "i8", "i6")
    pairs: Any = {
        key: wholes(record[key], f"{where}: {key}", 2) for key in ("stride", "padding", "dilation")
    }
    _, scale = tensors(whole(record["scale"], f"{where}: scale"), "f32")
    edge = whole(record["edge"], f"{where}: edge")
    groups = whole(record["groups"], f"{where}: groups")
    return Synapse(edge, kind, scale, found[1], found[0], groups=groups, **pairs)


def _neuron(record: Any, where: str, tensors: Tensors) -> Neuron:
    has_floor = isinstance(record, dict) and FLOOR in record
    keyed(record, where, (*NEURON, FLOOR) if has_floor else NEURON)
    leak, threshold = (
        tensors(whole(record[key], f"{where}: {key}"), "f32")[1] for key in ("leak", "threshold")
    )
    reset: Any = text(record["reset"], f"{where}: reset")
    initial = number(record["initial"], f"{where}: initial")
    floor = number(record[FLOOR], f"{where}: floor") if has_floor else None
    return Neuron(leak, threshold, reset, initial, floor)
