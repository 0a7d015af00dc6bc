"""The leaves of each instruction set give what plain loops give, and touch nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("leaves") / "leaves"
    flags = "-std=c11 -O1 -Wall -Wextra -Werror -ffp-contract=off -fsanitize=address,undefined"
    code = [ROOT / "tests" / "engine" / "leaves.c", ROOT / "src" / "engine" / "kernels_fast.c"]
    words = [COMPILER or "cc", *flags.split(), "-fno-sanitize-recover=all", *code, "-o", program]
    done = subprocess.run([*words, "-lm"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return program


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_leaves_give_the_bits_of_plain_loops(leaves: Path, new_seed: int) -> None:
    done = subprocess.run([leaves, str(new_seed), "60"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
