"""The short form of benchmarks/faults.py: some of each kind of fault, all of which end well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNS = ("SIGTERM", "limited in size", "read-only", "memory ends")


def faults(*arguments: str) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--short", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")
@pytest.mark.timeout(1500)
def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    faults("--count", "8", "--files")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")
@pytest.mark.timeout(1500)
def test_runs_that_are_stopped_or_starved_say_so_and_go_on() -> None:
    faults(*(part for name in RUNS for part in ("--only", name)))
