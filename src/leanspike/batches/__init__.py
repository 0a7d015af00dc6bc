"""Batches for a network from a user's data: a DataLoader, a list, arrays, or one pair."""

from leanspike.batches.images import ENOUGH, images_of
from leanspike.batches.source import Batches, Source, Targets
from leanspike.batches.values import as_labels, check_dtype

__all__ = ["ENOUGH", "Batches", "Source", "Targets", "as_labels", "check_dtype", "images_of"]
