"""The first hour on the command line: a folder of images, a network in a file, and each mistake.

Of the mistakes the message is read, and its advice is followed to the letter.
"""

from __future__ import annotations

import importlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

import leanspike as ls
from first_hour import CODE, digits, train, write_images
from leanspike.cli import main

pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("unrendered")  # but for the first run

IMAGES = ("data.name=image_folder", "data.root=images")
OWN = ("model.name=fifthnet:Net", *IMAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where somebody works: a file with a network, a folder of images."""
    place = tmp_path_factory.mktemp("work")
    (place / "fifthnet.py").write_text(CODE)
    write_images(place / "images", 900)
    yield place
    sys.modules.pop("fifthnet", None)


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])


def command(line: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, what is for programs, what is for people."""
    code, out, err = 0, io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([*line.split(), *arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def done(line: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """The answer of a command that works, and its words."""
    code, out, err = command(line, *arguments)
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer, " ".join(err.split())


def refused(line: str, *arguments: str) -> str:
    """The one line of a command that does not."""
    code, out, err = command(line, *arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    return err


@pytest.fixture(scope="module")
def first(folder: Path) -> tuple[dict[str, Any], str]:
    """The first run, once all that stops it is put right, one after another, as each line says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        wrong = ["model.name=fifthnet:Net", "model.options.channels=3", "data.root=images"]

        line = refused("train digits --out first", *wrong, "snn.epochs=12")
        assert "snn is a list, and 'epochs' is in each of 0..0; name one, as" in line
        wrong.append(line.rsplit("as ", 1)[1].strip())
        assert wrong[-1] == "snn.0.epochs=12"

        line = refused("train digits --out first", *wrong)
        assert f"would import fifthnet ({folder / 'fifthnet.py'}) and call Net(channels=3)" in line
        assert "add --trust if you trust it" in line
        assert "fifthnet" not in sys.modules

        line = refused("train digits --trust --out first", *wrong)
        assert "digits reads no files; leave data.root out, or name a data set that does" in line
        assert "(data.name=image_folder for images of your own)" in line
        wrong.append("data.name=image_folder")

        line = refused("train digits --trust --out first", *wrong)
        assert "does not take images of 1 channel, 8x8" in line
        assert "make it take them, by its model.options or in its class" in line
        wrong[1] = "model.options={channels: 1, classes: 4}"

        line = refused("train digits --trust --out first", *wrong)
        assert "outputs of shape [1, 4] for one image, but image_folder has 10 classes" in line
        assert "make it give [1, 10], by its model.options" in line
        wrong[1] = "model.options={channels: 1, classes: 10}"
        assert not Path("first").exists()
        return done("train digits --trust --out first", *wrong)


def test_the_run_says_what_it_read_and_how_it_went(first: tuple[dict[str, Any], str]) -> None:
    answer, words = first
    assert "image_folder: images of 1x8x8 (grey), 10 classes; 648 train, 72 validate, 180" in words
    assert "model fifthnet:Net takes no images in channels_last" in words
    assert answer["ann_accuracy"] > 0.94
    assert answer["snn_accuracy"] > answer["ann_accuracy"] - 0.07  # of 180 images
    assert "less energy on arithmetic than the ANN" in words
    assert Path(answer["report"]).read_text().startswith("<!DOCTYPE html>")


@pytest.mark.usefixtures("first")
def test_it_is_evaluated_and_reported_again() -> None:
    before = json.loads(Path("first/result.json").read_text())
    assert "add --trust" in refused("evaluate first")
    answer, _ = done("evaluate first --trust --early-exit margin")
    assert answer["snn_accuracy"] == before["accuracy"][-1]
    assert answer["early_exit"]["margin"]["mean_steps"] < 5
    Path("first/report.html").unlink()
    again, _ = done("report first")
    assert again["snn_accuracy"] == answer["snn_accuracy"]
    assert Path("first/report.html").is_file()


@pytest.mark.usefixtures("first")
def test_an_ann_of_a_loop_of_ones_own_is_converted() -> None:
    sys.path.insert(0, "")
    module = importlib.import_module("fifthnet")
    fit, _ = digits()
    torch.manual_seed(0)
    ann = module.Net()
    train(ann, (fit[0] - 0.3053) / 0.3763, fit[1])
    ls.save(ann, "mine")
    line = refused("convert digits --ann mine --trust --out converted", *IMAGES)
    assert "own, but does not name it; give model.name=package.module:Class and --trust" in line
    answer, words = done("convert digits --ann mine --trust --out converted", *OWN)
    assert "thresholds (scale" in words
    assert answer["ann_accuracy"] > 0.95  # some of these images it was trained on
    assert answer["snn_accuracy"] > answer["ann_accuracy"] - 0.03
    line = refused("convert digits --ann first --trust --out again", *OWN)
    assert "first has not the ANN of this recipe: model.options.channels is 1 there and" in line
    assert "give --ann first/ann to begin with its weights as they are" in line


def test_nothing_that_is_trained() -> None:
    nothing = (*OWN, "ann=null", "snn=[]")
    line = refused("train digits --trust --out untrained", *nothing)
    assert "nothing is trained (no ann to train, no model.weights, no stage of snn)" in line
    assert "or --untrained to measure it so" in line
    assert not Path("untrained").exists()
    answer, words = done("train digits --trust --out untrained --untrained", *nothing)
    assert answer["at_chance"] is True
    assert "which is at chance: guessing gives 1" in words
    assert "less energy than" not in words
    assert "Its energy means nothing" in words


@pytest.mark.usefixtures("first")
def test_images_that_changed_since() -> None:
    shutil.copytree("images", "kept")
    shutil.rmtree("images/digit3")
    line = refused("evaluate first --trust")
    assert "image_folder has changed since first began: 10 classes, now 9; class 3 digit3" in line
    assert "bring those images back, or begin another run (train with another --out)" in line
    other = ("model.options.classes=9", "ann.epochs=1", "snn=[]")
    assert done("train digits --trust --out second", *OWN, *other)[0]["timesteps"] == 5
    shutil.copytree("kept/digit3", "images/digit3")
    answer, _ = done("evaluate first --trust")
    assert answer["timesteps"] == 5
