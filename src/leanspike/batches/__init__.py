"""What a user has, as batches for a network: a DataLoader, a list, arrays, one pair."""

from leanspike.batches.images import ENOUGH, images_of
from leanspike.batches.source import Batches, Source, Targets
from leanspike.batches.values import as_labels, check_dtype

__all__ = ["ENOUGH", "Batches", "Source", "Targets", "as_labels", "check_dtype", "images_of"]
