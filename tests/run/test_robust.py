"""Robustness of runs: on whose images, beside which other runs, with which corruptions."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from leanspike.data import COMMON_CORRUPTIONS, cifar_c, load_dataset
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Robustness
from leanspike.recipes import load_recipe
from leanspike.run import Run, compare_robustness
from leanspike.run import robust as module
from leanspike.train import Monitor

pytestmark = pytest.mark.usefixtures("unrendered")
CHANGES = (
    *("data.name=synthetic", "model.options.layers=[4, A]", "model.options.head=[]", "ann=null"),
    *("spike.start=scratch", "spike.calibrate=null", "spike.timesteps=1", "snn=[]"),
)


def untrained(folder: Path, *changes: str) -> Run:
    """A run of a small network as it was drawn."""
    monitor = Monitor(Console(file=io.StringIO(), width=200))
    run = Run(load_recipe("digits", [*CHANGES, *changes]), folder, monitor)
    run.convert()
    run.train_snn()
    return run


def said(run: Run) -> str:
    file = run.monitor.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "data.cross_validation=[2, 5]",
            "b has data.cross_validation (2, 5), but a has (1, 5); compare runs on the same data",
        ),
        (
            "data.cross_validation=null",
            "b has data.cross_validation None, but a has (1, 5); compare runs on the same data",
        ),
        (
            "data.options.image_size=16",
            "b has images of (3, 16, 16), but a has (3, 32, 32); compare runs on",
        ),
        ("data.name=synthetic_100", "b has data synthetic_100, but a has synthetic; compare"),
        ("data.mean=[0, 0, 0]", "b has mean (0.0, 0.0, 0.0), but a has (0."),
    ],
)
def test_a_run_on_other_test_images_is_refused(
    change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = untrained(Path("a"), "data.cross_validation=[1, 5]")
    with pytest.raises(LeanspikeError) as error:
        compare_robustness(
            run, [untrained(Path("b"), "data.cross_validation=[1, 5]", change)], limit=10
        )
    assert str(error.value).startswith(message)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CIFAR-10-C of one corruption, of the synthetic test images, where data sets lie."""
    labels = load_dataset("synthetic").test.labels.numpy()
    monkeypatch.setattr(cifar_c, "IMAGES", len(labels))
    monkeypatch.setitem(module.CIFAR_C, "synthetic", "CIFAR-10-C")
    folder = tmp_path / "data" / "CIFAR-10-C"
    folder.mkdir(parents=True)
    np.save(folder / "contrast.npy", np.zeros((5 * len(labels), 32, 32, 3), dtype="u1"))
    np.save(folder / "labels.npy", np.tile(labels, 5))
    monkeypatch.setenv("LEANSPIKE_DATA", str(tmp_path / "data"))


def counts(found: Robustness) -> dict[str, int]:
    return {family: len(curves) for family, curves in found.corruptions.items()}


@pytest.mark.usefixtures("published")
def test_cifar_10_c_takes_part_with_a_mean_of_its_own(tmp_path: Path) -> None:
    found = compare_robustness(untrained(tmp_path / "run"), limit=10)
    assert counts(found) == {"leanspike": 10, "CIFAR-10-C": 1}
    assert set(found.mean_corruption_error) == {"leanspike", "CIFAR-10-C"}


@pytest.mark.usefixtures("published")
def test_cifar_10_c_is_left_out_of_a_split_which_is_said(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", "data.cross_validation=[1, 5]")
    assert counts(compare_robustness(run, limit=10)) == {"leanspike": 10}
    expected = "CIFAR-10-C is left out: data.cross_validation has chosen other test images"
    assert said(run).splitlines()[-1] == expected


def test_the_common_corruptions_take_part_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = SimpleNamespace(corrupt=lambda image, severity, *_, **__: image + np.uint8(severity))
    monkeypatch.setitem(sys.modules, "imagecorruptions", package)
    run = untrained(tmp_path / "run")
    found = compare_robustness(run, limit=10, common=True)
    assert counts(found) == {"leanspike": 10, "common": 19}
    assert [curve.name for curve in found.corruptions["common"]] == list(COMMON_CORRUPTIONS)
    page = (run.folder / "robustness.html").read_text()
    assert "Mean corruption error, common (19)" in page


def test_common_corruptions_that_do_not_fit_or_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = untrained(tmp_path / "grey", "data.name=synthetic_grey")
    with pytest.raises(LeanspikeError, match=r"^images are \[1, 28, 28\]; the common corruptions"):
        compare_robustness(grey, common=True)
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(LeanspikeError, match=r"pip install 'leanspike\[corruptions\]'$"):
        compare_robustness(untrained(tmp_path / "run"), common=True)
