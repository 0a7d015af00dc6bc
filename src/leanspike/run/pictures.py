"""Pictures of test samples in a result: an example with all its signals, and the mistakes."""

from __future__ import annotations

import torch

from leanspike.data import Dataset, Split, normalise
from leanspike.evaluation import Mistakes, Result, picture_of, record_example
from leanspike.execute import SpikingNetwork


def with_pictures(result: Result, snn: SpikingNetwork, data: Dataset) -> Result:
    """Return the result with its example and with pictures of its mistakes, for images only.

    Other tensors cannot be shown. Samples with several labels or numbers have no single label.
    """
    if not data.of_images or data.task != "multiclass":
        return result
    pixels, label = data.test.batch(torch.tensor([0]))
    x = normalise(pixels, data.mean, data.std).to(next(snn.parameters()).device)
    example = record_example(snn, x, pixels[0], int(label))
    shown = pictures_of(result.mistakes, data.test)
    return result.model_copy(update={"example": example, "mistakes": shown})


def pictures_of(mistakes: Mistakes | None, split: Split) -> Mistakes | None:
    """Return the mistakes with the pictures of the samples, which ``split`` holds in order.

    >>> from leanspike.data import load_dataset
    >>> from leanspike.evaluation.mistakes import Mistake
    >>> wrong = Mistake(index=3, label=1, snn=7, ann=1)
    >>> found = Mistakes(snn_only=1, ann_only=0, both=0, first=(wrong,))
    >>> picture = pictures_of(found, load_dataset("digits").test).first[0].picture
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
