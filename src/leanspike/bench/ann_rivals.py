"""The ANN in every precision, as functions from images to class scores ``[N, K]``.

Its norms are in its weights, as for deployment (see `leanspike.bench.deployed`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leanspike.bench.trained import Answer, Trained
from leanspike.processor import has_vnni


def ann(trained: Trained, *, compiled: bool = False, dtype: torch.dtype = torch.float32) -> Answer:
    """Return PyTorch's ANN, eager or compiled by ``torch.compile``.

    It is compiled anew for each batch size. Its weights are constants then ("freezing"), which lets
    the compiler lay them out for the convolutions.
    """
    network = trained.ann.requires_grad_(False)
    options: dict[str, Any] = {"freezing": True}
    run = torch.compile(network, dynamic=False, options=options) if compiled else network

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            scores: Tensor = run(x.contiguous(memory_format=torch.channels_last))
        return scores.float()

    return answer


def whole_numbers(trained: Trained, into: Path) -> Path:
    """Write the ANN in int8 as an ONNX file by onnxruntime: static, per channel, calibrated."""
    from onnxruntime import quantization

    logging.disable(logging.WARNING)  # of its advice to look at its own documentation

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": trained.calibration.numpy()}])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    example = trained.calibration[:2].contiguous()
    network = trained.ann.to(memory_format=torch.contiguous_format)
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    free = {"x": {0: "n"}, "y": {0: "n"}}
    whole, small = into / "ann.onnx", into / "int8.onnx"
    torch.onnx.export(network, (example,), whole, dynamo=False, dynamic_axes=free, **names)
    quantization.quantize_static(
        whole,
        small,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QUInt8,
        reduce_range=not has_vnni(),  # else sums of two products leave 16 bits
    )
    return small


def ann_onnxruntime(trained: Trained) -> Answer:
    """Return the ANN in int8, run by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        path = whole_numbers(trained, Path(folder))
        session = onnxruntime.InferenceSession(str(path), options)
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def ann_openvino(trained: Trained) -> Answer:
    """Return the same int8 network, run by OpenVINO."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    with TemporaryDirectory() as folder:
        path = whole_numbers(trained, Path(folder))
        network = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda x: torch.from_numpy(np.array(network(x.numpy())[0]))
