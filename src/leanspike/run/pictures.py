"""Pictures of the test samples that are answered wrongly."""

from __future__ import annotations

import torch

from leanspike.data import Split
from leanspike.evaluation import Mistakes, picture_of


def with_pictures(mistakes: Mistakes | None, split: Split) -> Mistakes | None:
    """The same mistakes, each sample with its picture; ``split`` holds them in the same order.

    >>> from leanspike.data import load_dataset
    >>> from leanspike.evaluation.mistakes import Mistake
    >>> wrong = Mistake(index=3, label=1, snn=7, ann=1)
    >>> found = Mistakes(snn_only=1, ann_only=0, both=0, first=(wrong,))
    >>> picture = with_pictures(found, load_dataset("digits").test).first[0].picture
    >>> picture.height, picture.width
    (8, 8)
    """
    if mistakes is None:
        return None
    shown = []
    for mistake in mistakes.first:
        pixels, _ = split.batch(torch.tensor([mistake.index]))
        shown.append(mistake.model_copy(update={"picture": picture_of(pixels[0])}))
    return mistakes.model_copy(update={"first": tuple(shown)})
