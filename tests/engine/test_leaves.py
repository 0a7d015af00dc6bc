"""The leaves of each instruction set give what plain loops give, and touch nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER, MAKE = shutil.which("cc"), shutil.which("make")
PROGRAM = "build/leaves-cc-address,undefined"


@pytest.fixture(scope="module")
def leaves() -> Path:
    """The program, under the sanitizers, which ``make sanitize`` may have compiled before."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    command = [MAKE or "make", "--silent", "CC=cc", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return ROOT / PROGRAM


@pytest.mark.skipif(not (COMPILER and MAKE), reason="there is no C compiler, or no make")
def test_leaves_give_the_bits_of_plain_loops(leaves: Path, new_seed: int) -> None:
    done = subprocess.run([leaves, str(new_seed), "60"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
