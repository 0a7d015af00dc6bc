"""The native kernel's build: optional, clean, and nothing but the library in the wheel.

And what ``make dist`` makes: it installs where a torch is and no compiler, and works.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from leanspike import native

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which("cc")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def copy_sources(folder):
    leave_out = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    build = ("setup.py", "libraries.py", "pyproject.toml", "MANIFEST.in", "Makefile")
    for name in (*build, "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)


def build_wheel(folder, **environment):
    """A wheel that is built in ``folder`` from a copy of the sources."""
    pytest.importorskip("setuptools", "77")
    copy_sources(folder)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", "wheel"],
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    (wheel,) = (folder / "wheel").glob("leanspike-*-py3-none-*.whl")  # for every Python
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
    assert "leanspike/backends/reference.py" in wheel.namelist()
    assert not [name for name in wheel.namelist() if name.endswith(".so")]
    (place, *spikes), told = run_installed(wheel, tmp_path / "site", SPIKES)
    assert Path(place).is_relative_to(tmp_path)
    assert spikes == ["3", "3"]  # u = 0.5, 1, 1.5 (spike, 0.5 left), 1
    assert told.count("the native kernel is not built: install a C compiler") == 1


@pytest.mark.slow
@needs_compiler
def test_a_wheel_brings_its_library_and_no_sources_to_where_no_compiler_is(tmp_path):
    wheel = build_wheel(tmp_path)
    libraries = {name for name in wheel.namelist() if name.endswith(".so")}
    assert libraries == {"leanspike/_native.so", "leanspike_runtime/_engine.so"}
    assert not [name for name in wheel.namelist() if name.endswith((".c", ".h"))]
    (place, *spikes), told = run_installed(
        wheel, tmp_path / "site", SPIKES, LEANSPIKE_BACKEND="native"
    )
    assert Path(place).is_relative_to(tmp_path)
    assert spikes == ["3", "3"]  # u = 0.5, 1, 1.5 (spike, 0.5 left), 1
    assert told == ""


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("standard", ["c11", "c17"])
@pytest.mark.parametrize("source", sorted((ROOT / "src").glob("[en]*/*.c")), ids=lambda p: p.stem)
def test_the_sources_compile_without_a_warning(tmp_path, source, standard):
    flags = f"-std={standard} -O3 -fopenmp-simd -Wall -Wextra -Wpedantic -Wshadow -Werror -fPIC"
    subprocess.run([COMPILER, *flags.split(), "-c", source, "-o", tmp_path / "out.o"], check=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder that ``make dist`` fills, from a copy of the sources."""
    for tool in ("auditwheel", "ziglang"):
        pytest.importorskip(tool, reason="pip install 'leanspike[dist]'")
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or not shutil.which("make"):
        pytest.skip("make dist is for Linux on x86-64")
    folder = tmp_path_factory.mktemp("checkout")
    copy_sources(folder)
    installed = f"{sys.prefix}/installed-dist"  # what runs these tests is not to be changed
    command = ["make", "dist", f"VENV={sys.prefix}", f"--assume-old={installed}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "dist"


@pytest.mark.slow
def test_the_sdist_has_what_builds_leanspike_and_no_more(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
        assert sum(file.size for file in sdist) < 2_000_000  # bytes
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").glob("*/*.[ch]")}
    assert here <= names
    assert {"src/leanspike/recipes/digits.yaml", "src/leanspike/report/report.html"} <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {"src"}


class Venv:
    """A new environment in ``folder`` that sees the packages of this one, and no compiler."""

    def __init__(self, folder):
        venv.create(folder, with_pip=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        # As text in a .pth file the folder's own .pth files are not read, nor what they install.
        (packages / "beside.pth").write_text(sysconfig.get_path("purelib"))
        self.bin = folder / "bin"
        chosen = ("LEANSPIKE_BACKEND", "LEANSPIKE_KERNEL", "LEANSPIKE_INSTRUCTIONS")
        ours = ("PYTHONPATH", "CC", *chosen)
        self.environment = {k: v for k, v in os.environ.items() if k not in ours}
        self.environment["PATH"] = str(self.bin)

    def run(self, program, *arguments, cwd):
        command = [self.bin / program, *arguments]
        return subprocess.run(
            command, cwd=cwd, env=self.environment, check=True, capture_output=True, text=True
        )


WHAT_IS_THERE = """
import json, leanspike.native
print(json.dumps([leanspike.__file__, leanspike.native.available_instructions()]))
"""


@pytest.mark.slow
@needs_compiler  # for the library here, with which that of the wheel is compared
@pytest.mark.parametrize("kind", ["manylinux_2_28_x86_64.whl", "tar.gz"])
def test_beside_a_torch_and_without_a_compiler_it_installs_and_the_quickstart_runs(
    dist, tmp_path, kind
):
    (file,) = dist.glob(f"*{kind}")
    here = Venv(tmp_path / "venv")
    here.run("pip", "install", "--no-deps", "--force-reinstall", file, cwd=tmp_path)
    place, instructions = json.loads(here.run("python", "-c", WHAT_IS_THERE, cwd=tmp_path).stdout)
    assert Path(place).is_relative_to(tmp_path)

    done = here.run("leanspike", "train", "digits", "--out", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "report.html").is_file()
    assert json.loads(done.stdout.splitlines()[-1])
    if kind == "tar.gz":
        assert instructions == []
        assert "the native kernel is not built: install a C compiler" in done.stderr
    else:
        assert instructions == list(native.available_instructions())
        assert "native kernel" not in done.stderr
