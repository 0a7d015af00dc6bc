"""A user's own network by name, ``package.module:Class``, which is imported only if trusted.

Importing a module runs its code. Nothing here imports a module unless the caller gives ``trust``.
Without ``trust`` the error says what would be imported, and from where.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any

from torch import nn

from leanspike.errors import LeanspikeError, one_line

FORM = "package.module:Class, as in mynet:Net"


def is_own(name: str | None) -> bool:
    """Return whether a model's name is that of a user's own network.

    >>> is_own("mynet:Net"), is_own("vgg9"), is_own("torchvision/resnet18")
    (True, False, False)
    """
    return name is not None and ":" in name


def find_own(name: str, options: Mapping[str, object], trust: bool) -> Callable[..., nn.Module]:
    """Import the class of ``nn.Module``, or the function that returns a network, of that name.

    Args:
        name: ``package.module:Class``.
        options: the arguments of the later call, for the message.
        trust: whether its code may run.

    Raises:
        LeanspikeError: for a name of another form, without ``trust``, or if there is no such class.

    >>> find_own("torch.nn:Linear", {"in_features": 2}, trust=True).__name__
    'Linear'
    >>> find_own("torch.nn:Linear", {"in_features": 2}, trust=False)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: model torch.nn:Linear would import torch.nn (...nn/__init__.py)
    and call Linear(in_features=2): that runs code; add --trust if you trust it ...
    """
    module_name, attribute = _parts(name)
    if not trust:
        place = _origin(module_name)
        what = module_name if place is None else f"{module_name} ({place})"
        call = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise LeanspikeError(
            f"model {name} would import {what} and call {attribute}({call}): that runs code; add "
            "--trust if you trust it (in Python: Run(..., trust=True))"
        )
    module = _import(module_name)
    found: Any = getattr(module, attribute, None)
    is_class = isinstance(found, type) and issubclass(found, nn.Module)
    if not is_class and not inspect.isfunction(found):
        place = getattr(module, "__file__", None) or "built in"
        raise LeanspikeError(
            f"model {name}: {module_name} ({place}) has no class of nn.Module called {attribute}, "
            "and no function; name one that it has"
        )
    build: Callable[..., nn.Module] = found
    return build


def create_own(name: str, options: Mapping[str, Any], trust: bool) -> nn.Module:
    """Build a user's own network as ``Class(**options)``, with the weights that its class sets.

    It gets no facts of the data. All that its constructor needs is in ``options``.

    Raises:
        LeanspikeError: as :func:`find_own`, for options that it does not take, or if it fails.

    >>> create_own("torch.nn:Linear", {"in_features": 2, "out_features": 3}, trust=True)
    Linear(in_features=2, out_features=3, bias=True)
    """
    build = find_own(name, options, trust)
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        raise LeanspikeError(
            f"model {name} does not take model.options={dict(options)} ({one_line(error)}); it is "
            f"{build.__name__}{_signature(build)}"
        ) from None
    try:
        network = build(**options)
    except Exception as error:  # a user's code may raise anything
        raise _failed(f"model {name} cannot be built", error) from error
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise LeanspikeError(f"model {name} returns a {kind}; let it return an nn.Module")
    return network


def _parts(name: str) -> tuple[str, str]:
    module, _, attribute = name.partition(":")
    names = [*module.split("."), attribute]
    if not all(part.isidentifier() for part in names):
        raise LeanspikeError(f"model.name is {name!r}; write {FORM}")
    if module.endswith(".py"):
        module = module.removesuffix(".py")
        raise LeanspikeError(f"model.name is {name!r}; leave out .py: {module}:{attribute}")
    return module, attribute


def _signature(build: Callable[..., object]) -> str:
    """Return the arguments and their defaults, without types."""
    signature = inspect.signature(build)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def _origin(module: str) -> str | None:
    """Return the file that an import of ``module`` would run, without importing its packages."""
    path = [*sys.path] if sys.flags.safe_path else [os.getcwd(), *sys.path]
    *packages, last = module.split(".")
    for part in packages:
        path = [folder for place in path if os.path.isdir(folder := os.path.join(place, part))]
    spec = PathFinder.find_spec(last, path)
    return None if spec is None else spec.origin


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise LeanspikeError(
                f"no module {error.name!r} in {os.getcwd()} or on Python's path; go to the folder "
                "that holds it, or set PYTHONPATH to that"
            ) from None
        raise _failed(f"importing {name} failed", error) from error
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise _failed(f"importing {name} failed", error) from error


def _failed(what: str, error: BaseException) -> LeanspikeError:
    """Return the error of a user's code in one line, with the line of code that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.filename}, line {place.lineno}"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return LeanspikeError(f"{what} ({why}; {where}); mend it there")
