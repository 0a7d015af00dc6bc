"""Making an ONNX model with PyTorch's exporter, and giving its parts readable names.

The names are set in ONNX's protocol buffers, whose form does not depend on PyTorch's version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from leanspike.errors import LeanspikeError, one_line
from leanspike.export.traceable import Traceable, WholeSequence
from leanspike.graph.places import where
from leanspike.optional import import_optional
from leanspike.temporal.affine import affine_of_norm

OPSET = 18
"""The version of ONNX's operators, which onnxruntime knows since 1.14."""
KEEP = (
    "keep the network as torch.export has it, torch.export.save(torch.export.export(snn, (x,)), "
    "'snn.pt2')"
)


@dataclass(frozen=True)
class Names:
    """The names of inputs and outputs, in order, and the batch axis of the first input."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    spikes: Sequence[str]
    batch_axis: int


class PlainNorms(TorchFunctionMode):
    """Replaces norms in eval mode by products and sums, which all PyTorch versions write correctly.

    torch 2.6 writes neither ``addcmul`` nor ``batch_norm`` for a free number of samples.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.addcmul and not named and len(args) == 3:
            shift, x, scale = args
            return shift + x * scale
        if func is F.batch_norm:
            return _batch_norm(*args, **named)
        return func(*args, **named)


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return the result of ``batch_norm`` for the same arguments."""
    if training or mean is None or var is None:
        return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
    shape = (-1, *[1] * (x.dim() - 2))
    scale, shift = affine_of_norm(mean, var, eps, weight, bias)
    return x * scale.view(shape) + shift.view(shape)


def traced(
    network: Traceable, arguments: tuple[Any, ...], shapes: tuple[Any, ...]
) -> torch.export.ExportedProgram:
    """Return the program of a network that ``torch.export`` traces.

    Raises LeanspikeError, with the path, for what cannot be traced or is random.
    """
    try:
        with PlainNorms():
            program = torch.export.export(network, arguments, dynamic_shapes=shapes, strict=False)
    except LeanspikeError:  # it names its place itself, as a norm for fewer steps does
        raise
    except Exception as error:  # a user's module may raise anything
        raise _refusal(network, error) from error
    for node in program.graph.nodes:
        if _is_random(node):
            raise LeanspikeError(
                f"{_place(node)}: {node.target} draws random numbers, and each reader draws "
                f"others; take it out in eval mode, or {KEEP}"
            )
    return program


def _refusal(network: Traceable, error: Exception) -> LeanspikeError:
    """Return the error for a network that cannot be traced, with the operation that ran last."""
    run = network.seen.run
    if run is None and isinstance(network, WholeSequence):
        return LeanspikeError(
            f"encode: no graph can hold the encoder ({one_line(error)}); export one step with "
            "one_step=True, whose input is snn.plan.encoder.step(x, step)"
        )
    within = run is not None and run.node is not None and run.node.op.startswith("call")
    place = where(run.node) if within and run is not None and run.node else "the network"
    if "onstraints violated" in str(error):
        return LeanspikeError(
            f"{place}: is bound to the number of samples ({one_line(error)}); give that number, "
            "as batch=1"
        )
    return LeanspikeError(
        f"{place}: torch.export does not take it ({one_line(error)}); write it with PyTorch's "
        "operations, or save the network for PyTorch, ls.save(snn, folder)"
    )


def converted(program: torch.export.ExportedProgram, names: Names) -> Any:
    """Return the program as ONNX's ModelProto, with spikes as further outputs.

    Raises LeanspikeError, with the path, for an operation that ONNX does not have.
    """
    import_optional("onnxscript", "onnx")
    try:
        made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    except Exception as error:  # the classes differ between versions
        raise LeanspikeError(
            f"{_missing(program, error)} is not among the operations that PyTorch writes as "
            f"ONNX's; write it with others, or {KEEP}"
        ) from error
    assert made is not None
    model = made.model_proto
    _name(model, names)
    return model


def without_spikes(model: Any, names: Names) -> Any:
    """Return the model with only its answers and what they need."""
    model = deepcopy(model)
    graph = model.graph
    kept = [output for output in graph.output if output.name not in names.spikes]
    needed, nodes = {output.name for output in kept}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed.update(node.input, *(inner.input for inner in _inner_nodes(node)))
    _replace(graph.output, kept)
    _replace(graph.node, nodes[::-1])
    _replace(graph.initializer, [part for part in graph.initializer if part.name in needed])
    _replace(graph.value_info, [part for part in graph.value_info if part.name in needed])
    return model


def described(model: Any, about: Mapping[str, str]) -> None:
    """Write metadata into a model."""
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _name(model: Any, names: Names) -> None:
    """Rename inputs, outputs and weights everywhere, and the samples' axis to N."""
    graph = model.graph
    new = dict(zip((part.name for part in graph.input), names.inputs, strict=True))
    outputs = [*names.outputs, *names.spikes]
    new |= dict(zip((part.name for part in graph.output), outputs, strict=True))
    for part in graph.initializer:
        new.setdefault(part.name, part.name.removeprefix("network."))
    _rename(graph, lambda name: new.get(name, name))
    samples = graph.input[0].type.tensor_type.shape.dim[names.batch_axis].dim_param
    if samples:
        for part in (*graph.input, *graph.output, *graph.value_info):
            for axis in part.type.tensor_type.shape.dim:
                if axis.dim_param:
                    axis.dim_param = re.sub(rf"\b{samples}\b", "N", axis.dim_param)


def _rename(graph: Any, name: Callable[[str], str]) -> None:
    for part in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        part.name = name(part.name)
    for node in graph.node:
        _replace(node.input, [name(part) for part in node.input])
        _replace(node.output, [name(part) for part in node.output])
        for inner in _inner_graphs(node):
            _rename(inner, name)


def _inner_graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _inner_nodes(node: Any) -> Iterator[Any]:
    for graph in _inner_graphs(node):
        for inner in graph.node:
            yield inner
            yield from _inner_nodes(inner)


def _replace(field: Any, parts: Sequence[Any]) -> None:
    """Replace the parts of a repeated field."""
    parts = [deepcopy(part) for part in parts]
    del field[:]
    field.extend(parts)


def _is_random(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return node.op == "call_function" and torch.Tag.nondeterministic_seeded in tags


def _place(node: fx.Node) -> str:
    """Return the path of the module of an operation in a program."""
    paths = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    path = paths[-1].rpartition("network")[2].strip(".") if paths else ""
    return path or "the network itself"


def _missing(program: torch.export.ExportedProgram, error: BaseException | None) -> str:
    """Return the operation that ONNX lacks, with its module's path, if the error names it.

    PyTorch may have split it first into an operation whose name ends in the same word.
    """
    told = ""
    while error is not None:
        told += f"{error}\n"
        error = error.__cause__
    found = re.search(r"OpOverload\(op='([\w.]+)'", told)
    if found is None:
        return f"the network: something ({one_line(ValueError(told))})"
    name = found.group(1)
    for word in (name, name.rpartition(".")[2].rpartition("_")[2]):
        for node in program.graph.nodes:
            if node.op == "call_function" and _operation(node).endswith(word):
                return f"{_place(node)}: {_operation(node)}"
    return f"the network: {name}"


def _operation(node: fx.Node) -> str:
    """Return ``aten.special_i0e`` for ``aten.special_i0e.default``."""
    return str(node.target).rpartition(".")[0]


def inputs_of(model: Any) -> dict[str, tuple[str | int, ...]]:
    """Return the names and shapes of a model's inputs; "N" is the number of samples."""
    return {part.name: _shape(part) for part in model.graph.input}


def outputs_of(model: Any) -> dict[str, tuple[str | int, ...]]:
    """Return the names and shapes of a model's outputs."""
    return {part.name: _shape(part) for part in model.graph.output}


def _shape(part: Any) -> tuple[str | int, ...]:
    return tuple(axis.dim_param or axis.dim_value for axis in part.type.tensor_type.shape.dim)
