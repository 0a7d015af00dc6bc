"""Reading published weights from a file without running code in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from leanspike.errors import LeanspikeError

WRAPPER = "module."  # nn.DataParallel puts it before every name


def load_published(model: nn.Module, path: str | Path) -> None:
    """Copy the trained weights in the file ``path`` into ``model``, all of them or none.

    The file holds a ``state_dict`` saved by ``torch.save``, bare or under the key
    ``"state_dict"``. A ``module.`` before every name is dropped. Names and shapes must be exactly
    those of ``model``. Only the norms' counters ``num_batches_tracked`` may be absent: older
    files lack them, and inference does not use them.

    Raises:
        LeanspikeError: if the file is missing or damaged, or belongs to another network. Also if
            it holds more than plain data and tensors. Such a file could run code when opened, so
            it is not opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.pt"
    ...     torch.save({"state_dict": {"module.weight": torch.ones(1, 2)}}, path)
    ...     layer = nn.Linear(2, 1, bias=False)
    ...     load_published(layer, path)
    >>> layer.weight.tolist()
    [[1.0, 1.0]]
    """
    weights = read_published(path)
    difference = _first_difference(model.state_dict(), weights)
    if difference:
        raise LeanspikeError(
            f"{path} holds the weights of another network ({difference}); "
            "build the network they were trained in"
        )
    model.load_state_dict(weights)


def read_published(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the named tensors in a file that :func:`load_published` accepts.

    >>> read_published("nowhere.pt")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no file at nowhere.pt; give the path of the published weights
    """
    weights = _read(Path(path))
    if all(name.startswith(WRAPPER) for name in weights):
        return {name.removeprefix(WRAPPER): value for name, value in weights.items()}
    return weights


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return the named tensors in a file, without the containers around them."""
    if not path.is_file():
        raise LeanspikeError(f"no file at {path}; give the path of the published weights")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a flipped byte in a pickle can raise nearly anything
        raise LeanspikeError(
            f"{path} is damaged or not a file of plain tensors ({type(error).__name__}); "
            "download it again, or save its state_dict alone with torch.save"
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not (isinstance(content, Mapping) and content) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise LeanspikeError(
            f"{path} holds no state_dict but {type(content).__name__}; "
            "give a file that maps names to tensors, bare or under the key 'state_dict'"
        )
    return dict(content)


def _first_difference(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]
) -> str | None:
    """Return in words the first difference of two sets of weights, or None."""
    for name, tensor in expected.items():
        if name not in found:
            if name.endswith("num_batches_tracked"):
                continue
            return f"{name} is missing"
        if found[name].shape != tensor.shape:
            return f"{name} is {list(found[name].shape)}, not {list(tensor.shape)}"
    for name in found:
        if name not in expected:
            return f"{name} has no place there"
    return None
