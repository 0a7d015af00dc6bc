"""Files for other libraries: exporters by name, NIR in both directions, and ONNX.

Each exporter works on the network of one step, ``plan.per_step()``, and refuses what its file
cannot hold. Another package adds an exporter by an entry point in the group
``leanspike.exporters``.

>>> import tempfile
>>> import torch
>>> from pathlib import Path
>>> from torch import nn
>>> from leanspike import LIF, from_nir, spike
>>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
>>> snn = spike(ann, example_input=torch.zeros(1, 2), neuron=LIF(), timesteps=4)
>>> with tempfile.TemporaryDirectory() as folder:
...     path = write(snn, Path(folder) / "net.nir", "nir", {"target": "norse"})
...     from_nir(path).timesteps
4

The same in two steps, with the file read back by the library that it is for:

>>> from leanspike import to_nir
>>> snn = spike(ann, example_input=torch.zeros(1, 2), neuron=LIF(reset="hard"), timesteps=4)
>>> with tempfile.TemporaryDirectory() as folder:
...     path = write_nir(to_nir(snn, "spikingjelly"), Path(folder) / "net.nir", "spikingjelly")
...     proof = prove(snn, path, "spikingjelly", [(torch.rand(16, 2), None)])
>>> proof.mismatches, [len(layer.spikes) for layer in proof.layers]
(0, [4])

``Proof(...)`` holds a ``LayerProof(...)`` for each layer of neurons. ``TARGETS`` has a record,
``Target(...)``, for each reader: what it takes and keeps. ``NIRExporter("norse")`` is the exporter.

``write(snn, "snn.onnx", "onnx", {"one_step": True})`` writes ONNX, as ``to_onnx`` does.
"""

from leanspike.export.exporter import Exporter, exporters, write
from leanspike.export.imported import from_nir
from leanspike.export.nir import NIRExporter, to_nir, write_nir
from leanspike.export.onnx import ONNX, ONNXFile, to_onnx
from leanspike.export.onnx_proof import ONNXLayer, ONNXProof
from leanspike.export.proof import LayerProof, Proof, prove
from leanspike.export.targets import TARGETS, Target

__all__ = [
    "ONNX",
    "TARGETS",
    "Exporter",
    "LayerProof",
    "NIRExporter",
    "ONNXFile",
    "ONNXLayer",
    "ONNXProof",
    "Proof",
    "Target",
    "exporters",
    "from_nir",
    "prove",
    "to_nir",
    "to_onnx",
    "write",
    "write_nir",
]
