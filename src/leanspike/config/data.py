"""The data set of a recipe, and the augmentation of its training part."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from leanspike.config.section import Section, whole_options
from leanspike.data import DATASETS, datasets
from leanspike.section import Count, Finite, Positive


class AugmentSection(Section):
    """Augmentation of the training images, or recordings, drawn anew for each of a batch."""

    crop: Annotated[int, Field(ge=0)] = 0
    """Images: pixels added on each side, of which a window of the old size is cut; 0: off."""
    border: Literal["black", "reflect"] = "black"
    """Images: those pixels are black, or the image mirrored at its border."""
    flip: Literal[True, False, "alternate"] = False
    """Mirror left to right with probability 1/2; `alternate`: the others in each next epoch."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Images: side of a random square, in pixels, that is blackened; 0: off."""
    shift: Annotated[int, Field(ge=0)] = 0
    """Events: the most pixels by which a recording is moved; 0: off."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Events: the probability with which each is lost."""


class DataSection(Section):
    """The data set, and which part of it is used."""

    name: Annotated[str, Field(examples=list(DATASETS))]
    """The data set; `image_folder` and `webdataset` are your own images, as files or in tars."""
    root: str | None = None
    """The folder that holds the data; null: what LEANSPIKE_DATA names, else `data`."""
    validation: Annotated[int, Field(ge=0)] | None = None
    """Training images held out to select epochs on; null: the data set's own number."""
    train_images: Count | None = None
    """How many of the others are used, each class in its proportion, always the same; null: all."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read and decode what does not stay in memory; 0: threads of this one."""
    cross_validation: tuple[Count, Count] | None = None
    """[k, n]: split k of n. The test set is the k-th of n equal parts of all images."""
    options: dict[str, Any] = Field({}, validate_default=True)
    """What this data set alone can be told, by name; its keys are below."""
    mean: tuple[Finite, ...] | None = None
    """Subtracted from the pixels (0 to 1), for each channel; null: the data set's own."""
    std: tuple[Positive, ...] | None = None
    """What they are divided by after that; null: the data set's own."""
    augment: AugmentSection = AugmentSection()
    """Augmentation in training."""

    @field_validator("options")
    @classmethod
    def _fit(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name", "")
        return whole_options(datasets, name, options) if name in datasets else options
