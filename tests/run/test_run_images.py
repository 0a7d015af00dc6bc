"""A folder of images in a run: said before anything is trained, and damaged ones found then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run import Run, open_run
from leanspike.train import Monitor

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("unrendered")
MUTE = Monitor(Console(quiet=True))


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


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run, and its images."""
    place = tmp_path_factory.mktemp("images")
    write_images(place / "images")
    make(place / "run", place / "images")[0].train()
    return place / "run", place / "images"


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


def add_image(root: Path) -> None:
    shutil.copy(root / "cat" / "0.png", root / "cat" / "10.png")


def enlarge(root: Path) -> None:
    for path in root.rglob("*.png"):
        Image.open(path).resize((20, 20)).save(path)


def rename(root: Path) -> None:
    (root / "dog").rename(root / "emu")


def remove(root: Path) -> None:
    shutil.rmtree(root / "eel")


def brighten(root: Path) -> None:
    for path in root.rglob("*.png"):
        Image.open(path).point(lambda value: 128 + value // 2).save(path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (add_image, "22 training images, now 23; .*bring those"),
        (enlarge, "images of 1x28x28, now 1x20x20; "),
        (rename, "class 1 dog, now eel; .*bring"),
        (remove, "3 classes, now 2; 22 training images, now 14; 6 test images, now 4; "),
        (brighten, r"mean 0\.5\d*, now 0\.7"),
    ],
)
def test_images_that_changed_since_the_run_began_are_named_and_nothing_is_measured(
    change: Callable[[Path], None], why: str, done: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(done[0], tmp_path / "run")
    kept = shutil.copytree(done[1], tmp_path / "kept")
    root = done[1]
    before = (folder / "result.json").read_bytes()
    change(root)
    try:
        for again in (lambda: open_run(folder, MUTE), make(folder, root)[0].begin):
            with pytest.raises(LeanspikeError, match=why) as caught:
                again()
            assert "\n" not in str(caught.value)
        assert (folder / "result.json").read_bytes() == before
        make(tmp_path / "other", root)[0].begin()  # as the message says
    finally:
        shutil.rmtree(root)
        shutil.copytree(kept, root)
    assert list(open_run(folder, MUTE).evaluate().accuracy) == json.loads(before)["accuracy"]
    make(folder, root)[0].begin(fresh=True)


def test_a_run_of_before_that_was_recorded_goes_on(done: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(done[0], tmp_path / "run")
    (folder / "data.json").unlink()
    open_run(folder, MUTE).begin()
    assert (folder / "data.json").is_file()
