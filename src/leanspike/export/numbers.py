"""Reading NIR's neurons as records: their differential equations in steps of dt, by Euler's rule.

    IF        v ← v + dt·r·x
    LIF       v ← (1 − dt/τ)·v + (dt/τ)·r·x
    CubaLIF   i ← (1 − dt/τ_syn)·i + (dt/τ_syn)·w_in·x,   v ← (1 − dt/τ_mem)·v + (dt/τ_mem)·r·i
    Threshold o = 1[x > threshold]

The factor of the input goes into the threshold. If r of an IF is 1, dt is left out, as in all
readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.neuron import NeuronRecord

Numbers = NDArray[np.float64]
NEURONS = ("IF", "LIF", "CubaLIF", "Threshold")


@dataclass(frozen=True)
class Reading:
    """The meaning of a file's numbers: dt in seconds, the reset, and the rule of leaks."""

    dt: float
    reset: Literal["soft", "hard"]
    decay: Literal["euler", "exponential"] = "euler"


def record_of(
    name: str, kind: str, node: Any, reading: Reading, shape: tuple[int, ...]
) -> NeuronRecord:
    """Return the record of a layer of NIR's neurons of the primitive ``kind``.

    Raises LeanspikeError for numbers that leanspike's neurons cannot have.
    """
    fields = {field: _finite(name, field, value) for field, value in _fields(node).items()}
    for field in ("v_leak", "v_reset"):
        if np.any(fields.get(field, 0.0)):
            raise LeanspikeError(
                f"node {name}: {field} is not 0, but leanspike's neurons rest and reset at 0; "
                f"shift the node's v_threshold by it, and write it with {field} = 0"
            )
    reset = _said(node).get("reset", reading.reset)
    if reset not in ("soft", "hard"):
        raise LeanspikeError(f"node {name}: its metadata says reset {reset!r}; write soft or hard")
    floor = _said(node).get("floor")
    v, leak, synapse = _values(name, kind, fields, reading)
    if np.any(v <= 0):
        raise LeanspikeError(f"node {name}: a threshold is {v.min():g}; give one above 0")
    numbers = [_tensor(value) for value in (v, leak, synapse)]
    for value in numbers:
        fits = all(own in (1, side) for own, side in zip(value.shape, shape, strict=False))
        if value.ndim and (value.ndim != len(shape) or not fits):
            raise LeanspikeError(
                f"node {name}: its numbers have the shape {tuple(value.shape)}, but {shape} "
                "arrive; write one for each neuron"
            )
    low = None if floor is None else _number(name, floor)
    return NeuronRecord(numbers[0], numbers[1], numbers[2], reset, floor=low)


def _fields(node: Any) -> dict[str, Any]:
    names = ("r", "tau", "tau_mem", "tau_syn", "w_in", "v_leak", "v_reset")
    found = {name: vars(node)[name] for name in names if vars(node).get(name) is not None}
    threshold = vars(node).get("v_threshold", vars(node).get("threshold"))
    return {**found, "v_threshold": threshold}


def _values(
    name: str, kind: str, fields: dict[str, Numbers], reading: Reading
) -> tuple[Numbers, Numbers, Numbers]:
    """Return threshold, leak, and leak of the synapse."""
    v, none = fields["v_threshold"], np.zeros_like(fields["v_threshold"])
    if kind == "Threshold":
        return v, none, none
    if kind == "IF":
        gain = np.where(fields["r"] == 1, 1.0, fields["r"] * reading.dt)
        return v / _positive(name, gain), none + 1, none
    if kind == "LIF" and reading.decay == "exponential":
        with np.errstate(divide="ignore"):
            return v, np.exp(-1 / fields["tau"]), none
    if kind == "CubaLIF" and reading.decay == "exponential":
        return _decayed(name, fields, reading)
    membrane = _share(name, "tau" if kind == "LIF" else "tau_mem", fields, reading)
    gain = fields["r"] * membrane
    if kind == "LIF":
        return v / _positive(name, gain), 1 - membrane, none
    synapse = _share(name, "tau_syn", fields, reading)
    return v / _positive(name, gain * fields["w_in"]), 1 - membrane, 1 - synapse


def _decayed(
    name: str, fields: dict[str, Numbers], reading: Reading
) -> tuple[Numbers, Numbers, Numbers]:
    """Return threshold and leaks of i ← β·(i + w_in·x), v ← α·v + i, which is Rockpool's form."""
    with np.errstate(divide="ignore", over="ignore"):
        leak, synapse = (np.exp(-reading.dt / fields[tau]) for tau in ("tau_mem", "tau_syn"))
    gain = fields["w_in"] * synapse / np.where(synapse < 1, 1 - synapse, np.nan)
    return fields["v_threshold"] / _positive(name, gain), leak, synapse


def _share(name: str, field: str, fields: dict[str, Numbers], reading: Reading) -> Numbers:
    """Return dt/τ, the share of the membrane that leaks in a step."""
    with np.errstate(divide="ignore"):
        share: Numbers = reading.dt / fields[field]
    if np.any(share < 0) or np.any(share > 1 + 1e-9):
        raise LeanspikeError(
            f"node {name}: {field} is {fields[field].min():g} s, shorter than a step of dt = "
            f"{reading.dt:g} s; give the dt that it was written with, as "
            f"dt={fields[field].min():g} or less (Norse writes its times in units of dt: dt=1e-6)"
        )
    return np.minimum(share, 1.0)


def _positive(name: str, gain: Numbers) -> Numbers:
    if not np.all(gain > 0):
        raise LeanspikeError(
            f"node {name}: its input is multiplied by {gain.min():g}; put that into the weights "
            "before it, and give an r and w_in above 0"
        )
    return gain


def _number(name: str, floor: Any) -> float:
    """Return the floor in a file as a number."""
    try:
        return float(floor)
    except (TypeError, ValueError):
        raise LeanspikeError(
            f"node {name}: its metadata says floor {floor!r}; write a number, in thresholds"
        ) from None


def _finite(name: str, field: str, value: Any) -> Numbers:
    found = np.asarray(value, dtype=np.float64)
    if not np.isfinite(found).all():
        raise LeanspikeError(f"node {name}: {field} is not finite; write numbers")
    return found


def _said(node: Any) -> dict[str, Any]:
    """Return the metadata of a node, with text decoded."""
    found = node.metadata if isinstance(node.metadata, dict) else {}
    return {key: v.decode() if isinstance(v, bytes) else v for key, v in found.items()}


def _tensor(values: Numbers) -> Tensor:
    """Return values as the fewest numbers: one, one for each channel, or all."""
    if (values == values.reshape(-1)[0]).all():
        return torch.tensor(values.reshape(-1)[0], dtype=torch.float32)
    first = values.reshape(len(values), -1)[:, :1]
    if values.ndim > 1 and (values.reshape(len(values), -1) == first).all():
        values = first.reshape(-1, *[1] * (values.ndim - 1))
    return torch.tensor(values, dtype=torch.float32)
