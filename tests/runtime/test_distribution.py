"""The distribution leanspike-runtime: it is built, and answers where NumPy is and no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from leanspike_runtime import Engine
from tests.engine.version1 import FOLDER, images

ROOT = Path(__file__).parents[2]
FILE = FOLDER / "version1.leanspike"

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def test_it_says_what_leanspike_says_of_itself() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    its = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text())["project"]
    for key in ("version", "authors", "license", "requires-python"):
        assert its[key] == ours[key]
    assert its["dependencies"] == [d for d in ours["dependencies"] if d.startswith("numpy")]
    assert (ROOT / "runtime" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("checkout")
    leave_out = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__", "build")
    for name in ("src/engine", "src/leanspike_runtime", "runtime"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    for name in ("libraries.py", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "./runtime", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", "wheel"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "wheel").glob("leanspike_runtime-*-py3-none-*.whl")  # for every Python
    return found


@pytest.mark.slow
@needs_compiler
def test_it_holds_one_package_its_library_and_the_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith(".so")] == ["leanspike_runtime/_engine.so"]
    modules = {path.name for path in (ROOT / "src" / "leanspike_runtime").glob("*.py")}
    assert {Path(name).name for name in names if name.endswith(".py")} == modules
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"leanspike_runtime"}
    assert [name for name in names if name.endswith("LICENSE")]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has this NumPy and the wheel, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    numpy = Path(np.__file__).parent
    for path in (numpy, numpy.with_name("numpy.libs")):
        if path.is_dir():
            (packages / path.name).symlink_to(path)
    zipfile.ZipFile(wheel).extractall(packages)
    return folder / "bin" / "python"


ANSWER = """
import importlib.util, json, sys
import numpy as np
import leanspike_runtime
assert importlib.util.find_spec("torch") is None
assert importlib.util.find_spec("leanspike") is None
engine = leanspike_runtime.Engine.load(sys.argv[1])
logits = engine(np.load(sys.argv[2]))
print(json.dumps([leanspike_runtime.__file__, engine.instructions, logits.tolist()]))
"""


@pytest.mark.slow
@needs_compiler
def test_it_answers_where_there_is_no_torch(python: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    ours = ("PYTHONPATH", "LEANSPIKE_INSTRUCTIONS")
    done = subprocess.run(
        [python, "-c", ANSWER, FILE, tmp_path / "images.npy"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in ours},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    place, instructions, logits = json.loads(done.stdout)
    assert Path(place).is_relative_to(python.parents[1])
    engine = Engine.load(FILE, instructions)
    assert np.array_equal(np.float32(logits), engine(images()))
