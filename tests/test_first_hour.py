"""The first hour in Python: a network and a loop of one's own, and each mistake on the way.

Of the mistakes the message is read, and its advice is followed to the letter. How well networks
spike with the defaults is measured with more seeds by benchmarks/conversion.py.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import leanspike as ls
from first_hour import CODE, Pair, digits, train
from leanspike import LIF
from leanspike.report import render_tables
from leanspike.surgery import Calibration


@dataclass(frozen=True)
class Hour:
    """What there is after the first minutes."""

    module: Any
    train: Pair
    test: Pair
    ann: nn.Module
    snn: ls.SpikingNetwork
    table: Calibration
    result: ls.Result

    @property
    def some(self) -> Tensor:
        """Training images, to calibrate on."""
        return self.train[0][:300]

    def spike(self, **options: Any) -> ls.SpikingNetwork:
        """A new one, not calibrated."""
        return ls.spike(self.ann.eval(), example_input=self.train[0][:1], **options)


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hour]:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "fourthnet.py").write_text(CODE)
    sys.path.insert(0, str(folder))
    module = importlib.import_module("fourthnet")
    fit, test = digits()
    torch.manual_seed(1)
    ann = module.Net()
    train(ann, *fit)
    ann.eval()
    snn = ls.spike(ann, example_input=fit[0][:1])
    table = ls.calibrate(snn, DataLoader(TensorDataset(*fit), 64))
    yield Hour(module, fit, test, ann, snn, table, ls.evaluate(snn, test, ann=ann))
    sys.path.remove(str(folder))
    sys.modules.pop("fourthnet", None)


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings since it was last asked."""

    def since() -> list[str]:
        found = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        caplog.clear()
        return found

    return since


def refused(action: Callable[[], object], message: str) -> None:
    with pytest.raises(ls.LeanspikeError, match=message) as caught:
        action()
    assert "\n" not in str(caught.value)


# -- the way ------------------------------------------------------------------------------------


def test_with_nothing_but_the_defaults_it_spikes_well(hour: Hour) -> None:
    ann, steps = hour.result.ann_accuracy, hour.result.accuracy
    assert ann is not None
    assert ann > 0.96
    assert 100 * (ann - steps[-1]) <= 1.5
    falls = [100 * (before - after) for n, before in enumerate(steps) for after in steps[n:]]
    assert max(falls) <= 0.5
    assert hour.table.agreement > 0.97
    assert "for spikes are as high as the threshold" in hour.table.choices


def test_every_form_of_the_test_images_gives_the_same(hour: Hour) -> None:
    x, y = hour.test
    for form in (
        DataLoader(TensorDataset(x, y), 50),
        [(x[:300], y[:300]), (x[300:], y[300:])],
        (x.numpy(), y.numpy()),
    ):
        assert ls.evaluate(hour.snn, form).accuracy == hour.result.accuracy


def test_a_loop_of_ones_own_trains_all_steps(hour: Hour) -> None:
    snn = hour.spike()
    ls.calibrate(snn, hour.train)
    before = ls.evaluate(snn, hour.test).accuracy
    thresholds = [m.threshold.item() for _, m in snn.neurons() if isinstance(m, LIF)]
    torch.manual_seed(0)
    loop(snn, *hour.train)
    after = ls.evaluate(snn, hour.test).accuracy
    assert after[0] > before[0] + 0.02  # the first step says most of it
    assert after[-1] > before[-1] - 0.015
    learned = [m.threshold.item() for _, m in snn.neurons() if isinstance(m, LIF)]
    assert all(a != b for a, b in zip(thresholds, learned, strict=True))


def loop(snn: ls.SpikingNetwork, x: Tensor, y: Tensor, epochs: int = 2) -> None:
    optimizer = torch.optim.Adam(snn.parameters(), lr=1e-3)
    snn.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            y_TNK = ls.readout(snn(x[batch]))
            loss = sum((F.cross_entropy(y_NK, y[batch]) for y_NK in y_TNK), torch.zeros(()))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            snn.keep_in_range()
    snn.eval()


def test_step_by_step_most_images_leave_early(hour: Hour) -> None:
    x, y = hour.test
    answers, steps = torch.full_like(y, -1), torch.zeros(len(y))
    rest, state, total = torch.arange(len(y)), None, torch.zeros(len(y), 10)
    for step in range(hour.snn.timesteps):
        y_NK, state = hour.snn.step(x[rest], state)
        total = total + y_NK
        best = (total / (step + 1)).topk(2).values
        leaves = (best[:, 0] - best[:, 1] > 3) | (step + 1 == hour.snn.timesteps)
        answers[rest[leaves]], steps[rest[leaves]] = total.argmax(1)[leaves], step + 1.0
        rest, total, state = rest[~leaves], total[~leaves], state.keep(~leaves)
    assert (answers == y).double().mean().item() > hour.result.accuracy[-1] - 0.015
    assert steps.mean() < 4


def test_what_is_saved_answers_the_same(hour: Hour, tmp_path: Path) -> None:
    ls.save(hour.snn, tmp_path / "snn")
    refused(lambda: ls.load(tmp_path / "snn"), "own")
    again = ls.load(tmp_path / "snn", ann=hour.module.Net())
    assert torch.equal(again(hour.test[0]), hour.snn(hour.test[0]))


# -- what stops, in one line --------------------------------------------------------------------


def test_labels_that_are_not_the_networks(hour: Hour) -> None:
    x, y = hour.test
    labels = y + 1
    refused(
        lambda: ls.evaluate(hour.snn, (x, labels)), r"label 10, .*count from 1: give labels - 1"
    )
    assert ls.evaluate(hour.snn, (x, labels - 1)).accuracy == hour.result.accuracy
    labels = torch.where(y == 9, -1, y)
    message = r"label -1, .* as x\[labels >= 0\] and labels\[labels >= 0\]"
    refused(lambda: ls.evaluate(hour.snn, (x, labels)), message)
    kept = x[labels >= 0], labels[labels >= 0]
    assert ls.evaluate(hour.snn, kept).n == int((y != 9).sum())
    small = ls.spike(hour.module.Net(classes=4).eval(), example_input=x[:1])
    ls.calibrate(small, hour.some)
    message = r"label 9, and the network's 4 outputs are 0 to 3; .* a network of 10 outputs or more"
    refused(lambda: ls.evaluate(small, (x, y)), message)
    assert ls.evaluate(small, (x[y < 4], y[y < 4])).n == int((y < 4).sum())


def test_names_and_anns_of_other_outputs(hour: Hour) -> None:
    message = "2 names, and the network 10 outputs; give a name for each output"
    refused(lambda: ls.evaluate(hour.snn, hour.test, classes=("a", "b")), message)
    names = tuple(map(str, range(10)))
    assert ls.evaluate(hour.snn, hour.test, classes=names).classes == names
    other = hour.module.Net(classes=4).eval()
    message = "ANN has 4 outputs, and the SNN 10; give the ANN that the SNN was made from"
    refused(lambda: ls.evaluate(hour.snn, hour.test, ann=other), message)


def test_numbers_and_types(hour: Hour) -> None:
    steps: Any = "5"
    refused(lambda: hour.spike(timesteps=steps), "'5'; give a whole number, as timesteps=5")
    assert hour.spike(timesteps=5).timesteps == 5
    x = np.asarray(hour.some.double())
    refused(lambda: ls.calibrate(hour.spike(), x), r'for an array x\.astype\("float32"\)')
    assert ls.calibrate(hour.spike(), x.astype("float32")).layers
    single = hour.some.double()
    refused(lambda: hour.snn(single), r"float64, but .* torch\.float32; give x\.float\(\)")
    assert torch.equal(hour.snn(single.float()), hour.snn(hour.some))


def test_images_of_other_channels_and_layouts(hour: Hour) -> None:
    colour = torch.rand(8, 8, 8, 3).permute(0, 3, 1, 2)  # as arrays of pixels come
    refused(lambda: hour.snn(colour), r"shape \(8, 3, 8, 8\); expected \[N, 1, 8, 8\]")
    assert hour.snn(colour[:, :1]).shape == (5, 8, 10)
    ann = hour.module.Net(channels=3).eval()
    with pytest.raises(RuntimeError, match="view"):
        ann(colour)
    refused(lambda: ls.spike(ann, example_input=hour.test[0][:1]), "to have 3 channels, but got 1")
    snn = ls.spike(ann, example_input=torch.zeros(1, 3, 8, 8), neuron=nn.ReLU())
    torch.testing.assert_close(snn(colour)[0], ann(colour.contiguous()))


def test_neurons_in_other_forms(hour: Hour) -> None:
    refused(lambda: hour.spike(neuron=LIF), r"the class LIF; give one to copy, as in LIF\(\)")
    message = r"function of \(\), .* write neuron=lambda path: LIF\(\)"
    refused(lambda: hour.spike(neuron=lambda: LIF()), message)
    for right in (LIF(), lambda path: LIF()):  # noqa: ARG005
        assert len(list(hour.spike(neuron=right).neurons())) == 2


# -- what is warned about -----------------------------------------------------------------------

Warned = Callable[[], list[str]]


def test_pixels_of_another_scale(hour: Hour, warned: Warned) -> None:
    x, y = hour.test
    ls.evaluate(hour.snn, (255 * x, y))
    assert re.search(r"calibrated on .*scale the pixels alike \(as x / 255\)", warned()[0])
    snn = hour.spike()
    ls.calibrate(snn, 255 * hour.some)
    assert [line.split("; ")[1] for line in warned() if "in its training" in line] == [
        "make the network spike again, and calibrate on images scaled as there, as x / 255"
    ]
    snn = hour.spike()
    ls.calibrate(snn, 255 * hour.some / 255)
    ls.evaluate(snn, (x, y))
    assert warned() == []


def test_a_network_that_was_never_calibrated(hour: Hour, warned: Warned) -> None:
    snn = hour.spike()
    ls.evaluate(snn, hour.test)
    [line] = warned()
    assert "never calibrated" in line
    assert "leanspike.calibrate(snn, images) with some hundreds of training images" in line
    ls.calibrate(snn, hour.some)
    assert ls.evaluate(snn, hour.test).accuracy[-1] > 0.95
    assert warned() == []


@pytest.mark.parametrize("advice", ["ann.eval() before spike", "snn.eval() before it answers"])
def test_a_network_taken_in_training_mode(advice: str, hour: Hour, warned: Warned) -> None:
    ls.spike(hour.ann.train(), example_input=hour.test[0][:1])
    [line] = warned()
    assert "in training mode" in line
    assert advice in line
    if advice.startswith("ann"):
        snn = ls.spike(hour.ann.eval(), example_input=hour.test[0][:1])
        assert warned() == []
    else:
        snn = ls.spike(hour.ann, example_input=hour.test[0][:1]).eval()
        hour.ann.eval()
        warned()
    ls.calibrate(snn, hour.some)
    assert torch.equal(snn(hour.test[0]), snn(hour.test[0]))
    assert warned() == []


def test_leaks_and_thresholds_that_are_not_learned(hour: Hour, warned: Warned) -> None:
    snn = hour.spike(neuron=LIF(height="threshold", initial="half"))
    ls.calibrate(snn, hour.some)
    warned()
    loop(snn, hour.train[0][:64], hour.train[1][:64], epochs=1)
    [line] = warned()
    assert 'make the network with LIF(learn=("leak", "threshold"), ...)' in line
    assert "or leave out neuron= in spike" in line
    right = LIF(learn=("leak", "threshold"), height="threshold", initial="half")
    for snn in (hour.spike(neuron=right), hour.spike()):
        ls.calibrate(snn, hour.some)
        warned()
        loop(snn, hour.train[0][:64], hour.train[1][:64], epochs=1)
        assert warned() == []


def test_at_chance_nobody_reads_of_energy(hour: Hour) -> None:
    x, y = hour.test
    mixed = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    words = {}
    for labels in (y, mixed):
        result = ls.evaluate(hour.snn, (x, labels), ann=hour.ann)
        console = Console(width=300)
        with console.capture() as said:
            console.print(render_tables(result))
        words[result.at_chance] = said.get()
    assert "less energy on arithmetic than the ANN" in words[False]
    assert "less energy" not in words[True]
    assert "the ANN is at chance, too: check its weights, the labels" in words[True]
