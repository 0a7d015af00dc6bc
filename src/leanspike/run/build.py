"""Building the objects that a recipe's sections describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leanspike.config import (
    AugmentSection,
    ModelSection,
    Recipe,
    SpikeSection,
    TrainedSection,
    TrainSection,
)
from leanspike.data import Augment, Dataset, EventAugment, load_dataset
from leanspike.data.cross_validation import cross_validation_split
from leanspike.data.split import TaskName, held_out
from leanspike.errors import LeanspikeError
from leanspike.models import create_model
from leanspike.models.new_answer import load_but_answer
from leanspike.models.own import create_own, is_own
from leanspike.models.published import load_published, read_published
from leanspike.neuron import Neuron, NeuronSection, create_neuron
from leanspike.processor import has_bfloat16, warn_of_emulation
from leanspike.recipes import check_named
from leanspike.saved import SPEC, ModelSpec, load, read_model, read_weights
from leanspike.temporal import NormFactory, temporal_norm
from leanspike.train import Around, Teacher, Weighted, create_objective


def choose_device(name: str) -> torch.device:
    """Return the device of that name. "auto" is CUDA if there is any, else the CPU.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise LeanspikeError(f"device {name!r} is not available here; try auto or cpu") from None
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the number type: bfloat16 if asked for, or on "auto" if the hardware computes in it.

    If a CPU only emulates the bfloat16 that was asked for, a warning says so once.

    >>> choose_dtype("float32", torch.device("cpu"))
    torch.float32
    """
    if precision == "bfloat16" and device.type == "cpu" and not has_bfloat16():
        warn_of_emulation()
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def open_data(recipe: Recipe) -> Dataset:
    """Return the recipe's data set, with its own mean and std unless the recipe has others.

    >>> from leanspike.recipes import load_recipe
    >>> open_data(load_recipe("digits")).shape
    (1, 8, 8)
    """
    section = recipe.data
    root = Path(section.root).expanduser() if section.root else None
    data = load_dataset(
        section.name,
        root,
        validation=section.validation,
        mean=section.mean,
        std=section.std,
        options=section.options,
    )
    _check_time(recipe, data)
    if section.cross_validation is not None:
        data = cross_validation_split(data, *section.cross_validation)
    changes: dict[str, Any] = {}
    if section.train_images is not None:
        if section.train_images > len(data.train):
            raise LeanspikeError(
                f"train_images is {section.train_images}; give at most {len(data.train)}, the "
                f"training images of {section.name} besides those held out"
            )
        _, chosen = held_out(data.train.labels, section.train_images)
        changes["train"] = data.train.select(chosen)
    return replace(data, **changes)


def _check_time(recipe: Recipe, data: Dataset) -> None:
    """Check that encoder and timesteps fit the data: sequences have timesteps, images do not."""
    spike = recipe.spike
    if data.frames is None:
        if spike.encode == "frames":
            raise LeanspikeError(f"{data.name} has images; set spike.encode to direct or poisson")
        return
    if spike.encode != "frames":
        raise LeanspikeError(f"{data.name} has sequences; set spike.encode=frames")
    if recipe.ann is not None:
        raise LeanspikeError(f"{data.name} has sequences, which train no ANN; set ann=null")
    steps = {spike.timesteps, *(stage.timesteps or spike.timesteps for stage in recipe.snn)}
    if steps != {data.frames}:
        raise LeanspikeError(
            f"spike.timesteps is {spike.timesteps}, but {data.name} has {data.frames} frames; set "
            f"spike.timesteps={data.frames}, and no other timesteps for a stage"
        )


def build_augment(section: AugmentSection, data: Dataset) -> Augment | EventAugment:
    """Return the augmentation of a data set's training part.

    >>> from leanspike.recipes import load_recipe
    >>> build_augment(AugmentSection(crop=2), open_data(load_recipe("digits")))
    Augment(crop=2, flip=False, cutout=0, border='black')
    """
    if (
        not data.of_images
        and len(data.shape) != 3
        and (section.crop or section.cutout or section.flip)
    ):
        shape = "x".join(map(str, data.shape))
        raise LeanspikeError(
            f"{data.name} has tensors of {shape}, but crop, flip and cutout need rows and columns; "
            "leave data.augment out"
        )
    if data.frames is None:
        if section.shift or section.drop:
            raise LeanspikeError(f"{data.name} has images; shift and drop are for events, use crop")
        augment = Augment(section.crop, section.flip, section.cutout, section.border)
        if len(data.shape) == 3:
            augment.check_fits(*data.shape[1:])
        return augment
    if section.crop or section.cutout or section.border != "black":
        raise LeanspikeError(f"{data.name} has sequences; use shift, flip and drop")
    return EventAugment(section.flip, section.shift, section.drop)


def build_network(section: TrainedSection, data: Dataset, trust: bool = False) -> nn.Module:
    """Return a model for that data, with the weights that the section names.

    Without a name it is the network that leanspike saved in the folder of the weights. A network of
    the user's own, ``package.module:Class``, gets its options only, and is imported with ``trust``
    only.

    >>> from leanspike.recipes import load_recipe
    >>> section = TrainedSection(name="vgg6", options={"width": 0.25})
    >>> type(build_network(section, open_data(load_recipe("digits")))).__name__
    'VGG'
    """
    weights = find_weights(section)
    if section.name is None:
        if weights is None or not weights.is_dir():
            raise LeanspikeError(f"{weights} does not name its network; give model.name")
        check_named(weights)
        return load(weights)
    spec = model_spec(section, data)
    if is_own(spec.name):
        network = create_own(spec.name, spec.options, trust)
    else:
        network = create_model(
            spec.name,
            spec.num_classes,
            in_channels=spec.in_channels,
            image_size=spec.image_size,
            **spec.options,
        )
    if weights is None:
        return network
    if isinstance(section, ModelSection) and section.new_answer:
        theirs = read_weights(weights) if weights.is_dir() else read_published(weights)
        load_but_answer(network, theirs, weights)
        return network
    if weights.is_dir():
        _check_saved(weights, spec, data)
        return load(weights, network)
    load_published(network, weights)
    return network


def _check_saved(folder: Path, wanted: ModelSpec, data: Dataset) -> None:
    """Check that a saved network was made for as many classes and channels."""
    saved = read_model(folder)
    if saved is None:
        return
    theirs, ours = (
        f"{spec.num_classes} classes and images of {spec.in_channels} channels"
        for spec in (saved, wanted)
    )
    if theirs != ours:
        raise LeanspikeError(
            f"{folder} is a network for {theirs}, but {data.name} has {ours}; give one that was "
            "trained on such data, leave the weights out, or begin with all but its answer layer "
            "(model.new_answer=true)"
        )


def find_weights(section: TrainedSection) -> Path | None:
    """Return the file or folder of a network's weights, or None if the section names none.

    >>> find_weights(TrainedSection(name="vgg6", weights="runs/nowhere/ann"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no weights at runs/nowhere/ann; train that network first ...
    """
    if section.weights is None:
        return None
    path = Path(section.weights).expanduser()
    if not path.exists():
        raise LeanspikeError(
            f"no weights at {path}; train that network first (leanspike train RECIPE) and give its "
            "folder, as runs/RECIPE/ann, or give a file of published weights"
        )
    if not (path / SPEC).is_file() and (path / "ann" / SPEC).is_file():
        raise LeanspikeError(f"{path} is a whole run; give its network, as {path / 'ann'}")
    return path


def model_spec(section: TrainedSection, data: Dataset) -> ModelSpec:
    """Return the specification from which that network for that data can be built again.

    >>> from leanspike.recipes import load_recipe
    >>> model_spec(TrainedSection(name="vgg6"), open_data(load_recipe("digits"))).image_size
    8
    """
    channels, size = data.shape[0], data.shape[-1] if len(data.shape) > 1 else 1
    assert section.name is not None
    return ModelSpec(
        name=section.name,
        num_classes=data.answer_shape[0],
        in_channels=channels,
        image_size=size,
        options=section.options,
    )


def build_neuron(section: NeuronSection) -> Neuron:
    """Return the neuron that a section describes.

    >>> build_neuron(NeuronSection(threshold=2.0, leak=0.5)).leak.item()
    0.5
    """
    return create_neuron(section.name, section.options)


def build_norm(section: SpikeSection) -> str | NormFactory:
    """Return the argument ``norm`` of ``leanspike.spike`` for a section.

    >>> build_norm(SpikeSection(norm="fold"))
    'fold'
    >>> build_norm(SpikeSection(norm="bntt", norm_options={"bias": True}))(8, 5)
    BNTT(8, timesteps=5, bias=True, eps=0.0001, momentum=0.1, synchronise=False)
    """
    if section.norm not in ("keep", "fold"):
        threshold = section.neuron.options.get("threshold", 1.0)
        return temporal_norm(section.norm, section.norm_options, threshold)
    if section.norm_options:
        raise LeanspikeError(f"norm {section.norm} has no options; remove norm_options")
    return section.norm


def build_objective(
    section: TrainSection,
    network: nn.Module,
    teacher: Callable[[], Teacher],
    x: Tensor,
    task: TaskName | None = None,
) -> Weighted:
    """Return the objective of a stage. ``teacher`` is called once, and only if a term needs it.

    ``task`` is the task of the labels. If it is None, the labels of the first batch tell it.

    >>> objective = build_objective(TrainSection(epochs=1), nn.Linear(2, 3), Teacher, torch.ones(1))
    >>> objective.weights, objective.objectives[0].readout
    ((1.0,), 'sum')
    """
    around = Around(network, x, cache(teacher), section.readout, section.label_smoothing, task)
    return create_objective(section.objective.terms, around)
