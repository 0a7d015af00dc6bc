"""The models: plain PyTorch networks, by name.

A new architecture is one function (or class) and one row in :data:`MODELS`. In your own package an
entry point in the group ``leanspike.models`` replaces the row. Its first argument is
``num_classes``. All others are keyword-only, typed, and have a default if one makes sense. The
typed arguments are its options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic import create_model as section_from
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.airbench import Airbench94
from leanspike.models.answer import Answer
from leanspike.models.cifar_resnet import (
    CifarResNet,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
)
from leanspike.models.mlp import MLP
from leanspike.models.published import load_published
from leanspike.models.pyramidnet import PyramidNet, pyramidnet18
from leanspike.models.resnet import ResNet, ResNet18, resnet12, resnet20
from leanspike.models.vggs import (
    VGG,
    mnist_net,
    vgg,
    vgg6,
    vgg9,
    vgg9_bntt,
    vgg11,
    vgg11_bntt,
    vgg16,
)
from leanspike.models.whitening import StartsFromImages, whitening_filters
from leanspike.models.wide_resnet import WideResNet, wrn16_2, wrn28_4
from leanspike.optional import import_optional
from leanspike.registry import Registry
from leanspike.section import Section
from leanspike.synapse import step_around

__all__ = [
    "MLP",
    "MODELS",
    "VGG",
    "Airbench94",
    "Answer",
    "CifarResNet",
    "PyramidNet",
    "ResNet",
    "ResNet18",
    "StartsFromImages",
    "WideResNet",
    "check_options",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "create_model",
    "load_published",
    "mnist_net",
    "models",
    "pyramidnet18",
    "resnet12",
    "resnet20",
    "vgg",
    "vgg6",
    "vgg9",
    "vgg9_bntt",
    "vgg11",
    "vgg11_bntt",
    "vgg16",
    "whitening_filters",
    "wrn16_2",
    "wrn28_4",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "airbench94": Airbench94,
    "cifar_resnet20": cifar_resnet20,
    "cifar_resnet32": cifar_resnet32,
    "cifar_resnet44": cifar_resnet44,
    "cifar_resnet56": cifar_resnet56,
    "mlp": MLP,
    "mnist_net": mnist_net,
    "pyramidnet18": pyramidnet18,
    "resnet12": resnet12,
    "resnet18": ResNet18,
    "resnet20": resnet20,
    "vgg": vgg,
    "vgg6": vgg6,
    "vgg9": vgg9,
    "vgg9_bntt": vgg9_bntt,
    "vgg11": vgg11,
    "vgg11_bntt": vgg11_bntt,
    "vgg16": vgg16,
    "wrn16_2": wrn16_2,
    "wrn28_4": wrn28_4,
}

TORCHVISION = "torchvision/"
OF_THE_DATA = ("num_classes", "in_channels", "image_size")
"""The arguments that follow from the data and are not options."""


def _config(build: Callable[..., nn.Module]) -> type[Section]:
    """Return the options of a network: its typed arguments without those of the data."""
    fields: dict[str, Any] = {
        name: (
            parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in inspect.signature(build, eval_str=True).parameters.items()
        if name not in OF_THE_DATA
    }
    return section_from("Options", __base__=Section, **fields)


models: Registry[nn.Module] = Registry("model", "leanspike.models", _config, table=MODELS)


def create_model(
    name: str, num_classes: int, *, in_channels: int = 3, image_size: int = 32, **options: object
) -> nn.Module:
    """Build a network by its name in :data:`MODELS`, or ``"torchvision/NAME"``, untrained.

    Args:
        name: the name of the architecture.
        num_classes: the number of logits, at least 1.
        in_channels: the channels of the images; a torchvision network takes 3.
        image_size: the pixels per side; not passed to a network without that argument.
        options: further arguments of that architecture, from Python or YAML. A list stands for a
            tuple. Names and types are checked against the signature.

    Raises:
        LeanspikeError: for an unknown name or option (with the nearest valid one), or an option of
            another type or out of range. Also if torchvision is needed and not installed.

    >>> net = create_model("vgg9", 10, in_channels=1, image_size=28, width=0.125)
    >>> sum(weight.numel() for weight in net.parameters())
    407240
    >>> create_model("vgg99", 10)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no model 'vgg99'; did you mean 'vgg9'?
    """
    if name.startswith(TORCHVISION):
        network = _torchvision_model(name, num_classes, in_channels, options)
    else:
        network = _zoo_model(name, num_classes, in_channels, image_size, options)
    step_around(network)
    return network


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise LeanspikeError unless a model of that name exists and takes these options.

    Networks of torchvision check their options themselves, when they are built.

    >>> check_options("vgg9", {"widht": 2})
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: model vgg9 has no option 'widht'; did you mean 'width'?
    """
    if not name.startswith(TORCHVISION):
        _arguments(_find(name), name, {"num_classes": 1, **options})


def _find(name: str) -> Callable[..., nn.Module]:
    if name not in models:
        raise LeanspikeError(f"no model {name!r}; {_nearest(name, models.names())}")
    return models.find(name)


def _zoo_model(
    name: str, num_classes: int, in_channels: int, image_size: int, options: dict[str, object]
) -> nn.Module:
    build = _find(name)
    parameters = inspect.signature(build).parameters
    data = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    known = {key: value for key, value in data.items() if key in parameters}
    return build(**_arguments(build, name, known | options))


def _arguments(
    build: Callable[..., nn.Module], name: str, given: dict[str, object]
) -> dict[str, object]:
    """Return the given arguments, after checking their names and types and that none is missing."""
    parameters = inspect.signature(build, eval_str=True).parameters
    for option, value in given.items():
        if option not in parameters:
            raise LeanspikeError(
                f"model {name} has no option {option!r}; {_own(option, parameters)}"
            )
        _check_type(name, option, value, parameters[option].annotation)
    for option, parameter in parameters.items():
        needed = parameter.default is parameter.empty and option not in OF_THE_DATA
        if needed and option not in given:
            raise LeanspikeError(f"model {name} needs the option {option!r}; give it a value")
    return given


def _check_type(model: str, option: str, value: object, annotation: Any) -> None:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        raise LeanspikeError(
            f"option {option!r} of model {model} is {value!r}: {error.errors()[0]['msg']}"
        ) from None


def _own(wrong: str, parameters: Iterable[str]) -> str:
    """Return the option that is meant, if one is like it, else all that are not the data's.

    >>> _own("widht", ["num_classes", "width"]), _own("layers", ["num_classes"])
    ("did you mean 'width'?", 'it has none')
    """
    valid = [name for name in parameters if name not in OF_THE_DATA]
    close = get_close_matches(wrong, valid, n=1, cutoff=0.65)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid are {', '.join(valid)}" if valid else "it has none"


def _nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return the valid name that is most like the wrong one, as a question."""
    return f"did you mean {get_close_matches(wrong, valid, n=1, cutoff=0.0)[0]!r}?"


def _torchvision_model(
    name: str, num_classes: int, in_channels: int, options: dict[str, object]
) -> nn.Module:
    models = import_optional("torchvision.models", "vision")
    own = name.removeprefix(TORCHVISION)
    valid = models.list_models(module=models)
    if own not in valid:
        nearest = _nearest(name, [TORCHVISION + known for known in valid])
        raise LeanspikeError(f"no model {name!r}; {nearest}")
    if in_channels != 3:
        raise LeanspikeError(
            f"model {name} takes 3 channels, not {in_channels}; choose another one"
        )
    try:
        model: nn.Module = models.get_model(own, weights=None, num_classes=num_classes, **options)
    except (TypeError, ValueError) as error:
        raise LeanspikeError(f"model {name} does not take {options}: {error}") from None
    return model
