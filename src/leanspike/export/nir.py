"""Exporting networks to NIR, the Neuromorphic Intermediate Representation, for one reader.

The source is Pedersen et al. 2024, Nature Communications 15, 8122. NIR has no reset field that
distinguishes "subtract" from "to 0". It has no batch norm, no max pool and no initial membrane.
Therefore norms are folded. Average pools become sums, and their 1/k² goes into the next weights.
Neurons are written as the primitive with which the reader keeps their leak and their reset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from leanspike.execute import SpikingNetwork
from leanspike.export.exporter import Exporter, exporters
from leanspike.export.fitting import Fitted, fitted, primitive
from leanspike.export.parts import (
    INPUT,
    Convolution,
    Dense,
    Flatten,
    Operation,
    Part,
    Portable,
    Shape,
    Spiking,
    SumPool,
)
from leanspike.export.portable import portable
from leanspike.export.targets import TARGETS, Target, target_of
from leanspike.files import atomic, said_where
from leanspike.neuron import NeuronRecord
from leanspike.notice import say
from leanspike.optional import import_optional
from leanspike.section import Section

DT = 1e-4
"""The seconds of a step in NIR's time constants, which is the readers' default."""
ENDLESS = 2.0**60
"""The time constant, in steps, of a membrane that does not leak: 1 − 1/this is 1 in float64."""
OUTPUT = "output"
TargetName = Literal[
    "norse", "spikingjelly", "snntorch", "sinabs", "speck", "spinnaker2", "lava", "xylo"
]


class NIRConfig(Section):
    """Options of the NIR exporter: the target, and whether the file may approximate."""

    target: TargetName = "norse"
    approximate: bool = False


@exporters.register("nir")
class NIRExporter(Exporter):
    """Writes NIR in HDF5; see :func:`to_nir`."""

    Config = NIRConfig

    def __init__(self, target: str = "norse", approximate: bool = False) -> None:
        self.target, self.approximate = target, approximate

    def write(self, network: SpikingNetwork, path: Path) -> None:
        """See :meth:`Exporter.write`."""
        write_nir(to_nir(network, self.target, approximate=self.approximate), path, self.target)


def to_nir(network: SpikingNetwork, target: str = "norse", *, approximate: bool = False) -> Any:
    """Return a spiking network as a ``nir.NIRGraph`` from which the target's reader gets the same.

    Its nodes have the paths of the network's modules. Time constants are for steps of dt = 0.1 ms.
    The metadata holds dt, the timesteps, the reset, the target and the approximations.

    Args:
        network: the network, in any mode; it does not change.
        target: the reader: norse, spikingjelly, snntorch, sinabs, speck, spinnaker2, lava or xylo.
        approximate: replace a reset, a leak or a first membrane that the target lacks by one that
            it has. This changes the answers; ``leanspike export nir --verify`` measures by how
            much.

    Raises:
        LeanspikeError: for what NIR or the target cannot hold, by its path, with a way out; if
            the package nir is not installed.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from leanspike import LIF, spike
        >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> snn = spike(ann.eval(), example_input=torch.zeros(1, 2), neuron=LIF(), timesteps=4)
        >>> graph = to_nir(snn, "norse")
        >>> {name: type(node).__name__ for name, node in sorted(graph.nodes.items())}
        {'0': 'Affine', '1': 'CubaLIF', '2': 'Affine', 'input': 'Input', 'output': 'Output'}
    """
    reader = target_of(target)
    nir = import_optional("nir", "nir")
    found = fitted(portable(network), reader, approximate)
    if reader.clamps and _not_held(found.network):
        say(
            f"{reader.title} holds membranes without a leak at minus the threshold, but this "
            "network does not; train with floor=1.0 (spike.neuron.floor=1.0) where some fall lower"
        )
    writer = Writer(vars(nir), reader)
    parts = found.network.parts
    nodes = {name: writer.node(part) for name, part in parts.items()}
    nodes[INPUT] = nir.Input(np.array(found.network.input_shape))
    nodes[OUTPUT] = nir.Output(np.array(found.network.output_shape))
    edges = [(source, name) for name, part in parts.items() for source in part.sources]
    edges += [(source, OUTPUT) for source in found.network.output]
    return nir.NIRGraph(nodes, edges, metadata=_metadata(found, target))


def write_nir(graph: Any, path: str | Path, target: str | None = None) -> Path:
    """Write a graph as HDF5, whole or not at all, in a form that old readers accept.

    Readers of nir before 1.0.6 get no field ``v_reset``; a missing one means 0. They also get no
    field for the groups of a convolution. ``target`` is by default the target of the graph.
    """
    nir, h5py = import_optional("nir", "nir"), import_optional("h5py", "nir")
    path = Path(path)
    if target is None:
        target = str(graph.metadata.get("target", "norse"))
    with said_where(path), atomic(path) as part:
        nir.write(part, graph)
        if not target_of(target).v_reset:
            with h5py.File(part, "r+") as file:
                for node in file["node/nodes"].values():
                    _make_old(node)
    return path


def _make_old(node: Any) -> None:
    """Remove the fields of a node in HDF5 that nir before 1.0.6 does not know."""
    layer = node["type"][()].decode().startswith("Conv")
    for field in ("v_reset", *(["metadata"] if layer else [])):
        if field in node:
            del node[field]


def _not_held(network: Portable) -> bool:
    """Whether membranes without a leak have no floor."""
    records = [
        p.operation.record for p in network.parts.values() if isinstance(p.operation, Spiking)
    ]
    return any(record.floor is None and bool((record.leak == 1).all()) for record in records)


def _metadata(found: Fitted, target: str) -> dict[str, Any]:
    approximated = {"approximated": "; ".join(found.approximated)} if found.approximated else {}
    return {
        "dt": DT,
        "timesteps": found.network.timesteps,
        "target": target,
        "decay": TARGETS[target].decay,
        **approximated,
    }


class Writer:
    """Makes NIR's nodes. ``kinds`` are NIR's classes by name."""

    def __init__(self, kinds: dict[str, Any], target: Target) -> None:
        self.kinds, self.target = kinds, target

    def node(self, part: Part) -> Any:
        """Return the node of a part."""
        operation = part.operation
        if isinstance(operation, Spiking):
            return self._neuron(operation.record, part.outputs)
        return self._layer(operation, part)

    def _layer(self, operation: Operation, part: Part) -> Any:
        kind = primitive(operation)
        if isinstance(operation, Convolution):
            return self._convolution(kind, operation, part)
        if isinstance(operation, Dense):
            if operation.bias is None and "Linear" in self.target.reads:
                return self.kinds["Linear"](operation.weight.numpy())
            return self.kinds[kind](operation.weight.numpy(), _bias(operation))
        if isinstance(operation, SumPool):
            sizes = operation.kernel, operation.stride, operation.padding
            return self.kinds[kind](*map(np.array, sizes))
        assert isinstance(operation, Flatten)
        # Counted from the last axis, it means the same with and without a batch axis.
        return self.kinds[kind]({"input": np.array(part.inputs)}, -len(part.inputs), -1)

    def _convolution(self, kind: str, layer: Convolution, part: Part) -> Any:
        sides = part.inputs[1:] if kind == "Conv2d" else part.inputs[1]
        sizes = layer.stride, layer.padding, layer.dilation
        if kind == "Conv1d":
            sizes = tuple(size[0] for size in sizes)  # type: ignore[assignment]
        node = self.kinds[kind](sides, layer.weight.numpy(), *sizes, layer.groups, _bias(layer))
        if layer.blocks > 1:
            node.metadata["groups"] = layer.blocks
        return node

    def _neuron(self, record: NeuronRecord, shape: Shape) -> Any:
        v, leak, synapse = (
            np.broadcast_to(value.detach().cpu().double().numpy(), shape).copy()
            for value in (record.threshold, record.leak, record.synapse_leak)
        )
        kind: str = self.target.integrate
        if (leak != 1).any():
            assert self.target.leaky is not None
            kind = self.target.leaky
        if synapse.any():
            kind = "CubaLIF"
        metadata: dict[str, Any] = {"reset": record.reset}
        if record.floor is not None:
            metadata["floor"] = record.floor
        return self.kinds[kind](**self._numbers(kind, v, leak, synapse), metadata=metadata)

    def _numbers(
        self, kind: str, v: NDArray[Any], leak: NDArray[Any], synapse: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Return the fields of a primitive. In each step they scale the input by 1."""
        none = np.zeros_like(v)
        if kind == "IF":
            v = v.astype(np.float32)
            return {"r": np.ones_like(v), "v_threshold": v, "v_reset": np.zeros_like(v)}
        if kind == "CubaLIF" and self.target.decay == "exponential":
            return self._decaying(v, leak, synapse)
        tau = _tau(leak)
        if kind == "LIF" and self.target.decay == "exponential":
            tau = _decay(leak)
            fields = {"tau": tau, "r": np.ones_like(v), "v_leak": none}
            fields |= {"v_threshold": v, "v_reset": none}
            return {name: value.astype(np.float32) for name, value in fields.items()}
        fields = {"r": tau, "v_leak": none, "v_threshold": v, "v_reset": none}
        if kind == "LIF":
            return {"tau": tau * DT, **fields}
        tau_syn = _tau(synapse)
        fields["v_threshold"] = v * tau_syn  # its current is α·i + x, 1/(1 − α) times ours
        return {"tau_mem": tau * DT, "tau_syn": tau_syn * DT, "w_in": tau_syn, **fields}

    def _decaying(
        self, v: NDArray[Any], leak: NDArray[Any], synapse: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Return the fields for Rockpool: i ← β·(i + x), u ← α·u + i, dt = tau_mem/(1 + r).

        leanspike's current is (1 − β)·x + β·i, which is (1 − β)/β times Rockpool's.
        """
        tau = _decay(leak)
        fields = {"tau_mem": tau * DT, "tau_syn": _decay(synapse) * DT, "r": tau - 1}
        none = np.zeros_like(v)
        fields |= {"w_in": none + 1, "v_leak": none, "v_reset": none}
        return {**fields, "v_threshold": v * synapse / (1 - synapse)}


def _decay(leak: NDArray[Any]) -> NDArray[Any]:
    """Return the time constant of exponential decay in steps, −1/ln λ."""
    with np.errstate(divide="ignore"):
        tau: NDArray[Any] = np.where(
            leak == 1, ENDLESS, -1 / np.log(np.where(leak == 1, 0.5, leak))
        )
    return tau


def _tau(leak: NDArray[Any]) -> NDArray[Any]:
    """Return the time constant in steps, 1/(1 − λ)."""
    return np.where(leak == 1, ENDLESS, 1 / np.where(leak == 1, 1.0, 1 - leak))


def _bias(layer: Convolution | Dense) -> NDArray[Any]:
    bias: Tensor = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
    found: NDArray[Any] = bias.numpy()
    return found
