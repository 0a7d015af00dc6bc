"""The native kernel's build: optional, clean, and nothing but the library in the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which("cc")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def build_wheel(folder, **environment):
    """A wheel that is built in ``folder`` from a copy of the sources."""
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
    return zipfile.ZipFile(wheel)


def run_installed(wheel, folder, code, **environment):
    """What ``code`` says, and is told, where the wheel is installed and no compiler is at hand."""
    wheel.extractall(folder)
    done = subprocess.run(
        [sys.executable, "-c", f"import leanspike, torch\n{code}"],
        env={**os.environ, "PYTHONPATH": str(folder), "PATH": "", "CC": "false", **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split(), done.stderr


SPIKES = """
print(leanspike.__file__)
for _ in range(2):
    print(int(leanspike.LIF(threshold=1.0)(torch.full((4, 3), 0.5)).sum()))
"""


@pytest.mark.slow
def test_without_a_compiler_the_build_succeeds(tmp_path):
    wheel = build_wheel(tmp_path, CC="false")
    assert "leanspike/neuron/kernels/reference.py" in wheel.namelist()
    assert not [name for name in wheel.namelist() if name.endswith(".so")]
    (place, *spikes), told = run_installed(wheel, tmp_path / "site", SPIKES)
    assert Path(place).is_relative_to(tmp_path)
    assert spikes == ["3", "3"]  # u = 0.5, 1, 1.5 (spike, 0.5 left), 1
    assert told.count("the native kernel is not built: install a C compiler") == 1


@pytest.mark.slow
@needs_compiler
def test_a_wheel_brings_its_library_and_no_sources_to_where_no_compiler_is(tmp_path):
    wheel = build_wheel(tmp_path)
    (library,) = (name for name in wheel.namelist() if name.endswith(".so"))
    assert library.startswith("leanspike/_native.")
    assert not [name for name in wheel.namelist() if name.endswith((".c", ".h"))]
    (place, *spikes), told = run_installed(
        wheel, tmp_path / "site", SPIKES, LEANSPIKE_KERNEL="native"
    )
    assert Path(place).is_relative_to(tmp_path)
    assert spikes == ["3", "3"]  # u = 0.5, 1, 1.5 (spike, 0.5 left), 1
    assert told == ""


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("standard", ["c11", "c17"])
@pytest.mark.parametrize(
    "source", sorted((ROOT / "src" / "native").glob("*.c")), ids=lambda p: p.stem
)
def test_the_sources_compile_without_a_warning(tmp_path, source, standard):
    flags = f"-std={standard} -O3 -fopenmp-simd -Wall -Wextra -Wpedantic -Wshadow -Werror -fPIC"
    subprocess.run([COMPILER, *flags.split(), "-c", source, "-o", tmp_path / "out.o"], check=True)
