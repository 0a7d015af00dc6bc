"""Data sets, augmentation, and batches that are a function of (seed, epoch, step)."""

from leanspike.data.augment import Augment
from leanspike.data.folder import FolderSplit
from leanspike.data.images import DATASETS, Dataset, Source, load_dataset
from leanspike.data.loader import Loader, generator_for, normalise
from leanspike.data.small import synthetic
from leanspike.data.split import Parts, Split, TensorSplit

__all__ = [
    "DATASETS",
    "Augment",
    "Dataset",
    "FolderSplit",
    "Loader",
    "Parts",
    "Source",
    "Split",
    "TensorSplit",
    "generator_for",
    "load_dataset",
    "normalise",
    "synthetic",
]
