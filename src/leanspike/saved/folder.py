"""The two files of a saved network: their names, reading them, and their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from leanspike.errors import LeanspikeError, one_line
from leanspike.saved.spec import ModelSpec, Spec, parse

WEIGHTS = "model.safetensors"
SPEC = "spec.json"


def read_model(folder: str | Path) -> ModelSpec | None:
    """Return the model of a saved network, or None for a user's own without a name.

    Raises:
        LeanspikeError: for missing, damaged or foreign files.

    >>> import tempfile
    >>> from torch import nn
    >>> from leanspike.saved import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(read_model(save(nn.Linear(2, 3), folder)))
    None
    """
    return read_spec(Path(folder)).model


def read_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """Return the weights of a saved ANN by name, whatever its network.

    Raises:
        LeanspikeError: for missing, damaged or foreign files, or a spiking network.

    >>> import tempfile
    >>> from torch import nn
    >>> from leanspike.saved import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(read_weights(save(nn.Linear(2, 3), folder)))
    ['bias', 'weight']
    """
    folder = Path(folder)
    spec, weights = read_spec(folder), read_tensors(folder)
    if spec.spike is not None:
        raise LeanspikeError(f"{folder} is a spiking network; give the ANN, as runs/RECIPE/ann")
    check_digest(folder, spec)
    return weights


def weights_digest(folder: str | Path) -> str | None:
    """Return the SHA-256 of the weights from a saved network's spec; None for old files.

    Raises:
        LeanspikeError: for a missing, damaged or foreign spec.

    >>> import tempfile
    >>> from torch import nn
    >>> from leanspike.saved import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(weights_digest(save(nn.Linear(2, 3), folder)))
    64
    """
    return read_spec(Path(folder)).weights_sha256


def read_spec(folder: Path) -> Spec:
    """Return the spec. Raise LeanspikeError if it is missing, damaged or foreign."""
    path = folder / SPEC
    if not path.is_file():
        raise LeanspikeError(f"no model in {folder}: {SPEC} and {WEIGHTS} are expected there")
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise LeanspikeError(f"{path} is damaged or not of leanspike ({one_line(error)})") from None


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights by name. Raise LeanspikeError if they are missing or damaged."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise LeanspikeError(f"no weights at {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        why = one_line(error)
        raise LeanspikeError(f"{path} is damaged ({why}); restore it from a copy") from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(folder: Path, spec: Spec) -> None:
    """Raise LeanspikeError unless the weights are the saved weights, to the bit.

    Files of earlier versions have no digest, and pass.
    """
    if spec.weights_sha256 not in (None, digest_of(folder / WEIGHTS)):
        raise LeanspikeError(
            f"{folder / WEIGHTS} is not the file that {SPEC} was written with; restore both from "
            f"a copy, or take weights_sha256 out of {SPEC} if you changed the weights on purpose"
        )
