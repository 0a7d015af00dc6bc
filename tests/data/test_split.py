from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leanspike.data.split import TensorSplit, stratified
from leanspike.errors import DataError


@given(st.data())
def test_a_stratified_part_is_exact_disjoint_and_fair(data):
    labels = data.draw(st.lists(st.integers(0, 6), max_size=60))
    size = data.draw(st.integers(0, len(labels)))
    kept, held = (part.tolist() for part in stratified(torch.tensor(labels).long(), size))
    assert len(held) == size
    assert sorted(kept + held) == list(range(len(labels)))
    assert kept == sorted(kept)
    assert held == sorted(held)
    for label in set(labels):
        fair = Fraction(labels.count(label) * size, len(labels))
        assert abs([labels[index] for index in held].count(label) - fair) < 1


def test_the_held_out_part_never_changes():
    """These very numbers: else validation images of older runs become training images."""
    _, held = stratified(torch.arange(200) % 4, 12)
    assert held.tolist() == [9, 30, 40, 44, 51, 93, 98, 110, 112, 121, 147, 195]


def test_the_held_out_part_ignores_the_global_seed():
    labels = torch.arange(100) % 10
    torch.manual_seed(1)
    first = stratified(labels, 20)[1]
    torch.manual_seed(2)
    assert torch.equal(first, stratified(labels, 20)[1])


def test_the_held_out_part_is_spread_over_the_data():
    _, held = stratified(torch.zeros(10_000, dtype=torch.int64), 5000)
    assert abs(held.double().mean() - 5000) < 200


def test_select_keeps_the_order_asked_for():
    split = TensorSplit(torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1), torch.arange(5))
    part = split.select(torch.tensor([4, 0, 2]))
    images, labels = part.batch(torch.tensor([0, 2]))
    assert images.flatten().tolist() == labels.tolist() == [4, 2]
    assert len(part) == 3
    assert part.shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.zeros(2, 1, 4, 4).int(),
            torch.zeros(2).long(),
            r"images are torch.int32 \[2, 1, 4, 4]",
        ),
        (torch.zeros(2, 4, 4).byte(), torch.zeros(2).long(), r"give torch.uint8 \[N, C, H, W]"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(3).long(), r"give torch.int64 \[2]"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(2).int(), r"labels are torch.int32 \[2]"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(3, 5), r"or floats: a row .*, \[2, \.\.\.\]"),
    ],
)
def test_tensors_of_another_form_are_refused(images, labels, message):
    with pytest.raises(DataError, match=message):
        TensorSplit(images, labels)


@pytest.mark.parametrize("labels", [torch.zeros(4, 2), torch.zeros(4, 2).long(), torch.zeros(4)])
def test_samples_are_not_drawn_alike_from_what_are_no_classes(labels):
    split = TensorSplit(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), labels)  # to train on
    with pytest.raises(DataError, match=r"give torch\.int64 \[N\], one class each"):
        stratified(split.labels, 2)
