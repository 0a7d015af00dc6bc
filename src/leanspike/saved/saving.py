"""Saving a network as two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from leanspike.errors import LeanspikeError, one_line
from leanspike.files import atomic, write_text
from leanspike.saved.description import describe
from leanspike.saved.folder import SPEC, WEIGHTS, digest_of
from leanspike.saved.spec import ModelSpec, Spec
from leanspike.surgery import SpikingNetwork


def save(network: nn.Module, folder: str | Path, model: ModelSpec | None = None) -> Path:
    """Save an ANN or a spiking network as ``model.safetensors`` and ``spec.json``.

    Args:
        network: the network. Its neurons, if any, must be of registered classes.
        folder: the folder, which is made if needed. The two files in it are replaced.
        model: the description by which :func:`leanspike.saved.load` builds a model of leanspike's.
            For a user's own network it is optional, and holds its name.

    Raises:
        LeanspikeError: for parts that :func:`leanspike.saved.load` could not make again, such as a
            neuron whose class is not registered, and for settings that it would refuse. Also for a
            spiking network inside another module, for a value that is no tensor, and for a folder
            that cannot be made or written to.

    >>> import tempfile
    >>> from leanspike.models import create_model
    >>> from leanspike.saved import load
    >>> spec = ModelSpec(name="vgg6", num_classes=10, image_size=8, options={"width": 0.125})
    >>> ann = create_model("vgg6", 10, image_size=8, width=0.125)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save(ann, folder, spec)
    ...     same = load(folder)
    >>> type(same).__name__
    'VGG'
    """
    folder = Path(folder)
    if folder.is_file():
        raise LeanspikeError(f"{folder} is a file; give the name of a folder")
    _check_whole(network)
    try:
        spiking = describe(network) if isinstance(network, SpikingNetwork) else None
        spec = Spec(model=model, spike=spiking)
    except ValidationError as error:
        raise LeanspikeError(f"the network cannot be saved ({one_line(error)})") from None
    weights = {key: _written(key, value) for key, value in network.state_dict().items()}
    with atomic(folder / WEIGHTS) as part:
        save_file(weights, part)
        digest = digest_of(part)
    spec = spec.model_copy(update={"weights_sha256": digest})
    write_text(folder / SPEC, spec.model_dump_json(indent=1))
    return folder


def _check_whole(network: nn.Module) -> None:
    """Raise LeanspikeError for a wrapper, since the spec would not describe its inside."""
    for name in ("module", "_orig_mod"):
        if list(network._modules) == [name] and type(network).__module__.startswith("torch."):
            kind = type(network).__name__
            raise LeanspikeError(f"the network is wrapped in a {kind}; save network.{name}")
    inside = [path for path, part in network.named_modules() if isinstance(part, SpikingNetwork)]
    if inside and not isinstance(network, SpikingNetwork):
        raise LeanspikeError(
            f"a spiking network is at {inside[0]} in a {type(network).__name__}; save it alone, as "
            f"network.get_submodule({inside[0]!r})"
        )


def _written(key: str, value: Any) -> Tensor:
    """Return a tensor in the form in which the file holds it.

    Tied weights share memory, which safetensors refuses. Each of them is written out.
    """
    held = isinstance(value, Tensor) and not nn.parameter.is_lazy(value)
    if not held or value.is_meta or value.is_quantized or value.layout is not torch.strided:
        kind = type(value).__name__
        raise LeanspikeError(
            f"{key} is a {kind} that no file can hold; give dense tensors with values"
        )
    written: Tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return written
