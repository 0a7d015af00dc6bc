"""Images of another scale than the training's: noticed where the network can tell."""

import logging
import re

import pytest
import torch
from torch import nn

from leanspike import calibrate, spike
from leanspike.surgery.pixels import FirstNorm


def images(n=64, seed=0):
    """Whole numbers of 0 to 255."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 1, 8, 8), generator=random).float()


def seen(x, batches=1, momentum=0.1, norm=nn.BatchNorm2d):
    """A network whose norms have seen so many batches of these images."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, padding=1), norm(4, momentum=momentum), nn.ReLU())
    ann = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    with torch.no_grad():
        for _ in range(batches):
            ann(x)
    return ann.eval()


def warnings(caplog, ann, x, **options):
    caplog.clear()
    calibrate(spike(ann, example_input=x[:1], timesteps=20, **options), x)
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    return [line for line in lines if "in its training" in line]


RIGHT = {
    "pixels of 0 to 1": lambda x: x / 255,
    "pixels of 0 to 255": lambda x: x,
    "normalised": lambda x: (x / 255 - 0.5) / 0.29,
}
WRONG = [
    ("pixels of 0 to 1", lambda x: x, lambda x: x / 255, "x / 255"),
    ("pixels of 0 to 255", lambda x: x / 255, lambda x: x * 255, "x * 255"),
    ("normalised", lambda x: x / 255, lambda x: (x - 0.5) / 0.29, "(x - mean) / std"),
    ("pixels of 0 to 1", RIGHT["normalised"], None, "(x - mean) / std"),
]


@pytest.mark.parametrize(("training", "given", "advice", "words"), WRONG)
def test_images_of_another_scale_are_named_and_the_advice_works(
    training, given, advice, words, caplog
):
    x, ann = images(), seen(RIGHT[training](images(seed=1)))
    [line] = warnings(caplog, ann, given(x))
    assert re.search(r"norm 1 gets values that differ [\d.e+-]+ times as much as in its tr", line)
    assert line.endswith(
        f"; make the network spike again, and calibrate on images scaled as there, as {words}"
    )
    if advice is not None:
        assert warnings(caplog, ann, advice(given(x))) == []


@pytest.mark.parametrize("training", RIGHT)
@pytest.mark.parametrize(("batches", "momentum"), [(1, 0.1), (3, 0.1), (1, 0.01), (2, None)])
def test_images_of_the_trainings_scale_raise_no_alarm(training, batches, momentum, caplog):
    scaled = RIGHT[training]
    ann = seen(scaled(images(seed=1)), batches, momentum)
    assert warnings(caplog, ann, scaled(images())) == []
    assert warnings(caplog, ann, scaled(images(8))) == []
    assert warnings(caplog, ann, scaled(images(seed=2)), norm="keep") == []


def test_files_that_do_not_count_batches_are_believed(caplog):
    ann = seen(images(seed=1) / 255, batches=200)
    ann[1].num_batches_tracked.zero_()
    assert warnings(caplog, ann, images() / 255) == []
    assert len(warnings(caplog, ann, images())) == 1


def test_the_measure_is_of_the_whole_set_whatever_the_batches():
    x, ann = images() / 255, seen(images(seed=1) / 255)
    first = FirstNorm(spike(ann, example_input=x[:1]))
    y = ann[0](x)
    for part in y.split(10):
        first(first.node, {first.node.all_input_nodes[0]: part}, None)
    then = ann[1].running_var.double()
    expected = y.double().var((0, 2, 3), correction=0) / ((then - 0.9) / 0.1)
    assert first.ratio == pytest.approx(expected.sqrt().median().item(), rel=1e-3)


UNTOLD = {
    "no norms": lambda x: seen(x, norm=lambda *_, **__: nn.Identity()),
    "untrained norms": lambda x: seen(x, batches=0),
    "no statistics": lambda x: seen(
        x, norm=lambda channels, **_: nn.BatchNorm2d(channels, track_running_stats=False)
    ),
}


@pytest.mark.parametrize("why", UNTOLD)
def test_where_nothing_tells_whole_numbers_are_spoken_of_and_not_warned_about(why, caplog):
    caplog.set_level(logging.INFO, "leanspike")
    line = "calibrate: images of whole numbers from 0 to 255; if the network was trained on pixels"
    for x, spoken in ((images(), True), (images() / 255, False), (images() - 128, False)):
        caplog.clear()
        calibrate(spike(UNTOLD[why](x), example_input=x[:1], timesteps=20), x, scale=0.5)
        found = [record for record in caplog.records if record.getMessage().startswith(line)]
        assert [record.levelno for record in found] == [logging.INFO] * spoken


def test_a_norm_behind_spikes_is_not_asked(caplog):
    torch.manual_seed(0)
    body = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
    ann = nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 10))
    ann(images() / 255)
    assert FirstNorm(spike(ann.eval(), example_input=images(1))).node is None
    assert warnings(caplog, ann, images()) == []
