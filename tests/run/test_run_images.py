"""A folder of images in a run: said before anything is trained, and damaged ones found then."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.train import Monitor

Image = pytest.importorskip("PIL.Image")


def write_images(root: Path, mode: str = "L") -> None:
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "eel"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (28, 28), np.uint8)
            Image.fromarray(pixels).convert(mode).save(root / name / f"{number}.png")


def make(folder: Path, root: Path, *changes: str) -> tuple[Run, StringIO]:
    words = StringIO()
    own = "data.name=image_folder", f"data.root={root}", "ann.epochs=1", "snn=[]"
    recipe = load_recipe("digits", [*own, "model.options.width=0.25", *changes])
    return Run(recipe, folder, Monitor(Console(file=words, width=300), folder)), words


def test_what_was_read_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    run, words = make(tmp_path / "run", tmp_path / "images")
    result = run.train()
    first, second, *_, evaluating, timing = words.getvalue().splitlines()
    assert first.startswith(
        "image_folder: images of 1x28x28 (grey), 3 classes; 22 train, 2 validate, 6 test; mean 0.5"
    )
    assert second.endswith("has no test or val folder: a fixed fifth of each class tests")
    assert evaluating == "evaluating on 6 test images ..."
    assert timing == "timing SNN and ANN on this machine ..."
    assert result.times is not None
    assert [row.batch for row in result.times.batches] == [1, 6]
    assert result.mistakes is not None
    assert {m.picture and m.picture.height for m in result.mistakes.first} == {28}
    assert list(result.classes) == ["cat", "dog", "eel"]


def test_a_damaged_image_is_found_before_anything_is_written(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "RGB")
    for path in (tmp_path / "images").rglob("*.png"):
        if path.parent.name == "dog":
            path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LeanspikeError, match=r"no image in \S+dog/\d.png \(OSError: .*truncated"):
        make(tmp_path / "run", tmp_path / "images")[0].begin()
    assert not (tmp_path / "run").exists()


def test_a_root_that_the_data_set_does_not_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LeanspikeError, match=r"digits reads no files; leave data.root out, or"):
        make(tmp_path / "run", tmp_path, "data.name=digits")
