"""``--trust`` on the command line: what each command does with a network of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanspike.cli import main

pytestmark = pytest.mark.usefixtures("unrendered")
CODE = """
from torch import nn

print("IMPORTED")


class Net(nn.Sequential):
    def __init__(self, width=16):
        layers = nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)
        super().__init__(nn.Flatten(), *layers)
"""
TRAIN = ("train", "digits", "model.name=thirdnet:Net", "ann.epochs=1", "snn.0.epochs=1")
CONVERT = ("convert", "digits", "--ann", "runs/digits/ann")
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "thirdnet.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    yield tmp_path
    sys.modules.pop("thirdnet", None)


def refused(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 1


def test_what_builds_the_network_needs_trust(here: Path, capsys: Captured) -> None:
    refused(*TRAIN)
    out, err = capsys.readouterr()
    assert f"would import thirdnet ({here / 'thirdnet.py'}) and call Net()" in err
    assert "IMPORTED" not in out + err
    assert not (here / "runs").exists()
    done(*TRAIN, "--trust")
    assert "IMPORTED" in capsys.readouterr().out
    done(*TRAIN)  # it is complete, and nothing is built
    done("report", "runs/digits")
    for again in (("evaluate", "runs/digits"), ("robustness", "runs/digits")):
        capsys.readouterr()
        refused(*again)
        assert "add --trust" in capsys.readouterr().err
    done("evaluate", "runs/digits", "--trust")
    done("robustness", "runs/digits", "--limit", "5", "--trust")
    capsys.readouterr()
    refused(*CONVERT, "--trust")
    assert "give model.name=thirdnet:Net and --trust" in capsys.readouterr().err
    done(*CONVERT, "model.name=thirdnet:Net", "--trust")


def done(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0


@pytest.mark.usefixtures("here")
def test_a_saved_network_of_the_zoo_says_which_it_is() -> None:
    done("train", "digits", "ann.epochs=1", "snn=[]", "model.options.width=0.25")
    done(*CONVERT)
    assert "width: 0.25" in Path("runs/digits-converted/recipe.yaml").read_text()


def test_a_recipe_that_names_the_network_need_not_be_told_again(
    here: Path, capsys: Captured
) -> None:
    done(*TRAIN, "snn=[]", "--trust")
    recipe = here / "mine.yaml"
    recipe.write_text((here / "runs/digits/recipe.yaml").read_text())
    done("convert", "mine.yaml", "--ann", "runs/digits/ann", "--trust", "--out", "runs/again")
    assert "name: thirdnet:Net" in Path("runs/again/recipe.yaml").read_text()
    done("train", "digits", "ann.epochs=1", "snn=[]", "model.options.width=0.25", "--out", "zoo")
    done("convert", "mine.yaml", "--ann", "zoo/ann", "--out", "runs/zoo")  # which says what it is
    assert "name: vgg" in Path("runs/zoo/recipe.yaml").read_text()
    capsys.readouterr()
    refused("convert", "mine.yaml", "--ann", "runs/digits/ann", "--out", "runs/third")
    assert "add --trust" in capsys.readouterr().err
