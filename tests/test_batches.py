"""What users have as batches: every form is taken, or refused with advice that works."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import leanspike as ls
from leanspike.batches import ENOUGH, Batches, images_of
from leanspike.data import Loader, load_dataset
from leanspike.evaluation import accuracy, anytime, choose_confidence, measure_exit

N, K = 60, 3


@pytest.fixture
def x() -> Tensor:
    return torch.rand(N, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def y() -> Tensor:
    return torch.arange(N) % K


@pytest.fixture
def ann() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, K)).eval()


@pytest.fixture
def snn(ann: nn.Module, x: Tensor) -> ls.SpikingNetwork:
    network = ls.spike(ann, example_input=x[:1], timesteps=4)
    ls.calibrate(network, x)
    return network


def loader(x: Tensor, y: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(x, y), 25)


PAIRS = {
    "a DataLoader": loader,
    "a list of batches": lambda x, y: [(x[:20], y[:20]), (x[20:], y[20:])],
    "one pair": lambda x, y: (x, y),
    "a pair in a list": lambda x, y: [x, y],
    "arrays": lambda x, y: (x.numpy(), y.numpy()),
    "arrays that cannot be written": lambda x, y: (np.broadcast_to(x, x.shape), y.numpy()),
    "labels in a list": lambda x, y: (x, y.tolist()),
    "labels one by one": lambda x, y: (x, list(y)),
    "batches with labels in a list": lambda x, y: [(x, y.tolist())],
    "small whole numbers": lambda x, y: [(x.numpy(), y.numpy().astype(np.uint16))],
    "a generator": lambda x, y: iter([(x, y)]),
}


@pytest.mark.parametrize("form", PAIRS)
def test_every_form_of_labelled_data_gives_the_same(
    form: str, ann: nn.Module, snn: ls.SpikingNetwork, x: Tensor, y: Tensor
) -> None:
    make = PAIRS[form]
    expected = ls.evaluate(snn, [(x, y)])
    assert ls.evaluate(snn, make(x, y)).accuracy == expected.accuracy
    assert accuracy(snn, make(x, y)) == list(expected.accuracy)
    y_TNK, labels = anytime(snn, make(x, y))
    assert (y_TNK.shape[1], labels.tolist()) == (N, y.tolist())
    choice = choose_confidence(y_TNK, labels)
    assert measure_exit(snn, choice, make(x, y), expected).n == N
    if form != "a generator":
        assert ls.evaluate(snn, make(x, y), ann=ann).ann_accuracy == accuracy(ann, (x, y))[0]


def test_one_pair_is_taken_in_parts(snn: ls.SpikingNetwork) -> None:
    x = torch.rand(300, 8)
    sizes: list[int] = []
    ls.evaluate(snn, (x, [0] * 300), progress=sizes.append)
    assert sizes == [128, 128, 44]


def test_frames_are_counted_along_their_second_axis(ann: nn.Module) -> None:
    snn = ls.spike(ann, example_input=torch.rand(4, 1, 8), encode="frames")
    x_TN = torch.rand(4, 30, 8)
    ls.calibrate(snn, [(x_TN[:, :10], [0, 1] * 5), (x_TN[:, 10:], [0, 1] * 10)])
    assert ls.evaluate(snn, (x_TN, [0, 1, 2] * 10)).n == 30
    with pytest.raises(ls.LeanspikeError, match="each of the 30 samples"):
        ls.evaluate(snn, (x_TN, [0, 1, 2, 0]))


IMAGES = {
    "an array": lambda x, _y: x.numpy(),
    "a DataLoader": loader,
    "a DataLoader without labels": lambda x, _y: DataLoader(x, 25),  # type: ignore[arg-type]
    "a list of batches": lambda x, _y: [x[:20], x[20:]],
    "batches with labels": lambda x, y: [(x[:20], y[:20]), (x[20:], y[20:])],
    "one pair": lambda x, y: (x, y),
    "a generator": lambda x, _y: iter([x]),
}


@pytest.mark.parametrize("form", IMAGES)
def test_every_form_of_images_calibrates_alike(
    form: str, ann: nn.Module, x: Tensor, y: Tensor
) -> None:
    tables = []
    for images in (x, IMAGES[form](x, y)):
        tables.append(ls.calibrate(ls.spike(ann, example_input=x[:1]), images))
    assert tables[0] == tables[1]


def test_of_batches_no_more_are_read_than_512_images_need(ann: nn.Module) -> None:
    read = []

    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            read.append(0)
            yield torch.rand(200, 8), torch.arange(200) % K

    assert images_of(endless(), ann).shape == (ENOUGH, 8)
    assert len(read) == 3
    assert images_of(torch.rand(900, 8), ann).shape == (900, 8)


def test_images_all_of_one_class_are_warned_about(
    ann: nn.Module, x: Tensor, y: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    order = y.argsort()
    images_of([(x[order][:20], y[order][:20])] * 3, ann)
    assert "first 60 images are all of class 0; give a loader that shuffles" in caplog.text
    caplog.clear()
    images_of(DataLoader(TensorDataset(x, y), 25, shuffle=True), ann)
    assert caplog.text == ""


def test_what_is_no_batch_is_refused_and_the_advice_works(
    snn: ls.SpikingNetwork, x: Tensor, y: Tensor
) -> None:
    batches: Any = [(x, y, torch.arange(N))]
    with pytest.raises(ls.LeanspikeError, match=r"3 parts; .*\[\(x, y\) for x, y, \*_ in batches"):
        ls.evaluate(snn, batches)
    assert ls.evaluate(snn, [(x, y) for x, y, *_ in batches]).n == N

    batches = [{"image": x, "label": y}]
    message = r"dict of 'image', 'label'; .*\[\(b\[INPUT\], b\[LABELS\]\) for b in batches\]"
    for measure in (ls.evaluate, ls.calibrate):
        with pytest.raises(ls.LeanspikeError, match=message):
            measure(snn, batches)
        measure(snn, [(b["image"], b["label"]) for b in batches])

    dataset = TensorDataset(x, y)
    message = r"a TensorDataset gives single .* torch\.utils\.data\.DataLoader\(dataset, 128\)"
    for measure in (ls.evaluate, ls.calibrate):
        with pytest.raises(ls.LeanspikeError, match=message):
            measure(snn, dataset)
        measure(snn, torch.utils.data.DataLoader(dataset, 128))


def test_a_loader_of_a_data_set_is_taken_and_in_training_its_epoch_is() -> None:
    data = load_dataset("digits")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()
    snn = ls.spike(flat, example_input=torch.zeros(1, *data.shape))
    how: Any = {"batch_size": 100, "mean": data.mean, "std": data.std, "seed": 0}
    test = Loader(data.test, **how, train=False)
    train = Loader(data.train, **how, train=True)
    for measure in (ls.calibrate, ls.evaluate):
        with pytest.raises(
            ls.LeanspikeError, match=r"in each epoch; say which: loader\.epoch\(0\)"
        ):
            measure(snn, train)
        measure(snn, train.epoch(0))
    ls.calibrate(snn, test)
    assert ls.evaluate(snn, test, ann=flat).n == len(data.test)  # twice


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, r"this is a NoneType; give a DataLoader, a list of \(x, y\) batches or one pair"),
        ({"x": torch.rand(4, 8)}, "this is a dict; give a DataLoader, .* or inputs alone"),
        ("images", "this is a str; give a DataLoader"),
        ([([[0.1] * 8], [0])], "the input of a batch: list; give a tensor or an array"),
        ([(torch.rand(2, 8), ["cat", "dog"])], "labels are a list without plain numbers"),
        (
            [(torch.rand(2, 8), np.array(["cat", "dog"]))],
            "the labels: array of <U3; give a tensor or an array of numbers",
        ),
        ([], "no samples to evaluate on; the split is empty"),
        (iter([]), "list_iterator was used up before, or is empty; give a DataLoader"),
        ((torch.rand(4, 8), [0, 1]), r"labels of shape \(2,\); .* for each of the 4 samples in x"),
    ],
)
def test_what_evaluate_cannot_take(source: Any, message: str, snn: ls.SpikingNetwork) -> None:
    with pytest.raises(ls.LeanspikeError, match=message) as error:
        ls.evaluate(snn, source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "this is a NoneType; give a tensor of images, a DataLoader or a list of batches"),
        ([], "no images to calibrate on: the batches are empty, or were used up before"),
        ([torch.rand(4, 8), torch.rand(4, 6)], r"several shapes \(\[4, 6\], \[4, 8\]\); give"),
        (["a"], "a batch: str; give a tensor or an array of numbers"),
    ],
)
def test_what_calibrate_cannot_take(source: Any, message: str, snn: ls.SpikingNetwork) -> None:
    with pytest.raises(ls.LeanspikeError, match=message):
        ls.calibrate(snn, source)


def test_float64_arrays_are_refused_and_the_advice_works(
    snn: ls.SpikingNetwork, x: Tensor, y: Tensor
) -> None:
    doubles = x.double().numpy()
    message = r'torch\.float64, but .* torch\.float32; give x\.float\(\), .*x\.astype\("float32"\)'
    with pytest.raises(ls.LeanspikeError, match=message):
        ls.calibrate(snn, doubles)
    with pytest.raises(ls.LeanspikeError, match=message):
        ls.evaluate(snn, (doubles, y))
    ls.calibrate(snn, doubles.astype("float32"))
    assert ls.evaluate(snn, (x.double().float(), y)).n == N


def test_a_stream_of_batches_is_gone_through_as_often_as_it_can_be(x: Tensor, y: Tensor) -> None:
    class Stream(IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter([(x[0], y[0]), (x[1], y[1])])

    pairs = Batches(DataLoader(Stream(), 2), nn.Linear(8, K))
    assert not pairs.once
    assert [len(labels) for _ in range(2) for _, labels in pairs] == [2, 2]


def test_no_warning_is_given_of_good_data(
    ann: nn.Module, x: Tensor, y: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "leanspike")
    snn = ls.spike(ann, example_input=x[:1])
    ls.calibrate(snn, loader(x, y), scale=(0.3, 0.5, 0.8, 1.0))
    ls.evaluate(snn, loader(x, y), ann=ann)
    assert caplog.text == ""


def test_complex_labels_are_refused() -> None:
    with pytest.raises(ls.LeanspikeError, match=r"torch\.complex64; give real numbers"):
        list(Batches((torch.zeros(2, 1), torch.zeros(2, dtype=torch.complex64)), nn.Identity()))
