"""What a user has, as batches for a network: a DataLoader, a list, arrays, one pair."""

from leanspike.batches.images import ENOUGH, images_of
from leanspike.batches.source import ANY_FORMS, CHUNK, Batches, Source, Targets
from leanspike.batches.values import FORMS, as_labels, check_dtype, check_lengths

__all__ = [
    "ANY_FORMS",
    "CHUNK",
    "ENOUGH",
    "FORMS",
    "Batches",
    "Source",
    "Targets",
    "as_labels",
    "check_dtype",
    "check_lengths",
    "images_of",
]
