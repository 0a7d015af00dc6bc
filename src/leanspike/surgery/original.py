"""The user's network before the surgery: checks of what it must not contain, and copies of it."""

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
"""Wrappers by the name of their class. Importing the classes themselves would import much more."""

REPARAMETRIZED = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm({layer}, {name!r})",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm({layer}, {name!r})",
}
"""Hooks that compute a weight, by the name of their class, and how to make it a weight again."""


def spelled(path: str) -> str:
    """Return the Python expression for the module at that path of a network ``net``.

    >>> spelled("layers.0.conv"), spelled("")
    ('net.layers[0].conv', 'net')
    """
    parts = path.split(".") if path else []
    return "net" + "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts)


def check_original(ann: nn.Module, kept: Collection[Any]) -> None:
    """Raise SurgeryError, with the path, for what tracing would lose.

    These are wrappers, hooks, forwards replaced on an object, weights computed in hooks, and
    parameters without values. The inside of modules of the types ``kept`` is not examined.
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
    """Return a copy that shares nothing with the network. Tensors of a past call are detached.

    Raises:
        SurgeryError: for an attribute that cannot be copied, by its path.
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
    """Yield each module once, without modules of the types ``kept`` and what they hold."""
    if module in seen or type(module) in kept:
        return
    seen.add(module)
    yield path, module
    for name, child in module.named_children():
        yield from _looked_into(child, f"{path}.{name}".lstrip("."), kept, seen)


def _check_wrapper(module: nn.Module, where: str, name: str) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise SurgeryError(
            f"{where}: is TorchScript, which cannot be traced again; give the Python network that "
            "it was made from, with model.load_state_dict(net.state_dict())"
        )
    kind, inner = WRAPPERS.get(type(module).__name__, ("", ""))
    if kind and inner in module._modules:
        instead = f"give {name}.{inner}" if name == "net" else f"say {name} = {name}.{inner}"
        raise SurgeryError(f"{where}: is {kind}, which hides the network inside; {instead}")


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
    """Refuse all hooks: they would be lost, or be called with timesteps among the samples."""
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
    """Whether the module's forward is one of its own methods, which its class chose in __init__.

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
    """Yield the tensors with a graph that modules keep from a call; PyTorch does not copy them."""
    for module in ann.modules():
        for value in vars(module).values():
            if isinstance(value, dict):
                held = list(value.values())
            else:
                held = list(value) if isinstance(value, list | tuple) else [value]
            yield from (t for t in held if isinstance(t, Tensor) and not t.is_leaf)
