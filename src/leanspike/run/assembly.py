"""Assembling the parts of a recipe: data, networks and loaders, on the run's device."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import final

import torch
from rich.console import Console
from torch import Tensor, nn

from leanspike.config import Recipe, TrainedSection
from leanspike.data import Loader, Split
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.models.own import create_own, is_own
from leanspike.run.build import (
    build_augment,
    build_network,
    build_neuron,
    build_norm,
    choose_device,
    choose_dtype,
    model_spec,
    open_data,
)
from leanspike.run.first_weights import start_from_images
from leanspike.run.own import import_own, own_sections, takes_channels_last
from leanspike.saved import load, save
from leanspike.surgery import SpikingNetwork, spike
from leanspike.temporal import create_encoder
from leanspike.train import Teacher, renormalise


@final
class Assembly:
    """Makes the parts of a recipe. It trains nothing, and writes only what it is told to save.

    Args:
        recipe: the recipe.
        console: the console for notes to the user.
        trust: whether networks of the user's own, ``package.module:Class``, may be imported.

    Raises:
        LeanspikeError: if the recipe names such a network without ``trust``, or if data or device
            are not there.
    """

    def __init__(self, recipe: Recipe, console: Console, trust: bool = False) -> None:
        self.recipe = recipe
        self.console = console
        self.trust = trust
        import_own(recipe, trust)
        self.device = choose_device(recipe.device)
        self.dtype = choose_dtype(recipe.precision, self.device)
        self.data = open_data(recipe)

    @cached_property
    def memory_format(self) -> torch.memory_format:
        """The layout channels_last, which is fast, unless a user's network cannot take it."""
        if len(self.data.shape) != 3:
            return torch.contiguous_format
        for section in own_sections(self.recipe):
            network = create_own(section.name or "", section.options, self.trust)
            if not takes_channels_last(network.to(self.device), self.blank()):
                self.console.print(
                    f"model {section.name} takes no images in channels_last, the faster layout "
                    "(a view of them?): the run keeps them contiguous",
                    highlight=False,
                    soft_wrap=True,
                )
                return torch.contiguous_format
        return torch.channels_last

    def check_data(self) -> None:
        """Check that the images can be read, and that the recipe's augmentation fits them."""
        for split in (self.data.train, self.data.val, self.data.test):
            split.prepare()
        build_augment(self.recipe.data.augment, self.data)

    def blank(self) -> Tensor:
        """Return an input of one sample, all zeros."""
        frames = () if self.data.frames is None else (self.data.frames,)
        return torch.zeros(*frames, 1, *self.data.shape, device=self.device)

    def loader(
        self,
        split: Split,
        batch_size: int,
        train: bool = False,
        group: Group = ALONE,
        micro_batches: int = 1,
    ) -> Loader:
        """Return batches of a split as the networks take them. ``train`` shuffles and augments.

        Each process of a ``group`` gets its part, see :class:`leanspike.data.Loader`.
        """
        return Loader(
            split,
            batch_size=batch_size,
            mean=self.data.mean,
            std=self.data.std,
            seed=self.recipe.seed,
            train=train,
            augment=build_augment(self.recipe.data.augment, self.data) if train else None,
            memory_format=self.memory_format,
            device=self.device,
            workers=self.recipe.data.workers,
            group=group,
            micro_batches=micro_batches,
        )

    def ann(self) -> nn.Module:
        """Return the recipe's network, with the weights that the recipe names."""
        return self._build(self.recipe.model)

    def untrained(self) -> nn.Module:
        """Return the recipe's network, without the weights that the recipe names."""
        return self._build(self.recipe.model.model_copy(update={"weights": None}))

    def begun(self, network: nn.Module) -> nn.Module:
        """Return the same network, made without weights, as its training begins.

        If it asks for training images, it has taken its first weights from them.
        """
        start_from_images(network, self.data)
        return network

    def spiking(self, ann: nn.Module) -> SpikingNetwork:
        """Return the spiking network of an ANN, with the neurons and norms of the recipe."""
        section = self.recipe.spike
        if isinstance(ann, SpikingNetwork):
            raise LeanspikeError(
                f"the network in {self.recipe.model.weights} spikes already; give the ANN it was "
                "made from, as runs/RECIPE/ann"
            )
        snn = spike(
            ann.cpu().eval(),
            example_input=self.blank().cpu(),
            encode=create_encoder(section.encode, section.encode_options),
            timesteps=section.timesteps,
            neuron=build_neuron(section.neuron),
            norm=build_norm(section),
        )
        snn.doubts.uncalibrated = False  # the recipe decides whether it is calibrated
        return snn.to(self.device)

    def teacher(self) -> Teacher | None:
        """Return the recipe's teacher, or None if the recipe names none."""
        section = self.recipe.teacher
        if section is None:
            return None
        try:
            network = self._build(section.model).to(self.device)
        except LeanspikeError as error:
            raise LeanspikeError(f"the recipe's teacher: {error}") from None
        if section.mean is not None or section.std is not None:
            mean, std = section.mean or self.data.mean, section.std or self.data.std
            renormalise(network, self.data.mean, self.data.std, own_mean=mean, own_std=std)
        return Teacher(network.to(memory_format=self.memory_format), self.dtype)

    def placed(self, network: nn.Module) -> nn.Module:
        """Return the same network on the run's device, in its memory format."""
        return network.to(self.device).to(memory_format=self.memory_format)

    def write(self, network: nn.Module, folder: Path) -> None:
        """Save a network made from the recipe's model."""
        save(network, folder, model_spec(self.recipe.model, self.data))

    def read(self, folder: Path) -> nn.Module:
        """Load what :meth:`write` saved, in eval mode, on the CPU."""
        own, model = None, self.recipe.model
        if is_own(model.name):
            own = create_own(model.name, model.options, self.trust)
        return load(folder, own)

    def _build(self, section: TrainedSection) -> nn.Module:
        return build_network(section, self.data, self.trust)
