"""Who races in part "engine": a trained run's ANN in every precision, its SNN, and the engine.

Each answers the same test images with class scores ``[N, K]``, in a process of its own.
The ANN's batch norms are folded into its weights, as whoever deploys it would do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

import leanspike_runtime
from leanspike.bench.result import Heat
from leanspike.bench.worker import Worker
from leanspike.engine import compile_engine
from leanspike.engine.entry import channels_last
from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork, readout
from leanspike.optional import installed
from leanspike.processor import has_bfloat16
from leanspike.saved import load

BATCHES = (1, 64, 256)
SCORED = 500
"""Test images that accuracy is measured on."""
CALIBRATED = 128
"""Training images that whole-number weights and activations are chosen by."""
AT_ONCE = 50
EXIT_MARGIN = 0.9

Answer = Callable[[Tensor], Tensor]
"""From images ``[N, C, H, W]`` to scores ``[N, K]``."""


@dataclass(frozen=True)
class Trained:
    """A run's folder (``ann`` and ``snn`` in it) and its images, normalised."""

    folder: Path
    calibration: Tensor
    test: Tensor
    labels: Tensor

    @property
    def ann(self) -> nn.Module:
        """The ANN in eval mode, norms folded, channels last."""
        folded: nn.Module = fuse(fx.symbolic_trace(load(self.folder / "ann").eval()))
        return folded.to(memory_format=torch.channels_last)


def read_trained(folder: Path) -> Trained:
    """The run in ``folder``, as ``leanspike train`` left it."""
    from rich.console import Console

    from leanspike.data.loader import normalise
    from leanspike.run import open_run
    from leanspike.train import Monitor

    data = open_run(folder, Monitor(Console(stderr=True, quiet=True))).data
    train, _ = data.train.batch(torch.arange(min(CALIBRATED, len(data.train))))
    test, labels = data.test.batch(torch.arange(min(SCORED, len(data.test))))
    return Trained(
        folder,
        normalise(train, data.mean, data.std),
        normalise(test, data.mean, data.std),
        labels,
    )


def ann(trained: Trained, *, compiled: bool = False, dtype: torch.dtype = torch.float32) -> Answer:
    """PyTorch's: eager, or whatever ``torch.compile`` makes of it."""
    network = trained.ann
    run = torch.compile(network) if compiled else network

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            scores: Tensor = run(x.contiguous(memory_format=torch.channels_last))
        return scores.float()

    return answer


def whole_numbers(trained: Trained, into: Path) -> Path:
    """The ANN in int8 by onnxruntime: static, weights by channel, calibrated; an ONNX file."""
    from onnxruntime import quantization

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
    )
    return small


def ann_onnxruntime(trained: Trained) -> Answer:
    """The ANN in int8, run by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        path = whole_numbers(trained, Path(folder))
        session = onnxruntime.InferenceSession(str(path), options)
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def ann_openvino(trained: Trained) -> Answer:
    """The same int8 network, run by OpenVINO."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    with TemporaryDirectory() as folder:
        path = whole_numbers(trained, Path(folder))
        network = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda x: torch.from_numpy(np.array(network(x.numpy())[0]))


def snn(trained: Trained) -> Answer:
    """The spiking network as it was trained, eager."""
    network = load(trained.folder / "snn").eval()

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        scores: Tensor = readout(network(x.contiguous(memory_format=torch.channels_last)), "mean")[
            -1
        ]
        return scores

    return answer


class SpikingJelly(nn.Module):
    """SpikingJelly's neurons in the ANN, a call for each step, with the SNN's leaks and thresholds.

    Its membranes begin at 0, so its answers are not the SNN's: it is here for its time.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, neuron

        spiking = load(trained.folder / "snn")
        assert isinstance(spiking, SpikingNetwork)
        self.network, self.steps, self.reset = trained.ann, spiking.timesteps, functional.reset_net
        for path, layer in list(self.network.named_modules()):
            if isinstance(layer, nn.ReLU):
                shown = spiking.get_submodule(path).readings()  # type: ignore[operator]
                tau, threshold = 1 / (1 - min(0.999, shown["leak"])), shown["threshold"]
                lif = neuron.LIFNode(tau, decay_input=False, v_threshold=threshold, v_reset=None)
                self.network.set_submodule(path, nn.Sequential(lif, Times(threshold)))

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the outputs of all steps."""
        self.reset(self.network)
        return torch.stack([self.network(x) for _ in range(self.steps)]).mean(0)


class Times(nn.Module):
    """Spikes of a height."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        """``x`` times the height."""
        return x * self.height


def spikingjelly(trained: Trained) -> Answer:
    """See `SpikingJelly`."""
    network = SpikingJelly(trained).eval()

    @torch.no_grad()
    def answer(x: Tensor) -> Tensor:
        scores: Tensor = network(x.contiguous(memory_format=torch.channels_last))
        return scores

    return answer


def engine(
    trained: Trained, weights: Literal["f32", "int8", "int6"], *, exits: bool = False
) -> Answer:
    """The engine; ``exits``: images leave when their margin is 0.9."""
    network = load(trained.folder / "snn").eval()
    assert isinstance(network, SpikingNetwork)
    compiled = compile_engine(network, trained.calibration, weights=weights, readout="mean")
    native = leanspike_runtime.Engine(leanspike_runtime.to_bytes(compiled.program))
    threads = torch.get_num_threads()

    def answer(x: Tensor) -> Tensor:
        images = channels_last(x, 1)
        if exits:
            return torch.from_numpy(native.answer(images, EXIT_MARGIN, threads=threads).logits_NK)
        return torch.from_numpy(native(images, threads=threads).mean(0))

    return answer


@dataclass(frozen=True)
class Rival:
    """A row of the race; ``package`` is what it needs."""

    title: str
    build: Callable[[Trained], Answer]
    package: str = "torch"

    @property
    def version(self) -> str | None:
        """The installed version of its package; None where there is none.

        >>> RIVALS["ann"].version == installed("torch")
        True
        """
        return installed(self.package)


RIVALS = {
    "ann": Rival("the ANN, float32", ann),
    "ann_compiled": Rival("the ANN, float32, torch.compile", partial(ann, compiled=True)),
    "ann_bf16": Rival("the ANN, bfloat16", partial(ann, dtype=torch.bfloat16)),
    "ann_int8": Rival("the ANN, int8, onnxruntime", ann_onnxruntime, "onnxruntime"),
    "ann_openvino": Rival("the ANN, int8, OpenVINO", ann_openvino, "openvino"),
    "snn": Rival("the SNN, eager", snn, "leanspike"),
    "snn_spikingjelly": Rival("the SNN, SpikingJelly", spikingjelly, "spikingjelly"),
    "engine_f32": Rival("the engine, float32", partial(engine, weights="f32"), "leanspike"),
    "engine_int8": Rival("the engine, int8", partial(engine, weights="int8"), "leanspike"),
    "engine_int6": Rival("the engine, 6 bits", partial(engine, weights="int6"), "leanspike"),
    "engine_int6_exit": Rival(
        "the engine, 6 bits, early exit",
        partial(engine, weights="int6", exits=True),
        "leanspike",
    ),
}


@dataclass(frozen=True)
class Contest:
    """One rival at one batch: called, it answers that batch once."""

    answer: Answer
    trained: Trained
    batch: int

    def __call__(self) -> Tensor:
        return self.answer(self.images)

    @property
    def images(self) -> Tensor:
        """The test images of a call."""
        return self.trained.test[: self.batch]

    def accuracy(self) -> float:
        """Of the first `SCORED` test images."""
        parts = torch.split(self.trained.test, AT_ONCE)
        scores = torch.cat([self.answer(part) for part in parts])
        return float((scores.argmax(1) == self.trained.labels).double().mean())


def contest(rival: str, folder: Path, batch: int) -> Contest:
    """What a worker's process does for a rival."""
    trained = read_trained(folder)
    if len(trained.test) < batch:
        raise LeanspikeError(
            f"{folder} has {len(trained.test)} test images, batch {batch} needs more"
        )
    return Contest(RIVALS[rival].build(trained), trained, batch)


def engine_heats(folder: Path) -> list[Heat]:
    """Inference of 1, 64 and 256 test images."""
    steps = load(folder / "snn").timesteps
    return [Heat(train=False, dtype="float32", batch=batch, timesteps=steps) for batch in BATCHES]


def racing(names: Sequence[str]) -> list[str]:
    """Who of those named takes part, all if nobody; not those that the machine only emulates.

    >>> racing(("leanspike", "ann", "engine_int6"))
    ['ann', 'engine_int6']
    """
    chosen = [name for name in RIVALS if name in names]
    if not {*chosen} - {"ann"}:
        chosen = list(RIVALS)
    return [name for name in chosen if name != "ann_bf16" or has_bfloat16()]


@contextmanager
def engine_workers(names: Sequence[str], folder: Path, batch: int) -> Iterator[dict[str, Worker]]:
    """The rivals, each in a process of its own."""
    threads = torch.get_num_threads()
    workers = {name: Worker(partial(contest, name, folder, batch), threads) for name in names}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.end()
