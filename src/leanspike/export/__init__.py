"""Files that others read: exporters, by name.

Each works on the network of one step, ``plan.per_step()``, and refuses what its file cannot hold.
A package of one's own adds an exporter by an entry point in the group ``leanspike.exporters``.
"""

from leanspike.export.exporter import Exporter, exporters, write
from leanspike.export.onnx import ONNX, ONNXFile, to_onnx
from leanspike.export.onnx_proof import LayerProof, Proof

__all__ = [
    "ONNX",
    "Exporter",
    "LayerProof",
    "ONNXFile",
    "Proof",
    "exporters",
    "to_onnx",
    "write",
]
