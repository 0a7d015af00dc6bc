"""What `benchmarks/gpu/run.sh` does, at a tiny size on the CPU, so that it does not rot."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import check_networks, check_neurons, cifar, compiled, prepare, times, training
from benchmarks.gpu.cases import Case, Found, Options, run_case
from benchmarks.gpu.checks import cases as checks
from benchmarks.gpu.install import lacking, requirements
from benchmarks.gpu.machine import describe
from benchmarks.gpu.measure import REHEARSAL, SHARES, parser
from benchmarks.gpu.show import table
from benchmarks.gpu.workers import NO_TIME, rows_of
from leanspike.errors import DataError
from leanspike.neuron import kernels

ROOT = Path(__file__).parents[1]
TINY = replace(REHEARSAL, width=1 / 16, batch=2, timesteps=(2,), rounds=2, train_batch=16)
QUICK = {case.name: case for case in checks(TINY) if "compiled" not in case.name}


@pytest.mark.parametrize("name", QUICK)
def test_a_check_passes_where_all_is_well(name: str) -> None:
    row = run_case(QUICK[name])
    judged = "not judged" not in row["detail"]
    assert row["ok"] is (True if judged else None), row


@pytest.mark.slow
def test_a_compiled_neuron_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")
    assert check_neurons.compiled("cpu").ok


def test_a_neuron_that_fires_too_late_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.lif
    monkeypatch.setattr(kernels, "lif", lambda x, leak, v, how: right(x, leak, v * 1.05, how))
    assert check_neurons.spikes("cpu", torch.float32).ok is False
    assert check_neurons.random_spikes("cpu").ok is False
    assert check_neurons.gradients("cpu", torch.float32).ok is False
    assert check_neurons.streaming("cpu").ok is False


def test_a_network_that_computes_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = check_networks.moved

    def wrong(snn: Any, device: str) -> Any:
        copy = right(snn, device)
        copy.get_submodule("features.conv2").weight.data[0] += 1
        return copy

    monkeypatch.setattr(check_networks, "moved", wrong)
    assert check_networks.outputs("cpu", "vgg6", "direct").ok is False
    assert check_networks.gradients("cpu", "vgg6", "direct").ok is False
    assert check_networks.rounded("cpu", None).ok is False
    assert check_networks.evaluated("cpu").ok is False


def test_nan_is_no_small_error() -> None:
    assert check_neurons.error(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("timesteps", [0, 2])
def test_a_step_and_an_answer_are_timed(train: bool, timesteps: int) -> None:
    work = times.Work(train, timesteps, "bfloat16")
    found = times.measure_network(work, TINY)
    low, high = found.values["quartiles"]
    assert 0 < low <= found.values["ms"] <= high
    assert found.values["rounds"] == 2
    assert found.figure.endswith(" ms")


def test_every_precision_and_number_of_steps_is_timed_as_it_stands_and_compiled() -> None:
    options = replace(TINY, timesteps=(1, 2, 4, 8))
    names = {case.name for case in times.cases(options)}
    assert {f"training, bfloat16, {who}" for who in ("ANN", "T = 1", "T = 8")} < names
    first, *others = [case.name for case in compiled.cases(options)]
    assert first == "one layer of neurons, forward and backward, compiled"
    assert others[0] == "training, bfloat16, T = 4, network compiled"
    assert len(others) == 4 * (1 + 2 * 4)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["network", "neurons"])
def test_a_compiled_network_is_timed(what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")
    assert times.measure_network(times.Work(True, 2, "float32", what), TINY).values["ms"] > 0


def test_it_trains_within_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PROBED", 1)
    options = replace(TINY, work=str(tmp_path), train_images=32, train_seconds=6.0)
    rows = {case.name: run_case(case) for case in training.cases(options)}
    assert [name for name, row in rows.items() if row["ok"] is False] == []
    assert list(rows)[-1] == "test set"
    assert len(rows["test set"]["values"]["accuracy_by_step"]) == 5
    planned = rows["speed"]["values"]["epochs"]
    for name in ("ann", "snn"):
        assert len(rows[name.upper()]["values"]["epochs"]) == planned[name]
    recipe = rows["test set"]["values"]["recipe"]
    assert recipe["ann"]["epochs"] == planned["ann"]
    assert recipe["model"]["name"] == "vgg16"


def test_the_epochs_fill_their_shares_of_the_time() -> None:
    seconds = {"ann": 0.1, "snn": 0.5}
    assert training.epochs_within(100, seconds, steps=10) == {"ann": 36, "snn": 7}
    assert training.epochs_within(1, seconds, steps=10) == {"ann": 1, "snn": 1}


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no git, no nvidia-smi
    monkeypatch.setenv("LEANSPIKE_COMMIT", "abc")
    found = describe("cpu")
    assert found.figure == "no GPU"
    assert (found.values["torch"], found.values["commit"]) == (torch.__version__, "abc")


# -- the processes ------------------------------------------------------------------------------

SECTION = """
import os, time
from benchmarks.gpu.cases import Case, Found
def right():
    print("whatever a library prints")
    return Found("fine", ok=True)
def cases(options):
    def fails(): raise ValueError("out of\\nluck")
    return [Case("first", right), Case("fails", fails), Case("hangs", lambda: time.sleep(60), 0.3),
            Case("dies", lambda: os._exit(3)), Case("last", right)]
"""


def rows(tmp_path: Path, seconds: float, device: str = "cpu") -> list[dict[str, Any]]:
    (tmp_path / "some_section.py").write_text(SECTION)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with (tmp_path / "log.txt").open("wb") as log:
        until = time.monotonic() + seconds
        return list(rows_of("some_section", Options(device), until, log, environment))


@pytest.mark.parametrize("device", ["cpu", "spoilt"])
def test_what_fails_hangs_or_dies_is_a_row_and_the_rest_goes_on(
    device: str, tmp_path: Path
) -> None:
    found = {row["name"]: (row["ok"], row["figure"]) for row in rows(tmp_path, 120, device)}
    assert list(found) == ["first", "fails", "hangs", "dies", "last"]
    assert found["first"] == found["last"] == (True, "fine")
    assert found["fails"] == (False, "failed")
    assert found["hangs"][0] is False
    assert found["hangs"][1].startswith("given up after")
    assert found["dies"] == (False, "its process ended with 3")
    assert "whatever a library prints" in (tmp_path / "log.txt").read_text()


def test_without_time_nothing_is_run_and_nothing_is_hidden(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, 0)
    assert row["ok"] is None
    assert row["figure"].startswith(NO_TIME)


def test_what_there_was_no_time_for_is_one_line_of_the_table() -> None:
    row = {"section": "time", "name": "a", "figure": NO_TIME, "detail": "", "ok": None}
    (line,) = table([row | {"values": {}}, row | {"name": "b", "values": {}}]).splitlines()[2:]
    assert [cell.strip() for cell in line.split("|")[3:7]] == ["2 more", NO_TIME, "", "a; b"]


def test_a_section_that_cannot_be_imported_is_a_row(tmp_path: Path) -> None:
    with (tmp_path / "log.txt").open("wb") as log:
        until = time.monotonic() + 60
        (row,) = rows_of("no_such_module", Options("cpu"), until, log, os.environ)
    assert row["ok"] is False
    assert "ended with 1" in row["figure"]


def test_a_failure_says_why() -> None:
    row = run_case(Case("fails", lambda: Found(**{"figure": 1 / 0})))
    assert (row["ok"], row["detail"]) == (False, "ZeroDivisionError: division by zero")


# -- run.sh, its files and its table ------------------------------------------------------------


def test_the_script_runs_and_leaves_a_dated_result(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    command = ["bash", str(ROOT / "benchmarks/gpu/run.sh"), "--rehearse", "--only", "time"]
    command += ["--timesteps", "1", "--minutes", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-rehearsal", folder.name)
    assert {path.name for path in folder.iterdir()} == {"result.json", "result.md", "log.txt"}
    result = json.loads((folder / "result.json").read_text())
    assert [row["name"] for row in result["rows"]][:2] == ["machine", "training, bfloat16, ANN"]
    assert result["rehearsal"] is True
    shown = table(result["rows"])
    assert done.stdout.rstrip().endswith(shown.rstrip())
    assert shown in (folder / "result.md").read_text()


def test_a_time_stands_beside_the_anns() -> None:
    def row(timesteps: int, ms: float) -> dict[str, Any]:
        values = {
            "train": True,
            "timesteps": timesteps,
            "dtype": "float32",
            "compiled": "",
            "ms": ms,
        }
        shown = {"name": "training", "figure": f"{ms} ms", "detail": "", "ok": None}
        return {**shown, "section": "time", "values": values}

    ann, snn = table([row(0, 2.0), row(4, 9.0)]).splitlines()[2:]
    assert [cell.strip() for cell in snn.split("|")[3:6]] == ["training", "9.0 ms", "4.50"]
    assert [cell.strip() for cell in ann.split("|")[3:6]] == ["training", "2.0 ms", ""]


def test_the_shares_of_the_time_are_a_whole() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)


def test_the_commands_of_the_readme_are_understood() -> None:
    text = (ROOT / "benchmarks/gpu/README.md").read_text()
    commands = re.findall(r"^benchmarks/gpu/run\.sh (.*?)(?:  #.*)?$", text, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        if "--wheels" in words:  # run.sh's own
            del words[words.index("--wheels") :][:2]
            words = [word for word in words if word not in ("--wheels", ".gpu/wheels")]
        assert parser().parse_args(words).data
    for option in re.findall(r"^\| `--(\w+)", text, re.MULTILINE):
        assert option in vars(parser().parse_args([]))


# -- what travels -------------------------------------------------------------------------------


@pytest.fixture
def tiny_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Six batches of six images, each in the binary layout; pictures of three by two of them."""
    monkeypatch.setattr(cifar, "IMAGES", 6)
    random = np.random.default_rng(0)
    batches = {}
    for number, name in enumerate(prepare.BATCHES):
        labels = random.integers(10, size=(6, 1), dtype=np.uint8)
        pixels = random.integers(256, size=(6, 3, 32, 32), dtype=np.uint8)
        batches[name] = np.concatenate([labels, pixels.reshape(6, -1)], axis=1).tobytes()
        if number % 2:
            (tmp_path / f"{name}.bin").write_bytes(batches[name])
            continue
        sheet = pixels.reshape(3, 2, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(96, 64, 3)
        Image.fromarray(sheet).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.labels").write_bytes(labels.tobytes())
    return batches


def test_cifar_is_collected_from_its_parts(tmp_path: Path, tiny_cifar: dict[str, bytes]) -> None:
    number = prepare.split(tmp_path, tmp_path / "parts", most=45_000)
    parts = sorted((tmp_path / "parts").iterdir())
    assert len(parts) == number > 1
    assert all(sum(p.stat().st_size for p in part.iterdir()) <= 45_000 for part in parts)
    root = cifar.collect(parts, tmp_path / "there")
    found = {path.stem: path.read_bytes() for path in (root / "cifar-10-batches-bin").iterdir()}
    assert found == tiny_cifar


def test_parts_of_cifar_that_lack_or_are_damaged_are_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, tiny_cifar: dict[str, bytes]
) -> None:
    there = tmp_path_factory.mktemp("there")
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"CIFAR-10 lacks test_batch in .*; give --data"):
        cifar.collect([tmp_path], there)
    (tmp_path / "test_batch.bin").write_bytes(tiny_cifar["test_batch"][:-1])
    with pytest.raises(DataError, match=r"test_batch.bin has 18437 bytes instead of 18438"):
        cifar.collect([tmp_path], there)
    (tmp_path / "test_batch.bin").write_bytes(b"\x0a" + tiny_cifar["test_batch"][1:])
    with pytest.raises(DataError, match=r"a label of 10; CIFAR-10 has 0 to 9"):
        cifar.collect([tmp_path], there)
    (tmp_path / "data_batch_1.labels").write_bytes(b"\x00")
    with pytest.raises(DataError, match=r"data_batch_1.png has 6 images and 1 labels instead of 6"):
        cifar.collect([tmp_path], tmp_path_factory.mktemp("elsewhere"))


def test_torch_is_taken_as_it_is() -> None:
    names = {re.split(r"[<>=]", line)[0] for line in requirements()}
    assert names == {"filelock", "numpy", "pydantic", "pyyaml", "rich", "safetensors"}


def test_what_lacks_is_taken_from_the_wheels_or_named(tmp_path: Path) -> None:
    about = "some_thing-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "some_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_thing.py", "")
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: some-thing\nVersion: 1.0\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    there = ["--find-links", str(tmp_path)]
    (url,), problem = lacking(["some-thing>=1", "numpy"], there)  # numpy is there
    assert url.endswith("some_thing-1.0-py3-none-any.whl")
    assert problem == ""
    urls, problem = lacking(["some-thing>=2"], there)
    assert urls == []
    assert "some-thing>=2" in problem
