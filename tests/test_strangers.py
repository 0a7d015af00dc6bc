"""Files of strangers run nothing: a canary wherever code could hide, and none is called."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.cli import main
from leanspike.data import read_events
from leanspike.data.cifar import CIFAR10, read_cifar
from leanspike.errors import LeanspikeError
from leanspike.models.published import load_published
from leanspike.recipes import load_recipe
from leanspike.run.seen import check_seen
from leanspike.train import Checkpoints, read_log

SET = "LEANSPIKE_CANARY"
CODE = f"import os; os.environ['{SET}'] = 'called'"
TAGS = [
    f'!!python/object/apply:exec ["{CODE}"]',
    f'!!python/object/new:exec {{args: ["{CODE}"]}}',
    "!!python/module:strangers",
    "!!python/name:strangers.Net",
    "!!python/object:strangers.Net {}",
]


class Canary:
    """Runs where a pickle that holds it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (CODE,)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of a stranger's lies on the path; neither it nor a canary runs."""
    monkeypatch.delenv(SET, raising=False)
    (tmp_path / "strangers.py").write_text(f"{CODE}\nclass Net: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert SET not in os.environ
    assert "strangers" not in sys.modules


def test_the_canary_runs_where_a_pickle_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SET, "")  # what the canary sets is undone
    pickle.loads(pickle.dumps(Canary()))
    assert os.environ[SET] == "called"
    monkeypatch.delenv(SET)


def written(path: Path, write: Callable[..., object], *content: Any, **named: Any) -> Path:
    file = io.BytesIO()
    write(file, *content, **named)
    path.write_bytes(file.getvalue())
    return path


@pytest.mark.parametrize("tag", TAGS)
def test_tags_in_a_recipe(tag: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"name: a\ndata: {{name: digits}}\nseed: {tag}\n")
    with pytest.raises(LeanspikeError, match="could not determine a constructor"):
        load_recipe(path)


@pytest.mark.parametrize(
    "key",
    [
        "model.name=strangers:Net",
        "teacher={model: {name: 'strangers:Net', weights: strangers.py}}",
    ],
)
def test_names_of_modules_in_a_recipe(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "digits", key, "--out", "run"])
    assert "that runs code; add --trust" in capsys.readouterr().err


def test_a_checkpoint(tmp_path: Path) -> None:
    path = written(tmp_path / "checkpoint.pt", _saved, {"stage": 0, "position": Canary()})
    with pytest.raises(LeanspikeError, match="damaged or not a checkpoint"):
        Checkpoints(path, 1).load()


def test_published_weights(tmp_path: Path) -> None:
    path = written(tmp_path / "a.th", _saved, {"state_dict": {"weight": Canary()}})
    with pytest.raises(LeanspikeError, match="damaged or not a file of plain tensors"):
        load_published(nn.Linear(1, 1), path)


def _saved(file: io.BytesIO, content: Any) -> None:
    torch.save(content, file)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_pickles_of_cifar(name: str, tmp_path: Path) -> None:
    folder = tmp_path / CIFAR10.pickled
    folder.mkdir()
    written(folder / name, lambda file, content: pickle.dump(content, file), {"data": Canary()})
    with pytest.raises(LeanspikeError, match="incomplete or damaged"):
        read_cifar(tmp_path, CIFAR10)


def test_arrays_of_objects(tmp_path: Path) -> None:
    objects = np.array([Canary()] * 4, dtype=object)
    alone = written(tmp_path / "a.npy", np.save, objects)
    named = written(tmp_path / "a.npz", np.savez, x=objects, y=objects, t=objects, p=objects)
    for path in (alone, named):
        with pytest.raises(LeanspikeError, match="no events in"):
            read_events(path)


def test_names_in_a_spec(tmp_path: Path) -> None:
    ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    snn = ls.spike(ann, example_input=torch.zeros(1, 2), timesteps=2)
    folder = ls.save(snn, tmp_path / "snn", ls.ModelSpec(name="strangers:Net", num_classes=2))
    with pytest.raises(LeanspikeError, match="loading imports nothing"):
        ls.load(folder)
    spec = json.loads((folder / "spec.json").read_text())
    for part in ("activations", "lower"):
        (folder / "spec.json").write_text(
            json.dumps({**spec, "spike": {**spec["spike"], part: ["strangers.Net"]}})
        )
        with pytest.raises(LeanspikeError, match=r"strangers\.Net"):
            ls.load(folder, ann)


def test_names_in_a_file_of_nir(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    path = tmp_path / "a.nir"
    nir.write(path, ls.to_nir(ls.spike(ann, example_input=torch.zeros(1, 2), timesteps=2)))
    with h5py.File(path, "a") as file:
        nodes = file["node/nodes"]
        first = next(iter(nodes))
        nodes.move(first, "__import__('strangers')")
        nodes[next(iter(set(nodes) - {first}))]["type"][...] = b"strangers.Net"
    with pytest.raises(LeanspikeError):
        ls.from_nir(path)


def test_recordings_that_lead_to_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(400))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "xytp":
            file.create_dataset(name, (20,), dtype="u1", external=[("secret", 0, 20)])
    with pytest.raises(LeanspikeError, match="holds no data in this file"):
        read_events(tmp_path / "a.h5")


def test_records_of_a_run_are_plain_data(tmp_path: Path) -> None:
    for name, read in {
        "log.jsonl": lambda: read_log(tmp_path / "log.jsonl"),
        "data.json": lambda: check_seen(tmp_path, None),  # type: ignore[arg-type]
        "result.json": lambda: ls.evaluation.load_result(tmp_path / "result.json"),
    }.items():
        (tmp_path / name).write_bytes(pickle.dumps(Canary()))
        with pytest.raises(LeanspikeError):
            read()


def test_every_page_forbids_scripts_and_requests() -> None:
    folder = Path(ls.report.__file__).parent
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert policy in (folder / "page.html").read_text()
    pages = [path for path in folder.glob("*.html") if path.name != "page.html"]
    assert len(pages) >= 3
    for page in pages:
        text = page.read_text()
        assert text.startswith('{% extends "page.html" %}')
        unescaped = set(re.findall(r"\{\{ *(\w+)[.\w]* *\| *safe", text))
        assert unescaped <= {*("plots", "plot", "curves", "picture", "sheet", "sign")}  # drawn here
        assert text.count("safe") == len(re.findall(r"\{\{ *\w+[.\w]* *\| *safe *\}\}", text))
