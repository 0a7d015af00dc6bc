"""Writing ONNX files: all timesteps in one graph, or one step with its state as in- and outputs.

Shapes: T timesteps, N samples, K outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from leanspike.backends import use_backend
from leanspike.errors import LeanspikeError, check_count
from leanspike.execute import SpikingNetwork
from leanspike.execute.answers import check_readout
from leanspike.export.exporter import Exporter, exporters
from leanspike.export.onnx_forms import Form, SequenceForm, StepForm
from leanspike.export.onnx_model import described, inputs_of, outputs_of, without_spikes
from leanspike.export.onnx_proof import ONNXProof
from leanspike.files import atomic, said_where
from leanspike.modes import eval_mode
from leanspike.optional import import_optional
from leanspike.section import Section

PROVED = 3
"""The number of random samples in the proof if no images are given. The trace has other ones."""
LARGEST = 1_900_000_000
"""The most bytes of weights: a file of protocol buffers ends at 2 GB."""

Shape = tuple[str | int, ...]


@dataclass(frozen=True)
class ONNXFile:
    """The description of a written file.

    Attributes:
        path: the path of the file.
        inputs, outputs: the names and shapes; "N" is the number of samples.
        proof: the comparison of file and network; None if it was not verified.

    >>> file = ONNXFile(Path("snn.onnx"), {"input": ("N", 3, 32, 32)}, {"logits": (5, "N", 10)})
    >>> file.proof is None
    True
    """

    path: Path
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    proof: ONNXProof | None = None

    @property
    def summary(self) -> dict[str, Any]:
        """Return names, shapes and the findings of the proof, for programs."""
        found = {"inputs": dict(self.inputs), "outputs": dict(self.outputs), "verified": False}
        if self.proof is None:
            return found
        return found | {
            "verified": True,
            "samples": self.proof.samples,
            "spikes": self.proof.spikes,
            "mismatching_spikes": self.proof.mismatches,
            "mismatching_answers": self.proof.answers,
            "largest_difference": self.proof.difference,
        }


def to_onnx(
    snn: SpikingNetwork,
    path: str | Path,
    one_step: bool = False,
    *,
    timesteps: int | None = None,
    batch: int | None = None,
    mode: Literal["sum", "mean"] = "mean",
    about: Mapping[str, Any] | None = None,
    images: Tensor | None = None,
    verify: bool = True,
) -> ONNXFile:
    """Write a spiking network as an ONNX file, in plain operators of opset 18.

    The whole sequence takes ``input`` as a call does: ``[N, ...]``, or frames ``[T, N, ...]``. It
    returns ``logits`` ``[T, N, K]``, the answer after every step.

    One step takes its ``input`` ``[N, ...]``, and its number ``step`` from 0. With "poisson" the
    input is the output of the encoder's ``step``. Each state of a layer enters as ``<path>.<name>``
    and leaves as ``<path>.<name>.next``. ``output`` ``[N, K]`` is that of the step alone, not added
    up. Begin with zeros: at step 0 the given states do not count.

    Args:
        snn: the network, on the CPU, in float32.
        path: the path of the file, which is written whole or not at all.
        one_step: write one step instead of all steps.
        timesteps: T of the whole sequence; default ``snn.timesteps``.
        batch: N, if the file is to take that number of samples only; default any number.
        mode: the mode of the readout, see ``leanspike.readout``.
        about: further metadata of the file, such as classes and normalisation. Values that are
            not text are written as JSON.
        images: input for the proof; default three samples of random numbers.
        verify: check the file. If onnxruntime is installed, compare it with the network, too.

    Raises:
        LeanspikeError: for an operation that ONNX cannot hold, by its path. Also if the file's
            spikes differ by more than rounding, and without ``pip install 'leanspike[onnx]'``.

    Example:
        >>> import leanspike as ls
        >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> snn = ls.spike(ann.eval(), example_input=torch.zeros(1, 4), timesteps=2)
        >>> try:
        ...     to_onnx(snn.to(torch.bfloat16), "snn.onnx")
        ... except ls.LeanspikeError as error:
        ...     print(error)
        the network computes in torch.bfloat16; give it in float32, as snn.float()
    """
    check_readout(mode)
    _check(snn)
    for package in ("onnx", "onnxscript"):
        import_optional(package, "onnx")
    steps = check_count("timesteps", snn.timesteps if timesteps is None else timesteps)
    samples = None if batch is None else check_count("batch", batch)
    if images is not None:
        _check_images(snn, images, steps, samples)
    form: Form = StepForm(snn, steps, samples)
    if not one_step:
        form = SequenceForm(snn, steps, samples, mode)
    with eval_mode(snn), use_backend("reference"), torch.no_grad():
        full, names = form.model()
    model = without_spikes(full, names)
    described(model, _metadata(snn, form, steps, about or {}))
    proves = verify and find_spec("onnxruntime") is not None
    proof = None
    with said_where(Path(path)), atomic(Path(path)) as part:
        part.write_bytes(model.SerializeToString())
        if verify:
            import_optional("onnx", "onnx").checker.check_model(str(part), full_check=True)
        if proves:
            x = form.example(samples or PROVED) if images is None else images
            proof = form.prove(full.SerializeToString(), part.read_bytes(), x)
            proof.check()
    return ONNXFile(Path(path), inputs_of(model), outputs_of(model), proof)


def _check(snn: SpikingNetwork) -> None:
    """Raise LeanspikeError for a network whose tensors cannot be written."""
    if not isinstance(snn, SpikingNetwork):
        raise LeanspikeError(f"snn is a {type(snn).__name__}; give what ls.spike returned")
    held = [*snn.parameters(), *snn.buffers()]
    for tensor in held:
        if tensor.device.type != "cpu":
            raise LeanspikeError(f"the network is on {tensor.device}; give it as snn.cpu()")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise LeanspikeError(
                f"the network computes in {tensor.dtype}; give it in float32, as snn.float()"
            )
    held_bytes = sum(tensor.nbytes for tensor in held)
    if held_bytes > LARGEST:
        raise LeanspikeError(
            f"the network holds {held_bytes:,} bytes, but an ONNX file 2 GB at most; save it for "
            "PyTorch, ls.save(snn, folder)"
        )


def _check_images(snn: SpikingNetwork, images: Tensor, timesteps: int, batch: int | None) -> None:
    """Raise LeanspikeError for images that the file will not accept."""
    axis = snn.plan.encoder.batch_axis
    snn.check_input(images, axis)
    if batch is not None and images.shape[axis] != batch:
        raise LeanspikeError(
            f"images are {images.shape[axis]} samples, but batch is {batch}; give {batch}, or "
            "another batch"
        )
    if axis == 1 and len(images) != timesteps:
        raise LeanspikeError(
            f"images are {len(images)} frames, but timesteps is {timesteps}; give "
            f"timesteps={len(images)}"
        )


def _metadata(
    snn: SpikingNetwork, form: Form, timesteps: int, about: Mapping[str, Any]
) -> dict[str, str]:
    """Return the metadata of the file."""
    own: dict[str, Any] = {
        "leanspike_version": version("leanspike"),
        "form": form.name,
        "timesteps": timesteps,
        "encode": type(snn.plan.encoder).__name__.lower(),
    }
    if isinstance(form, SequenceForm):
        own["readout"] = form.mode
    if snn.input_range is not None:
        own["input_range"] = snn.input_range
    values = own | dict(about)
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }


class ONNXConfig(Section):
    """Options of the ONNX exporter."""

    one_step: bool = Field(
        False, description="Write one step, with its state as inputs and outputs."
    )
    timesteps: int | None = Field(
        None, description="T of the whole sequence; null is the network's."
    )


@exporters.register("onnx")
@final
class ONNX(Exporter):
    """Writes ONNX files by `to_onnx`.

    >>> exporters.create("onnx", {"one_step": True}).one_step
    True
    """

    Config = ONNXConfig

    def __init__(self, one_step: bool = False, timesteps: int | None = None) -> None:
        self.one_step, self.timesteps = one_step, timesteps

    def write(self, network: SpikingNetwork, path: Path) -> None:
        """Write the file, and verify it."""
        to_onnx(network, path, self.one_step, timesteps=self.timesteps)
