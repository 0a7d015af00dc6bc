"""The user's network before the surgery: what it must not bring along, and copies of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune

from leanspike.errors import LeanspikeError, SurgeryError, one_line
from leanspike.execute.ann_weights import check_finite
from leanspike.graph.ops import OPERATIONS, UNKNOWN
from leanspike.modes import hooks_of_all

WRAPPERS = {
    "OptimizedModule": ("a wrapper of torch.compile", "_orig_mod"),
    "DataParallel": ("a wrapper of torch.nn.DataParallel", "module"),
    "DistributedDataParallel": ("a wrapper of DistributedDataParallel", "module"),
}
"""By the name of their class: those of torch.compile and of several processes import much."""

REPARAMETRIZED = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm({layer}, {name!r})",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm({layer}, {name!r})",
}
"""What computes a weight in a hook, by the name of its class, and how it is made a weight again."""


def spelled(path: str) -> str:
    """Return how code calls the module of the network ``net`` at that path.

    >>> spelled("layers.0.conv"), spelled("")
    ('net.layers[0].conv', 'net')
    """
    parts = path.split(".") if path else []
    return "net" + "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts)


def check_original(ann: nn.Module, kept: Collection[Any]) -> None:
    """Raise SurgeryError, by its path, for what tracing would lose.

    Wrappers, forward hooks, forwards replaced on an object, weights computed in hooks, parameters
    without values. What lies within modules of the types ``kept`` is theirs: nobody looks into it.
    """
    _check_parameters(ann)
    _check_values(ann)
    _check_hooks_of_all()
    for path, module in _looked_into(ann, "", kept, set()):
        where, name = f"module {path}" if path else "the network", spelled(path)
        _check_wrapper(module, where, name)
        _check_weights(module, where, name)
        _check_hooks(module, where, name)


def copy_of(ann: nn.Module) -> nn.Module:
    """A copy that shares nothing with the network; tensors of a past call come without its graph.

    Raises:
        SurgeryError: by the path of the attribute that cannot be copied.
    """
    cached = {id(t): t.detach().clone() for t in _cached(ann)}
    try:
        return deepcopy(ann, cached)
    except Exception as error:
        for path, module in ann.named_modules():
            for name, value in vars(module).items():
                if name in ("_modules", "_parameters", "_buffers"):
                    continue
                try:
                    deepcopy(value, {**cached, id(module): None})
                except Exception as reason:
                    raise SurgeryError(
                        f"attribute {f'{path}.{name}'.lstrip('.')}: a {type(value).__name__} "
                        f"cannot be copied ({one_line(reason)[:100]}), and so the network cannot; "
                        f"say {spelled(path)}.{name} = None before spike"
                    ) from error
        raise SurgeryError(
            f"the network cannot be copied ({one_line(error)[:160]}); give one that "
            "copy.deepcopy takes"
        ) from error


def _looked_into(
    module: nn.Module, path: str, kept: Collection[Any], seen: set[nn.Module]
) -> Iterator[tuple[str, nn.Module]]:
    """Each module once, but none of those types and what they hold."""
    if module in seen or type(module) in kept:
        return
    seen.add(module)
    yield path, module
    for name, child in module.named_children():
        yield from _looked_into(child, f"{path}.{name}".lstrip("."), kept, seen)


def _check_wrapper(module: nn.Module, where: str, name: str) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise SurgeryError(
            f"{where}: TorchScript, which cannot be traced again; give the Python network that it "
            "was made from, with model.load_state_dict(net.state_dict())"
        )
    kind, inner = WRAPPERS.get(type(module).__name__, ("", ""))
    if kind and inner in module._modules:
        instead = f"give {name}.{inner}" if name == "net" else f"say {name} = {name}.{inner}"
        raise SurgeryError(f"{where}: {kind}, whose inside is not seen; {instead}")


def _check_weights(module: nn.Module, where: str, layer: str) -> None:
    if parametrize.is_parametrized(module):
        name = next(iter(module.parametrizations))  # type: ignore[arg-type]
        fix = f"torch.nn.utils.parametrize.remove_parametrizations({layer}, {name!r})"
        raise SurgeryError(f"{where}: its {name} is computed by a parametrization; say {fix}")
    for hook in module._forward_pre_hooks.values():
        kind, name = type(hook).__name__, getattr(hook, "name", None)
        if isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            fix = f"torch.nn.utils.prune.remove({layer}, {name!r})"
        elif kind in REPARAMETRIZED:
            fix = REPARAMETRIZED[kind].format(layer=layer, name=name)
        else:
            continue
        raise SurgeryError(f"{where}: its {name} is computed in a hook at each call; say {fix}")


def _check_hooks(module: nn.Module, where: str, name: str) -> None:
    """Hooks would be lost, or called with timesteps among the samples; even those that observe."""
    for kind, hooks in (
        ("forward hook", "_forward_hooks"),
        ("forward pre-hook", "_forward_pre_hooks"),
        ("backward hook", "_backward_hooks"),
        ("backward pre-hook", "_backward_pre_hooks"),
    ):
        if vars(module)[hooks]:
            raise SurgeryError(
                f"{where}: has a {kind}, which the SNN would lose, or call with all timesteps; "
                f"write what it computes into a forward, and say {name}.{hooks}.clear(); what only "
                "looks on can be registered at the SNN"
            )
    for tensor_name, parameter in module._parameters.items():
        for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            if parameter is not None and getattr(parameter, hooks):
                raise SurgeryError(
                    f"{where}: its {tensor_name} has a gradient hook, which a copy does not keep; "
                    f"say {name}.{tensor_name}.{hooks} = None, and register it at the SNN's"
                )
    if "forward" in vars(module) and not _chosen_by_its_class(module):
        raise SurgeryError(
            f"{where}: its forward was replaced on the object, which tracing does not see; say del "
            f"{name}.forward, and write a class with that forward"
        )


def _chosen_by_its_class(module: nn.Module) -> bool:
    """Whether its forward is a method of its own, as a class chooses one in __init__.

    A layer of the table does not count: the table says what its class computes.
    """
    forward = vars(module)["forward"]
    own = isinstance(forward, MethodType) and forward.__self__ is module
    method = getattr(type(module), getattr(forward, "__name__", ""), None)
    return own and method is forward.__func__ and OPERATIONS.kin(type(module)) is UNKNOWN


def _check_hooks_of_all() -> None:
    for kind in hooks_of_all():
        raise SurgeryError(
            f"torch.nn.modules.module: has a {kind}_hook of all modules, which would be called "
            f"with all timesteps; say torch.nn.modules.module._global_{kind}_hooks.clear(), "
            "and register it again after the surgery if it only looks on"
        )


def _check_parameters(ann: nn.Module) -> None:
    for kind in (ann.named_parameters(), ann.named_buffers()):
        for name, tensor in kind:
            if is_lazy(tensor):
                raise SurgeryError(
                    f"{name}: a lazy module has no values yet; call the network once before spike, "
                    "as net(example_input)"
                )
            if tensor.is_meta:
                raise SurgeryError(
                    f"{name}: lies on the meta device and has no values; say "
                    "net.to_empty(device='cpu') and net.load_state_dict(...) before spike"
                )


def _check_values(ann: nn.Module) -> None:
    buffers = dict(ann.named_buffers())
    try:
        check_finite({**dict(ann.named_parameters()), **buffers}, buffers)
    except LeanspikeError as error:
        raise SurgeryError(str(error)) from None


def _cached(ann: nn.Module) -> Iterator[Tensor]:
    """Tensors with a graph that modules keep from a call, which PyTorch does not copy."""
    for module in ann.modules():
        for value in vars(module).values():
            if isinstance(value, dict):
                held = list(value.values())
            else:
                held = list(value) if isinstance(value, list | tuple) else [value]
            yield from (t for t in held if isinstance(t, Tensor) and not t.is_leaf)
