"""The native kernel's build: optional, clean, and nothing but the library in the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def build_wheel(folder, **environment):
    """The names of the files in a wheel that is built from a copy of the sources."""
    pytest.importorskip("setuptools", "77")
    leave_out = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=leave_out)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", "wheel"],
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    (wheel,) = (folder / "wheel").iterdir()
    return zipfile.ZipFile(wheel).namelist()


@pytest.mark.slow
def test_without_a_compiler_the_build_succeeds(tmp_path):
    names = build_wheel(tmp_path, CC="false")
    assert "leanspike/neuron/kernels/reference.py" in names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.slow
@needs_compiler
def test_the_wheel_holds_the_library_and_no_sources(tmp_path):
    names = build_wheel(tmp_path)
    (library,) = (name for name in names if name.endswith(".so"))
    assert library.startswith("leanspike/neuron/kernels/_native.")
    assert not [name for name in names if name.endswith((".c", ".h"))]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("standard", ["c11", "c17"])
def test_the_sources_compile_without_a_warning(tmp_path, standard):
    flags = f"-std={standard} -O3 -fopenmp-simd -Wall -Wextra -Wpedantic -Wshadow -Werror -fPIC"
    source = ROOT / "src" / "native" / "lif.c"
    subprocess.run([COMPILER, *flags.split(), "-c", source, "-o", tmp_path / "lif.o"], check=True)
