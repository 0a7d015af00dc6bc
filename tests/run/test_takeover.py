"""The ANN of another run, taken over if it is the one that this run would train."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from leanspike.errors import LeanspikeError
from leanspike.files import write_text
from leanspike.recipes import load_recipe
from leanspike.run import CHECKPOINT, LOG, Run, takeover
from leanspike.run.clock import read_backends, read_macs, read_seconds
from leanspike.run.takeover import read_taken_over
from leanspike.saved import weights_digest
from leanspike.train import Checkpoints, Monitor, macs_of, read_log

SMALL = (
    *("model.options.layers=[4, A]", "model.options.head=[]", "data.train_images=64"),
    *("ann.epochs=1", "ann.batch_size=32", "spike.calibrate.images=32", "snn=[]", "device=cpu"),
)


def make(folder: Path, *changes: str, ann_of: Path | None = None) -> Run:
    recipe = load_recipe("digits", [*SMALL, *changes])
    return Run(recipe, folder, Monitor(Console(quiet=True), folder), ann_of=ann_of)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "other"
    run = make(folder)
    run.begin()
    run.train_ann()
    run.convert()
    return folder


def test_an_ann_is_taken_over_with_its_time_and_its_rows(other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    changes = "name=new", "spike.timesteps=3"
    run = make(folder, *changes, ann_of=other)
    run.begin()
    run.train_ann()
    for file in ("model.safetensors", "spec.json"):
        assert (folder / "ann" / file).read_bytes() == (other / "ann" / file).read_bytes()
    assert read_seconds(folder) == {"train ann": read_seconds(other)["train ann"]}
    assert read_backends(folder) == {"train ann": read_backends(other)["train ann"]}
    assert read_macs(folder) == {"train ann": read_macs(other)["train ann"]}
    assert read_log(folder / LOG) == read_log(other / LOG)
    taken = read_taken_over(folder)
    assert taken is not None
    assert (taken.run, taken.weights_sha256) == (str(other), weights_digest(other / "ann"))
    # It goes on as with an ANN of its own, with the option or without.
    for again in (make(folder, *changes, ann_of=other), make(folder, *changes)):
        again.begin()
        again.train_ann()
    assert again.convert() is not None
    assert list(read_seconds(folder)) == ["train ann", "calibrate"]
    assert len(read_log(folder / LOG)) == 1
    again.train_snn()
    origin = again.evaluate().provenance
    assert origin.ann_from == str(other)
    assert list(origin.macs) == ["train ann", "calibrate"]
    assert origin.macs["train ann"] == macs_of(read_log(folder / LOG), "ann")
    assert origin.training_macs == sum(found.total for found in origin.macs.values()) > 0
    assert f"taken over from the run <code>{other}</code>" in (folder / "report.html").read_text()


def test_where_the_data_lie_is_no_matter() -> None:
    here, there = (load_recipe("cifar10", [f"data.root={root}"]) for root in ("here", "there"))
    assert takeover.trained_by(here) == takeover.trained_by(there)
    assert takeover.trained_by(here)["data"]["name"] == "cifar10"


@pytest.mark.parametrize("broken", ["write_seconds", "write_backends", "write_macs", "write_log"])
def test_what_an_attempt_left_out_is_made_good(
    broken: str, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    run = make(tmp_path, ann_of=other)
    run.begin()
    with monkeypatch.context() as patched:
        patched.setattr(takeover, broken, stopped)
        with pytest.raises(KeyboardInterrupt):
            run.train_ann()
    make(tmp_path, ann_of=other).begin()
    assert read_seconds(tmp_path) == {"train ann": read_seconds(other)["train ann"]}
    assert read_backends(tmp_path) == {"train ann": read_backends(other)["train ann"]}
    assert read_macs(tmp_path) == {"train ann": read_macs(other)["train ann"]}
    assert read_log(tmp_path / LOG) == read_log(other / LOG)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("seed=1", "seed is 0 there and 1 here"),
        ("precision=float32", "precision is 'auto' there and 'float32' here"),
        ("data.augment.crop=3", "data.augment.crop is [0-2] there and 3 here"),
        ("data.train_images=60", "data.train_images is 64 there and 60 here"),
        ("model.options.layers=[8, A]", "model.options.layers.0 is 4 there and 8 here"),
        ("ann.epochs=2", "ann.epochs is 1 there and 2 here"),
    ],
)
def test_another_ann_is_refused_by_its_first_difference(
    change: str, difference: str, other: Path, tmp_path: Path
) -> None:
    why = rf"{other} has not the ANN of this recipe: {difference}; give --ann {other}/ann to begin"
    with pytest.raises(LeanspikeError, match=why):
        make(tmp_path / "run", change, ann_of=other).begin()
    assert not (tmp_path / "run").exists()


def drop_digest(folder: Path) -> None:
    spec = json.loads((folder / "ann" / "spec.json").read_text())
    write_text(folder / "ann" / "spec.json", json.dumps({**spec, "weights_sha256": None}))


def flip_a_bit(folder: Path) -> None:
    path = folder / "ann" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_model(folder: Path) -> None:
    spec = json.loads((folder / "ann" / "spec.json").read_text())
    spec["model"]["options"]["dropout_conv"] = 0.9
    write_text(folder / "ann" / "spec.json", json.dumps(spec))


def change_data(folder: Path) -> None:
    seen = json.loads((folder / "data.json").read_text())
    write_text(folder / "data.json", json.dumps({**seen, "train": 63}))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (drop_digest, r"spec\.json holds no digest of its weights; give --ann"),
        (flip_a_bit, r"model\.safetensors is not the file that spec\.json was written with"),
        (change_model, r"spec\.json describes another network than its recipe"),
        (change_data, "has seen other data: 63 training images, now 64; give --ann"),
        (lambda folder: (folder / "data.json").unlink(), "does not record which data it read"),
        (
            lambda folder: shutil.rmtree(folder / "ann"),
            "holds no trained ANN yet; finish it with leanspike",
        ),
        (lambda folder: (folder / "recipe.yaml").unlink(), "is not a run of leanspike"),
    ],
)
def test_what_the_other_run_holds_is_asked_not_believed(
    spoil: Callable[[Path], object], why: str, other: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(other, tmp_path / "source"))
    spoil(source)
    with pytest.raises(LeanspikeError, match=why) as error:
        make(tmp_path / "run", ann_of=source).begin()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_training_that_reads_other_files_is_not_known_to_be_the_same(
    other: Path, tmp_path: Path
) -> None:
    weights = f"model.weights={other / 'ann'}"
    tuned = make(tmp_path / "tuned", weights)
    tuned.begin()
    tuned.train_ann()
    with pytest.raises(
        LeanspikeError, match=r"depends on model\.weights=.*not record that file's content"
    ):
        make(tmp_path / "run", weights, ann_of=tmp_path / "tuned").begin()
    teacher = f"teacher={{model: {{weights: {other / 'ann'}}}}}", "ann.objective=[response]"
    taught = make(tmp_path / "taught", *teacher)
    taught.begin()
    with pytest.raises(LeanspikeError, match=r"depends on teacher\.model\.weights="):
        make(tmp_path / "run", *teacher, ann_of=tmp_path / "taught").begin()
    with pytest.raises(LeanspikeError, match="ann is null, so there is no training to take over"):
        make(tmp_path / "run", "ann=null", ann_of=other).begin()


def test_an_ann_of_ones_own_is_not_replaced(other: Path, tmp_path: Path) -> None:
    own = make(tmp_path / "own")
    own.begin()
    own.train_ann()
    make(tmp_path / "own", ann_of=other).begin()  # the same bits
    (own.folder / "ann" / "model.safetensors").unlink()
    drop_digest(own.folder)
    with pytest.raises(LeanspikeError, match=r"own holds another ANN than .*leave --ann out"):
        make(tmp_path / "own", ann_of=other).begin()
    shutil.rmtree(own.folder / "ann")
    for trace in ("seconds.json", "log.jsonl", None):  # an attempt that was killed may leave either
        with pytest.raises(LeanspikeError, match="own has begun to train an ANN of its own; leave"):
            make(tmp_path / "own", ann_of=other).begin()
        if trace is not None:
            (own.folder / trace).unlink()
            Checkpoints(own.folder / CHECKPOINT, 1).save({"stage": 0})
    again = make(tmp_path / "own", ann_of=other)
    again.begin(fresh=True)  # as the message says
    again.train_ann()
    assert read_taken_over(again.folder) is not None


def test_a_fresh_run_does_not_remove_the_ann_it_takes_over(other: Path) -> None:
    with pytest.raises(LeanspikeError, match=r"--fresh would remove .*, which this run needs"):
        make(other, ann_of=other).begin(fresh=True)
    assert (other / "ann").exists()


def test_a_damaged_record_of_it_is_named(other: Path, tmp_path: Path) -> None:
    run = make(tmp_path, ann_of=other)
    run.begin()
    run.train_ann()
    (tmp_path / "ann" / "taken_over.json").write_text("{}")
    with pytest.raises(LeanspikeError, match=r"taken_over\.json is damaged; remove it"):
        make(tmp_path).begin()
    (tmp_path / "ann" / "taken_over.json").unlink()
    make(tmp_path).begin()  # as the message says
