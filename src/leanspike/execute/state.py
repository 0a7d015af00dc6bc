"""The state of a streaming network between two steps: a value that the user holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from warnings import warn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from leanspike.errors import LeanspikeError, one_line
from leanspike.files import atomic, checked_json
from leanspike.synapse import Stream

FORMAT = "leanspike state 1"


@dataclass(frozen=True)
class State:
    """Everything that a streaming network remembers between two steps.

    Attributes:
        steps: the number of steps taken so far.
        neurons: the state of each layer of neurons by its path. A state is a tensor ``[N, ...]``,
            or tuples, lists and dicts of such. It is None for a module without a state. If a
            network lays windows along the batch axis, the windows of each sample lie one after
            another: ``[N*windows, ...]``.
        static: the values that do not depend on time, by name, kept from the first step. Each is
            ``[N, ...]``, too, or has several windows of each sample.
        constants: the values that depend neither on time nor on samples: scales of norms, sizes.
        network: a fingerprint of the network's plan and sizes. Other networks refuse the state.
        batch: the number of samples. It is None for a state made by hand, whose tensors tell it.
        weights: weights in the layout of event-driven convolutions, shared by all steps. They take
            as much memory as the weights themselves.

    >>> state = State(1, {"relu": torch.zeros(4, 8)})
    >>> state.keep(torch.tensor([0, 2])).neurons["relu"].shape
    torch.Size([2, 8])
    """

    steps: int = 0
    neurons: Mapping[str, Any] = field(default_factory=dict)
    static: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    batch: int | None = None
    weights: Stream | None = field(default=None, repr=False, compare=False)

    def keep(self, samples: Tensor) -> State:
        """Return the state of some samples only: a boolean mask ``[N]`` or indices."""
        batch = self.samples()
        if batch is None:
            return self

        def kept(leaf: Any) -> Any:
            if leaf is None or len(leaf) == batch:
                return None if leaf is None else leaf[samples]
            return leaf.unflatten(0, (batch, -1))[samples].flatten(0, 1)

        return replace(
            self,
            neurons=pytree.tree_map(kept, dict(self.neurons)),
            static={name: kept(value) for name, value in self.static.items()},
            batch=len(torch.empty(batch, device=samples.device)[samples]),
        )

    @property
    def membranes(self) -> Mapping[str, Any]:
        """The old name of `neurons`, for one version."""
        warn("State.membranes is State.neurons now", DeprecationWarning, stacklevel=2)
        return self.neurons

    def samples(self) -> int | None:
        """Return N, or None if the state holds nothing."""
        if self.batch is not None:
            return self.batch
        parts = (*self.neurons.values(), *self.static.values())
        leaves = (leaf for part in parts for leaf in pytree.tree_leaves(part))
        return next((len(leaf) for leaf in leaves if leaf is not None), None)

    def save(self, path: str | Path) -> Path:
        """Write the state into a file: tensors as safetensors, all else as JSON in its header.

        Raises LeanspikeError for a place that cannot be written to.

        >>> import tempfile
        >>> state = State(1, {"a": (torch.zeros(2), torch.ones(2))})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = State.load(state.save(Path(folder) / "state.safetensors"))
        >>> again.steps, again.neurons["a"][1].tolist()
        (1, [1.0, 1.0])
        """
        tensors: dict[str, Tensor] = {}
        parts = (dict(self.neurons), dict(self.static), dict(self.constants))
        written = json.dumps(
            [self.steps, self.network, *(_written(part, tensors) for part in parts), self.batch]
        )
        with atomic(Path(path)) as part:
            save_file(tensors, part, {"format": FORMAT, "state": written})
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> State:
        """Read a state that `save` wrote. No code in the file is run.

        Raises:
            LeanspikeError: for a missing, damaged or foreign file.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise LeanspikeError(f"{path} holds no state; write one with state.save(path)")
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            steps, network, *parts = json.loads(checked_json(about["state"]))
            unread = dict(tensors)
            neurons, static, constants = (_read(part, tensors, unread) for part in parts[:3])
            _check_tensors(tensors, unread)
            batch = parts[3] if len(parts) > 3 else None  # the first version did not write it
            return State(int(steps), neurons, static, constants, str(network), batch)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise LeanspikeError(
                f"{path} is missing, damaged or not of leanspike ({one_line(error)}); write it "
                "again with state.save(path)"
            ) from None


def check_state(state: State, network: str, samples: int) -> None:
    """Raise LeanspikeError unless the state has this fingerprint and number of samples."""
    if state.steps > 0 and state.network != network:
        raise LeanspikeError("the state is of another network; begin with state=None")
    held = state.samples()
    if held is not None and held != samples:
        raise LeanspikeError(
            f"input of {samples} samples, but the state holds {held}; keep those of the input "
            "with state.keep(samples)"
        )


def _written(part: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a part of the state as JSON, with its tensors moved into ``tensors``."""
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, Tensor):
        name = str(len(tensors))
        tensors[name] = part.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name, "channels_last": _is_channels_last(part)}
    if isinstance(part, dict):
        return {"dict": {str(key): _written(value, tensors) for key, value in part.items()}}
    if isinstance(part, tuple | list):
        kind = "list" if isinstance(part, list) else "tuple"
        return {kind: [_written(value, tensors) for value in part]}
    raise LeanspikeError(
        f"the state holds a {type(part).__name__}, which cannot be written; neurons may keep "
        "tensors, and tuples, lists and dicts of them"
    )


def _check_tensors(tensors: dict[str, Tensor], unread: dict[str, Tensor]) -> None:
    if unread:
        raise ValueError(f"tensor {next(iter(unread))!r} belongs to nothing")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.isnan().any():
            raise ValueError(f"tensor {name!r} holds NaN")


def _read(part: Any, tensors: dict[str, Tensor], unread: dict[str, Tensor]) -> Any:
    """Return a part of the state. Tensors that it reads are removed from ``unread``."""
    if not isinstance(part, dict):
        return part
    if "tensor" in part:
        tensor = tensors[part["tensor"]]
        unread.pop(part["tensor"], None)
        last = torch.channels_last if part["channels_last"] else torch.contiguous_format
        return tensor.contiguous(memory_format=last)
    if "dict" in part:
        return {key: _read(value, tensors, unread) for key, value in part["dict"].items()}
    kind = tuple if "tuple" in part else list
    values = part["tuple" if kind is tuple else "list"]
    return kind(_read(value, tensors, unread) for value in values)


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
