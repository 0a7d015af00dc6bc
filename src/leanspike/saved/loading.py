"""Loading a network from its two files. No code from the files is run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from leanspike.errors import LeanspikeError, one_line
from leanspike.graph.ops import Meaning
from leanspike.models import create_model
from leanspike.models.own import is_own
from leanspike.saved.folder import SPEC, WEIGHTS, check_digest, read_spec, read_tensors
from leanspike.saved.rebuilding import Given, Weights, cast, check_fit, check_same, respike
from leanspike.saved.spec import ModelSpec, Spec
from leanspike.surgery import SpikingNetwork


def load(
    folder: str | Path,
    ann: nn.Module | None = None,
    *,
    activations: Collection[Any] = (),
    ops: Mapping[Any, Meaning] | None = None,
) -> nn.Module:
    """Load an ANN or a :class:`SpikingNetwork` that :func:`leanspike.saved.save` wrote.

    No code from the files is run.

    Args:
        folder: the folder with ``model.safetensors`` and ``spec.json``.
        ann: the user's own architecture, trained or not, if it is not one of leanspike's. Saved
            weights of an ANN are loaded into it. If the files hold a spiking network, a passed ANN
            does not change. A :class:`SpikingNetwork` made by ``leanspike.spike`` may be passed,
            too. The weights are then loaded into it. It must have been made as the saved network
            was.
        activations, ops: as in ``leanspike.spike``, for what the files do not hold. These are
            functions of the user's own, types that are not among the modules of ``ann``, and
            whole rows. Files of the first versions hold none of them.

    Returns:
        The network in eval mode, in the floating-point types that were saved. It is on the CPU;
        an ``ann`` that the weights are loaded into stays on its device.

    Raises:
        LeanspikeError: for missing, damaged or foreign files, another architecture, or a spiking
            network of other settings.

    >>> import tempfile
    >>> from leanspike.saved import save
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     same = load(save(net, folder), ann=nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    >>> torch.equal(same[0].weight, net[0].weight)
    True
    """
    folder = Path(folder)
    spec, weights = read_spec(folder), read_tensors(folder)
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
    check_digest(folder, spec)
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


def _zoo_network(spec: ModelSpec | None, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return the model that a spec describes, if it is about as large as its weights."""
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
        with torch.device("meta"):  # a network of any size takes no memory there
            described = sum(value.numel() for value in build().state_dict().values())
    except NotImplementedError:  # the constructor reads its tensors, as torchvision's RegNet does
        return build()
    held = sum(value.numel() for value in weights.values())
    if described > 2 * held:  # a network with folded norms holds less than described
        raise LeanspikeError(
            f"a {spec.name} of {described:,} values is described, {WEIGHTS} holds {held:,}; "
            "restore them from a copy"
        )
    return build()


def _build(spec: Spec, ann: nn.Module, weights: Weights, given: Given) -> nn.Module:
    """Return the network that a spec describes, before its weights are loaded."""
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
                "it holds an ANN, but a spiking network was passed; use snn.load_ann(load(path, "
                "ann=Net()).state_dict())"
            )
        return ann
    if isinstance(ann, SpikingNetwork):
        check_same(ann, spec.spike)
        return ann
    return respike(ann, spec.spike, weights, given)
