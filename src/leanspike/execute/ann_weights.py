"""Loading an ANN's weights into the spiking network made of it, strictly, by the same names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, final

from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.graph.modules import own_state
from leanspike.graph.plan import Plan
from leanspike.temporal import TemporalNorm

COMPILED = "_orig_mod."
"""The prefix of ``torch.compile`` to the names in a module that it wraps."""


@final
class ANNWeights:
    """The entries of an ANN's ``state_dict`` that a spiking network takes.

    Args:
        network: the network of the plan.
        neurons: its modules in the places of activations.
    """

    def __init__(self, network: nn.Module, plan: Plan, neurons: set[nn.Module]) -> None:
        modules = dict(network.named_modules(remove_duplicate=False))
        self.network = network
        self.norms = {path: m for path, m in modules.items() if isinstance(m, TemporalNorm)}
        others = {
            f"{path}.{name}"
            for path, module in modules.items()
            if module in neurons or path in self.norms
            for name in _names(module, path in self.norms)
        }
        state = network.state_dict()
        self.own = {key: value for key, value in state.items() if key not in others}
        self.replaced = set(plan.replaced) - set(self.own)

    def load(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load the ``state_dict``, or raise LeanspikeError and load nothing."""
        _check_tensors(state_dict)
        check_finite(state_dict, {name for name, _ in self.network.named_buffers()})
        fitting = next((s for s in self._readings(state_dict) if self._misfit(s) is None), None)
        if fitting is None:
            raise LeanspikeError(
                f"the ANN's state_dict {self._misfit(state_dict)}; it must come from the "
                "architecture that was converted (with norm='keep')"
            )
        rest, of_norms = self._parts(fitting)
        for path, norm in self.norms.items():
            norm.load_batch_norm(of_norms[path])
        self.network.load_state_dict(rest, strict=False)

    def _parts(
        self, state: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Return the network's own entries, and those of each norm, but not of activations."""
        of_norms = {path: own_state(_below(path, state)) for path in self.norms}
        elsewhere = {f"{path}.{name}" for path, found in of_norms.items() for name in found}
        left = self.replaced | elsewhere
        return {key: value for key, value in state.items() if key not in left}, of_norms

    def _misfit(self, state: Mapping[str, Tensor]) -> str | None:
        """Return in words what does not fit, or None if all does."""
        rest, of_norms = self._parts(state)
        without = {path for path, found in of_norms.items() if not found}
        shaped = {k for k, v in rest.items() if k in self.own and self.own[k].shape != v.shape}
        found = {
            "lacks {} of this network's keys": {*(set(self.own) - set(rest)), *without},
            "has {} that are not this network's": set(rest) - set(self.own),
            "has other shapes for {} of this network's keys": shaped,
        }
        told = [
            f"{what.format(len(keys))}: {_listed(keys)}" for what, keys in found.items() if keys
        ]
        return ", and ".join(told) or None

    def _readings(self, state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """Yield the ``state_dict`` as it is, and with the names of wrappers removed or added."""
        yield state
        inside: dict[str, Tensor] = {k.replace(COMPILED, ""): v for k, v in state.items()}
        if len(inside) < len(state):
            return
        yield inside
        first = _first_part(self.own)
        if first is not None:
            yield {f"{first}.{key}": value for key, value in inside.items()}
        while (prefix := _first_part(inside)) is not None:
            inside = _below(prefix, inside)
            yield inside


def check_finite(state: Mapping[str, Tensor], buffers: Collection[str] = ()) -> None:
    """Raise LeanspikeError, with the name, for an entry that holds NaN or infinity.

    Infinity is allowed in buffers: one may be a mask of minus infinity.

    >>> import torch
    >>> check_finite({"weight": torch.tensor([1.0, float("nan")])})
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: weight: 1 of its 2 entries are NaN or infinite; ...
    """
    for name, value in state.items():
        if not value.is_floating_point() or value.is_meta:
            continue
        bad = value.isnan() if name in buffers else ~value.isfinite()
        if bad.any():
            raise LeanspikeError(
                f"{name}: {int(bad.sum())} of its {bad.numel()} entries are NaN or infinite; give "
                "weights of a training that did not diverge. [k for k, v in net.state_dict()"
                ".items() if not v.isfinite().all()] names all such"
            )


def _check_tensors(state_dict: Any) -> None:
    if isinstance(state_dict, nn.Module):
        raise LeanspikeError(
            "state_dict is a network; give its weights, as snn.load_ann(ann.state_dict())"
        )
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            inner = next((k for k, v in state_dict.items() if isinstance(v, Mapping)), None)
            way = "give a state_dict" if inner is None else f"give the entry {inner!r} alone"
            raise LeanspikeError(f"{key!r} holds a {type(value).__name__}, not a tensor; {way}")


def _names(module: nn.Module, norm: bool) -> Iterable[str]:
    """Return the keys of a module's state. For a norm they exclude its children."""
    state = module.state_dict()
    return own_state(state) if norm else state


def _listed(keys: set[str]) -> str:
    return ", ".join(sorted(keys)[:3]) + (" ..." if len(keys) > 3 else "")


def _first_part(names: Mapping[str, Any]) -> str | None:
    """Return the part before the first dot, if all names share it."""
    firsts = {name.partition(".")[0] if "." in name else None for name in names}
    return firsts.pop() if len(firsts) == 1 else None


def _below(path: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the module at a path, by their names in it."""
    start = f"{path}."
    return {k.removeprefix(start): v for k, v in state_dict.items() if k.startswith(start)}
