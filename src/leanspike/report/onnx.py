"""A written ONNX file and its proof, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from leanspike.export import ONNXFile, ONNXProof
from leanspike.export.onnx import Shape

UNVERIFIED = "not verified; pip install 'leanspike[onnx]', and leave out --no-verify"


def render_onnx(file: ONNXFile) -> Group:
    """Return a text of inputs, outputs and the proof.

    >>> from pathlib import Path
    >>> from rich.console import Console
    >>> file = ONNXFile(Path("a.onnx"), {"input": ("N", 4)}, {"logits": (2, "N", 3)})
    >>> Console(width=80).print(render_onnx(file))
    ONNX: a.onnx
    inputs: input [N, 4]
    outputs: logits [2, N, 3]
    not verified; pip install 'leanspike[onnx]', and leave out --no-verify
    """
    head = Text(
        f"ONNX: {file.path}\ninputs: {_shapes(file.inputs)}\noutputs: {_shapes(file.outputs)}"
    )
    if file.proof is None:
        return Group(head, Text(UNVERIFIED))
    return Group(head, _table(file.proof), _verdict(file.proof))


def _shapes(named: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in named.items())


def _table(proof: ONNXProof) -> Table:
    table = Table(title="spikes in onnxruntime", title_justify="left", box=None)
    table.add_column("neurons at")
    for column in ("spikes", "mismatches"):
        table.add_column(column, justify="right")
    for layer in proof.layers:
        table.add_row(layer.path, f"{layer.spikes:,}", f"{layer.mismatches:,}")
    return table


def _verdict(proof: ONNXProof) -> str:
    return (
        f"verified on {proof.samples} images: {proof.mismatches:,} of {proof.spikes:,} spikes and "
        f"{proof.answers} answers differ; outputs by {proof.difference:.1g} at most"
    )
