"""Models on disk: safetensors beside a JSON spec. Loading runs no code from the files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from leanspike.errors import LeanspikeError, one_line
from leanspike.files import atomic, write_text
from leanspike.graph.ops import Meaning
from leanspike.models import create_model
from leanspike.models.own import is_own
from leanspike.saved.description import describe
from leanspike.saved.rebuilding import Given, Weights, cast, check_fit, check_same, respike
from leanspike.saved.spec import ModelSpec, Spec, parse
from leanspike.surgery import SpikingNetwork

__all__ = [
    "SPEC",
    "WEIGHTS",
    "ModelSpec",
    "load",
    "read_model",
    "read_weights",
    "save",
    "weights_digest",
]

WEIGHTS = "model.safetensors"
SPEC = "spec.json"


def save(network: nn.Module, folder: str | Path, model: ModelSpec | None = None) -> Path:
    """Save an ANN or a spiking network as ``model.safetensors`` and ``spec.json``.

    Args:
        network: its neurons, if any, must be of classes that a name is registered for.
        folder: is made; the two files in it are replaced.
        model: for a network of the zoo, what :func:`load` needs to build it; for one of the user's
            own, if given, what it is called.

    Raises:
        LeanspikeError: for what :func:`load` could not make again (a neuron without such a name),
            settings that it would refuse, a spiking network inside of another module, a value that
            is no tensor, or a folder that cannot be made or written to.

    >>> import tempfile
    >>> from leanspike.models import create_model
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
        digest = _digest(part)
    spec = spec.model_copy(update={"weights_sha256": digest})
    write_text(folder / SPEC, spec.model_dump_json(indent=1))
    return folder


def load(
    folder: str | Path,
    ann: nn.Module | None = None,
    *,
    activations: Collection[Any] = (),
    ops: Mapping[Any, Meaning] | None = None,
) -> nn.Module:
    """Load what :func:`save` wrote: an ANN, or a :class:`SpikingNetwork`. No code is run.

    Args:
        folder: with ``model.safetensors`` and ``spec.json``.
        ann: the user's own architecture, untrained or not, if it is not one of the zoo. Where a
            spiking network was saved it is left untouched. Where an ANN was saved it is loaded
            into, and so is a :class:`SpikingNetwork` made by ``leanspike.spike``, which must have
            been made as the saved one was.
        activations, ops: as in ``leanspike.spike``, where the files do not tell: functions of
            the user's own, types that are not among the modules of ``ann``, whole rows, and
            whatever a file of the first versions was made with.

    Returns:
        The network in eval mode, on the CPU (``ann``, where that is loaded into, where it is), in
        the floating-point types that were saved.

    Raises:
        LeanspikeError: for missing, damaged or foreign files, another architecture, or a spiking
            network of other settings.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     same = load(save(net, folder), ann=nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    >>> torch.equal(same[0].weight, net[0].weight)
    True
    """
    folder = Path(folder)
    spec, weights = _read_spec(folder), _read_weights(folder)
    if ann is None and (spec.model is None or is_own(spec.model.name)):
        which = "" if spec.model is None else f", {spec.model.name}, and loading imports nothing"
        raise LeanspikeError(
            f"{folder} holds a network of the user's own{which}; build it and pass "
            "load(path, ann=...)"
        )
    given = Given(activations, ops or {})
    try:
        architecture = _zoo_network(spec.model, weights) if ann is None else ann
        network = _build(spec, architecture, weights, given)
    except LeanspikeError as error:
        raise type(error)(f"{folder / SPEC}: {error}") from error
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise LeanspikeError(
            f"{folder / SPEC} describes no network that can be built ({one_line(error)}); restore "
            "it from a copy, or pass the architecture it was saved from"
        ) from error
    try:
        check_fit(network, weights)
    except LeanspikeError as error:
        raise LeanspikeError(f"{folder / WEIGHTS}: {error}") from None
    _check_digest(folder, spec)
    try:
        cast(network, weights)
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise LeanspikeError(
            f"{folder} does not fit the network ({one_line(error)}); pass the architecture it was "
            "saved from"
        ) from None
    if isinstance(network, SpikingNetwork) and spec.spike is not None:
        network.input_range = spec.spike.input_range
    return network.eval()


def read_model(folder: str | Path) -> ModelSpec | None:
    """What a saved network is made of; None for a user's own architecture without a name.

    Raises:
        LeanspikeError: for missing, damaged or foreign files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(read_model(save(nn.Linear(2, 3), folder)))
    None
    """
    return _read_spec(Path(folder)).model


def read_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """The weights of a saved ANN by name, whatever network they are of.

    Raises:
        LeanspikeError: for missing, damaged or foreign files, or a network that spikes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(read_weights(save(nn.Linear(2, 3), folder)))
    ['bias', 'weight']
    """
    folder = Path(folder)
    spec, weights = _read_spec(folder), _read_weights(folder)
    if spec.spike is not None:
        raise LeanspikeError(f"{folder} is a spiking network; give the ANN, as runs/RECIPE/ann")
    _check_digest(folder, spec)
    return weights


def weights_digest(folder: str | Path) -> str | None:
    """The SHA-256 that the spec of a saved network holds of its weights; None in files of before.

    Raises:
        LeanspikeError: for a missing, damaged or foreign spec.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(weights_digest(save(nn.Linear(2, 3), folder)))
    64
    """
    return _read_spec(Path(folder)).weights_sha256


def _zoo_network(spec: ModelSpec | None, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network of the zoo that a spec describes, if it is about as large as its weights."""
    assert spec is not None

    def build() -> nn.Module:
        return create_model(
            spec.name,
            spec.num_classes,
            in_channels=spec.in_channels,
            image_size=spec.image_size,
            **spec.options,
        )

    try:
        with torch.device("meta"):  # where a network of any size takes no memory
            described = sum(value.numel() for value in build().state_dict().values())
    except NotImplementedError:  # a constructor that reads its tensors, as torchvision's RegNet
        return build()
    held = sum(value.numel() for value in weights.values())
    if described > 2 * held:  # one of folded norms holds less than its network
        raise LeanspikeError(
            f"a {spec.name} of {described:,} values is described, {WEIGHTS} holds {held:,}; "
            "restore them from a copy"
        )
    return build()


def _build(spec: Spec, ann: nn.Module, weights: Weights, given: Given) -> nn.Module:
    """The network that a spec describes, before its weights."""
    if not isinstance(ann, nn.Module):
        raise LeanspikeError(f"ann is {ann!r}; pass a network, as ann=Net()")
    spikes = isinstance(ann, SpikingNetwork)
    if (given.activations or given.ops) and (spikes or spec.spike is None):
        raise LeanspikeError(
            "activations and ops of load are for an ANN that is to spike again; leave them out"
        )
    if spec.spike is None:
        if spikes:
            raise LeanspikeError(
                "it holds an ANN, and a spiking network was passed; take snn.load_ann(load(path, "
                "ann=Net()).state_dict())"
            )
        return ann
    if isinstance(ann, SpikingNetwork):
        check_same(ann, spec.spike)
        return ann
    return respike(ann, spec.spike, weights, given)


def _check_whole(network: nn.Module) -> None:
    """Raise LeanspikeError for a wrapper, of whose inside nothing would be told."""
    for name in ("module", "_orig_mod"):
        if list(network._modules) == [name] and type(network).__module__.startswith("torch."):
            kind = type(network).__name__
            raise LeanspikeError(f"the network is in a {kind}; save what is in it, network.{name}")
    inside = [path for path, part in network.named_modules() if isinstance(part, SpikingNetwork)]
    if inside and not isinstance(network, SpikingNetwork):
        raise LeanspikeError(
            f"a spiking network is at {inside[0]} in a {type(network).__name__}; save it alone, "
            f"network.get_submodule({inside[0]!r})"
        )


def _written(key: str, value: Any) -> Tensor:
    """A tensor as the file holds it.

    Safetensors refuses tensors that share memory, as tied weights do: each is written out.
    """
    held = isinstance(value, Tensor) and not nn.parameter.is_lazy(value)
    if not held or value.is_meta or value.is_quantized or value.layout is not torch.strided:
        kind = type(value).__name__
        raise LeanspikeError(
            f"{key} is a {kind} that no file can hold; only dense tensors with values can be saved"
        )
    written: Tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return written


def _read_spec(folder: Path) -> Spec:
    path = folder / SPEC
    if not path.is_file():
        raise LeanspikeError(f"no model in {folder}: {SPEC} and {WEIGHTS} are expected there")
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise LeanspikeError(f"{path} is damaged or not of leanspike ({one_line(error)})") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(folder: Path, spec: Spec) -> None:
    """That the weights are those that were saved, to the bit; files of before do not tell."""
    if spec.weights_sha256 not in (None, _digest(folder / WEIGHTS)):
        raise LeanspikeError(
            f"{folder / WEIGHTS} is not the file that {SPEC} was written with; restore both from "
            f"a copy, or take weights_sha256 out of {SPEC} if you changed the weights on purpose"
        )


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise LeanspikeError(f"no weights at {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        why = one_line(error)
        raise LeanspikeError(f"{path} is damaged ({why}); restore it from a copy") from None
