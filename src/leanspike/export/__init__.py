"""Files that others read: exporters, by name.

Each works on the network of one step, ``plan.per_step()``, and refuses what its file cannot hold.
A package of one's own adds an exporter by an entry point in the group ``leanspike.exporters``.
``write(snn, "snn.onnx", "onnx", {"one_step": True})`` writes with the one of that name.
"""

from leanspike.export.exporter import Exporter, exporters, write
from leanspike.export.onnx import ONNX, ONNXFile, to_onnx
from leanspike.export.onnx_proof import ONNXLayer, ONNXProof

__all__ = [
    "ONNX",
    "Exporter",
    "ONNXFile",
    "ONNXLayer",
    "ONNXProof",
    "exporters",
    "to_onnx",
    "write",
]
