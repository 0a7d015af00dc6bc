"""Cross-validation: every image tests once, and never what it has trained."""

from __future__ import annotations

import pytest
import torch

from leanspike.data import load_dataset
from leanspike.data.cross_validation import JoinedSplit, cross_validation_split
from leanspike.data.small import synthetic
from leanspike.errors import DataError


def everything(split):
    images, labels = split.batch(torch.arange(len(split)))
    return [
        (image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    ]


def test_each_image_tests_in_one_split_and_is_in_one_part_of_each():
    data = load_dataset("digits")
    whole = sorted(everything(data.train) + everything(data.val) + everything(data.test))
    tested = []
    for number in (1, 2, 3, 4, 5):
        part = cross_validation_split(data, number, 5)
        assert len(part.val) == len(data.val)
        assert (
            sorted(everything(part.train) + everything(part.val) + everything(part.test)) == whole
        )
        tested += everything(part.test)
        counts = part.test.labels.bincount()
        assert counts.max() - counts.min() <= 4
    assert sorted(tested) == whole


def test_a_split_is_the_same_for_ever():
    data = load_dataset("digits")
    assert everything(cross_validation_split(data, 2, 5).test) == everything(
        cross_validation_split(data, 2, 5).test
    )
    assert everything(cross_validation_split(data, 2, 5).test) != everything(
        cross_validation_split(data, 3, 5).test
    )


@pytest.mark.parametrize(("number", "splits"), [(0, 5), (6, 5), (1, 1), (1, 10_000)])
def test_splits_out_of_range_are_refused(number, splits):
    with pytest.raises(DataError, match=f"split is {number} of {splits}"):
        cross_validation_split(load_dataset("digits"), number, splits)


def test_a_joined_split_gives_any_order_and_keeps_its_parts():
    parts = synthetic((1, 4, 4), classes=3, train=7, test=5)
    joined = JoinedSplit([parts.train, parts.test])
    rows = everything(parts.train) + everything(parts.test)
    order = torch.tensor([11, 0, 6, 7, 7, 3])
    images, labels = joined.batch(order)
    assert [(image.numpy().tobytes(), int(y)) for image, y in zip(images, labels, strict=True)] == [
        rows[i] for i in order
    ]
    some = joined.select(torch.tensor([1, 6, 8]))
    assert everything(some) == [rows[i] for i in (1, 6, 8)]
    with pytest.raises(DataError, match="must ascend"):
        joined.select(torch.tensor([8, 1]))
    assert len(joined.batch(torch.tensor([], dtype=torch.int64))[1]) == 0
