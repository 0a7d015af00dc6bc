"""leanspike: low-latency deep spiking neural networks from ordinary PyTorch networks.

>>> import torch
>>> import leanspike as ls
>>> _ = torch.manual_seed(0)
>>> ann = ls.models.create_model("vgg6", 10, image_size=8, width=0.125)  # or a network of yours
>>> images = torch.rand(8, 3, 8, 8)
>>> snn = ls.spike(ann.eval(), example_input=images[:1], timesteps=5)
>>> table = ls.calibrate(snn, images, percentile=99.7, scale=0.6)
>>> y_TNK = snn(images)  # the output of every step
>>> logits_TNK = ls.readout(y_TNK, "mean")  # the answer after every step
>>> logits_TNK.shape
torch.Size([5, 8, 10])
"""

from leanspike import models
from leanspike.engine import Engine, compile_engine
from leanspike.errors import DataError, LeanspikeError, SurgeryError
from leanspike.evaluation import Result, evaluate, neurobench, neurobench_model
from leanspike.export import from_nir, to_nir, to_onnx
from leanspike.memory import keep_freed_memory
from leanspike.models import Answer
from leanspike.neuron import (
    LIF,
    AdaptiveLIF,
    Arctan,
    CurrentLIF,
    Neuron,
    Rectangle,
    Sigmoid,
    Triangle,
)
from leanspike.report import write_report
from leanspike.saved import ModelSpec, load, save
from leanspike.surgery import Calibration, SpikingNetwork, calibrate, readout, spike

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "AdaptiveLIF",
    "Answer",
    "Arctan",
    "Calibration",
    "CurrentLIF",
    "DataError",
    "Engine",
    "LeanspikeError",
    "ModelSpec",
    "Neuron",
    "Rectangle",
    "Result",
    "Sigmoid",
    "SpikingNetwork",
    "SurgeryError",
    "Triangle",
    "calibrate",
    "compile_engine",
    "evaluate",
    "from_nir",
    "keep_freed_memory",
    "load",
    "models",
    "neurobench",
    "neurobench_model",
    "readout",
    "save",
    "spike",
    "to_nir",
    "to_onnx",
    "write_report",
]
