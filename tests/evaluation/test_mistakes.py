"""Which samples are answered wrongly, by whom, and their pictures."""

from __future__ import annotations

import base64

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.evaluation import Mistakes, picture_of
from leanspike.evaluation.mistakes import SHOWN, MistakeFinder


def make() -> tuple[nn.Module, ls.SpikingNetwork, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    snn = ls.spike(ann, example_input=torch.zeros(1, 6), timesteps=2)
    ls.calibrate(snn, torch.rand(64, 6))
    return ann, snn, torch.rand(90, 6), torch.randint(3, (90,))


@pytest.mark.parametrize("size", [90, 13])
def test_they_are_those_of_a_plain_loop_whatever_the_batches(size: int) -> None:
    ann, snn, x, labels = make()
    batches = list(zip(x.split(size), labels.split(size), strict=True))
    found = ls.evaluate(snn, batches, ann=ann).mistakes
    ours, theirs = snn(x).sum(0).argmax(-1), ann(x).argmax(-1)
    kinds = {
        (True, False): found and found.snn_only,
        (False, True): found and found.ann_only,
        (True, True): found and found.both,
    }
    assert found is not None
    for (snn_wrong, ann_wrong), count in kinds.items():
        those = ((ours != labels) == snn_wrong) & ((theirs != labels) == ann_wrong)
        assert count == int(those.sum())
        listed = [
            m for m in found.first if (m.snn != m.label, m.ann != m.label) == (snn_wrong, ann_wrong)
        ]
        assert [m.index for m in listed] == those.nonzero().flatten().tolist()[:SHOWN]
    for m in found.first:
        assert (m.label, m.snn, m.ann) == tuple(int(of[m.index]) for of in (labels, ours, theirs))
    assert found.both  # each kind is there
    assert found.snn_only
    assert found.ann_only


def test_without_an_ann_all_are_the_snns() -> None:
    _, snn, x, labels = make()
    result = ls.evaluate(snn, (x, labels))
    found = result.mistakes
    assert found is not None
    assert (found.ann_only, found.both) == (None, None)
    assert found.snn_only == round((1 - result.accuracy[-1]) * 90)
    assert {m.ann for m in found.first} == {None}
    assert Mistakes.model_validate_json(found.model_dump_json()) == found


def test_batches_that_come_once_are_enough_for_both_networks() -> None:
    ann, snn, x, labels = make()
    batches = list(zip(x.split(40), labels.split(40), strict=True))
    once, again = (ls.evaluate(snn, source, ann=ann) for source in (iter(batches), batches))
    assert once.ann_accuracy == again.ann_accuracy
    assert once.mistakes == again.mistakes
    shuffled = torch.utils.data.TensorDataset(x, labels)
    loader = torch.utils.data.DataLoader(shuffled, 40, shuffle=True)  # another order each time
    found = ls.evaluate(snn, loader, ann=ann).mistakes
    assert found is not None
    assert again.mistakes is not None
    assert (found.snn_only, found.ann_only, found.both) == (
        again.mistakes.snn_only,
        again.mistakes.ann_only,
        again.mistakes.both,
    )


def test_no_mistakes_are_none() -> None:
    finder = MistakeFinder()
    right = torch.tensor([0, 1, 2])
    finder.add(right, right, right)
    assert finder.mistakes() == Mistakes(snn_only=0, ann_only=0, both=0, first=())
    assert finder.ann_right == 3


def pixels_of(pixels: torch.Tensor) -> torch.Tensor:
    picture = picture_of(pixels)
    data = torch.tensor(list(base64.b64decode(picture.pixels)), dtype=torch.uint8)
    return data.view(picture.height, picture.width, picture.channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_picture_is_the_image(channels: int) -> None:
    image = torch.randint(256, (channels, 5, 9), dtype=torch.uint8)
    image_last = image.to(memory_format=torch.contiguous_format)
    assert pixels_of(image_last).equal(image.permute(1, 2, 0))


def test_a_large_one_is_made_smaller_and_keeps_its_shape() -> None:
    image = torch.zeros(3, 224, 448, dtype=torch.uint8)
    image[0, :, :224] = 200
    small = pixels_of(image)
    assert small.shape == (24, 48, 3)
    assert small[:, :24, 0].eq(200).all()
    assert small[:, 24:].eq(0).all()
    assert len(picture_of(image).pixels) < 5000


def test_frames_are_one_picture_and_other_channels_are_grey() -> None:
    events = torch.zeros(4, 2, 6, 6, dtype=torch.uint8)
    events[1, 0, 2, 3] = 7
    drawn = pixels_of(events)
    assert drawn.shape == (6, 6, 1)
    assert (int(drawn[2, 3, 0]), int(drawn[0, 0, 0])) == (0, 255)
    rows = torch.randint(256, (8, 1, 1, 8), dtype=torch.uint8)  # a sequence of rows
    assert pixels_of(rows)[:, :, 0].equal(rows.view(8, 8))
    assert pixels_of(torch.full((2, 4, 4), 9, dtype=torch.uint8)).shape == (4, 4, 1)
