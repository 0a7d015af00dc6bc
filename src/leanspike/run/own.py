"""The user's own networks in a run: importing trusted ones, and trying them on a blank input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leanspike.config import Recipe, TrainedSection
from leanspike.data import Dataset
from leanspike.errors import LeanspikeError, one_line
from leanspike.execute import SpikingNetwork
from leanspike.models.own import find_own, is_own
from leanspike.modes import eval_mode


def own_sections(recipe: Recipe) -> list[TrainedSection]:
    """Return the sections of the user's own networks in a recipe, the ANN's and the teacher's.

    >>> from leanspike.recipes import load_recipe
    >>> [section.name for section in own_sections(load_recipe("digits", ["model.name=mynet:Net"]))]
    ['mynet:Net']
    """
    teacher = [] if recipe.teacher is None else [recipe.teacher.model]
    return [section for section in (recipe.model, *teacher) if is_own(section.name)]


def import_own(recipe: Recipe, trust: bool) -> None:
    """Import the user's own networks, before anything else is done.

    Raises:
        LeanspikeError: without ``trust``, with what would be imported; or if the import fails.

    >>> from leanspike.recipes import load_recipe
    >>> import_own(load_recipe("digits"), trust=False)
    >>> import_own(load_recipe("digits", ["model.name=mynet:Net"]), trust=False)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: model mynet:Net would import mynet and call Net(): ...
    """
    for section in own_sections(recipe):
        find_own(section.name or "", section.options, trust)


def check_answers(network: nn.Module, name: str, data: Dataset, x: Tensor) -> None:
    """Check that a network takes the data's images and gives an output for each class.

    Args:
        network: the network. One that spikes is not checked.
        name: the network's name for messages.
        x: a blank input, ``[1, C, H, W]``, or ``[T, 1, C, H, W]`` for sequences.

    Raises:
        LeanspikeError: if it does not.

    >>> from leanspike.data import load_dataset
    >>> data, x = load_dataset("digits"), torch.zeros(1, 1, 8, 8)
    >>> check_answers(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), "mynet:Net", data, x)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: model mynet:Net has outputs of shape [1, 2] for one image, but
    digits has 10 classes; make it give [1, 10], by its model.options or in its class
    """
    if isinstance(network, SpikingNetwork):
        return
    y = _ask(network, name, x)
    shapes = [(1, *data.answer_shape)] + [(1,)] * (data.answer_shape == (1,))
    if not isinstance(y, Tensor) or y.shape not in shapes:
        found = f"shape {list(y.shape)}" if isinstance(y, Tensor) else f"type {type(y).__name__}"
        asked = f"{len(data.classes)} classes" if data.classes else "targets that are numbers"
        raise LeanspikeError(
            f"model {name} has outputs of {found} for one image, but {data.name} has {asked}; make "
            f"it give {list(shapes[0])}, by its model.options or in its class"
        )


def ask_own(network: nn.Module, name: str | None, x: Tensor) -> None:
    """Check that a user's own network takes the input, whatever its output is.

    >>> ask_own(nn.Linear(2, 3), "mynet:Net", torch.zeros(1, 1, 8, 8))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: model mynet:Net does not take images of 1 channel, 8x8 ...
    """
    if name is not None and is_own(name):
        _ask(network, name, x)


def takes_channels_last(network: nn.Module, x: Tensor) -> bool:
    """Return whether a network that takes contiguous input takes channels_last, too.

    The answer is True for a network that fails on contiguous input, too.

    >>> class Viewed(nn.Module):
    ...     def forward(self, x):
    ...         return x.view(len(x), -1)
    >>> x = torch.zeros(1, 3, 8, 8)
    >>> takes_channels_last(nn.Flatten(), x), takes_channels_last(Viewed(), x)
    (True, False)
    """
    x = _one_step(x)
    with torch.no_grad(), eval_mode(network):
        try:
            network(x)
        except Exception:
            return True
        try:
            network.to(memory_format=torch.channels_last)(
                x.contiguous(memory_format=torch.channels_last)
            )
        except RuntimeError:
            return False
    return True


def _one_step(x: Tensor) -> Tensor:
    """Return the network's input at one step of a sequence."""
    return x[0] if x.dim() == 5 else x


def _ask(network: nn.Module, name: str, x: Tensor) -> object:
    x = _one_step(x)
    try:
        with torch.no_grad(), eval_mode(network):
            return network.to(x.device)(x)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a user's code may raise anything
        channels, *sides = x.shape[1:]
        size = ", " + "x".join(map(str, sides)) if sides else ""
        plural = "" if channels == 1 else "s"
        raise LeanspikeError(
            f"model {name} does not take images of {channels} channel{plural}{size} "
            f"({one_line(error)}); make it take them, by its model.options or in its class"
        ) from error
