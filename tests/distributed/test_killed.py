"""Processes of a run that are killed, and a mistake that only one of them makes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc"),
]
CHANGES = (
    *("model.options.layers=[4, A]", "model.options.head=[]", "data.train_images=64"),
    *("ann.epochs=3", "ann.batch_size=32", "spike.calibrate.images=32"),
    "snn=[{epochs: 3, timesteps: 2, batch_size: 32}]",
    *("device=cpu", "precision=float32", "checkpoint_minutes=0.000001"),
)
FAILING = """
import os, time
from pathlib import Path
from torch import nn
from leanspike.errors import LeanspikeError

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.relu, self.head = nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps == 2 and os.environ["RANK"] == "1":
            Path(__file__).with_name("failed").write_text(str(time.time()))
            raise LeanspikeError("this process has no cats; give it some")
        return self.head(self.relu(self.hidden(x.flatten(1))))
"""


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "leanspike", "train", "digits", *words]
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [*command, "--processes", "2"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def rows(run: Path) -> list[dict[str, object]]:
    log = run / "log.jsonl"
    found = map(json.loads, log.read_text().splitlines() if log.is_file() else [])
    return [{**row, "seconds": None} for row in found]


def kill(launcher: subprocess.Popen[str], rank: int) -> None:
    """SIGKILL for the process of that rank."""
    children = Path(f"/proc/{launcher.pid}/task").glob("*/children")
    for child in [int(number) for file in children for number in file.read_text().split()]:
        said = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in said:
            os.kill(child, signal.SIGKILL)
            return
    raise AssertionError(f"no process of rank {rank}")


def kill_after(launcher: subprocess.Popen[str], run: Path, stage: str, rank: int) -> None:
    """Wait for a stage's first epoch, then kill."""
    while not any(row["stage"] == stage for row in rows(run)):
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.01)
    kill(launcher, rank)


def test_killed_processes_end_with_the_bits_of_those_that_were_not(tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start(tmp_path, *CHANGES, "--out", str(whole))
    said = undisturbed.communicate(timeout=800)[1]
    assert undisturbed.returncode == 0, said
    launcher = start(tmp_path, *CHANGES, "--out", str(run), "--restarts", "3")
    kill_after(launcher, run, "ann", rank=1)
    kill_after(launcher, run, "snn T=2", rank=0)
    out, said = launcher.communicate(timeout=800)
    assert launcher.returncode == 0, said
    for number, rank in enumerate((1, 0), 1):
        assert f"process {rank} of 2 was ended by SIGKILL; all resume from the last" in said
        assert f"({number} of 3)" in said
    assert json.loads(out.splitlines()[-1])["report"] == str(run / "report.html")
    assert rows(run) == rows(whole)
    for name in ("ann", "start", "snn"):
        weights = Path(name, "model.safetensors")
        assert (run / weights).read_bytes() == (whole / weights).read_bytes(), name


def test_a_mistake_of_one_process_ends_all_with_one_line_at_once(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    own = ("model={name: 'failing:Net', options: {}}", "ann.epochs=1", "data.train_images=512")
    words = [*own, "ann.batch_size=32", "device=cpu", "snn=[]", "--trust", "--restarts", "3"]
    failed = start(tmp_path, *words, "--out", str(tmp_path / "run"))
    out, said = failed.communicate(timeout=800)
    assert failed.returncode == 1, said
    took = time.time() - float((tmp_path / "failed").read_text())
    assert took < 60, said
    assert re.findall("error: .*", said) == ["error: this process has no cats; give it some"]
    assert "Traceback" not in said
    assert "resume from" not in said
    assert out == ""
