"""The native library: which is used, and with which instructions."""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from leanspike import native
from leanspike.errors import LeanspikeError
from leanspike_runtime.sources import library_files

if not native.is_built():
    pytest.skip("the native library is not built", allow_module_level=True)

CPUINFO = Path("/proc/cpuinfo")


def test_instructions_are_the_best_or_those_that_the_environment_names():
    available = native.available_instructions()
    assert available == native.INSTRUCTIONS[: len(available)]
    with patch.dict(os.environ):
        os.environ.pop("LEANSPIKE_INSTRUCTIONS", None)
        assert native.means().instructions == len(available) - 1
    for i, name in enumerate(available):
        with patch.dict(os.environ, LEANSPIKE_INSTRUCTIONS=name):
            assert native.means().instructions == i


@pytest.mark.skipif(platform.machine() != "x86_64", reason="not an x86-64 processor")
@pytest.mark.skipif(not CPUINFO.is_file(), reason="this system does not tell what it has")
def test_the_best_instructions_are_those_that_the_system_knows_of():
    flags = set(re.search(r"^flags\s*: (.*)", CPUINFO.read_text(), re.MULTILINE)[1].split())
    best = "avx2" if "avx2" in flags else "plain"
    if flags >= {"avx512f", "avx512bw", "avx512dq", "avx512vl"}:
        best = "avx512"
    assert native.available_instructions()[-1] == best


def test_an_unknown_instruction_set_is_an_error():
    with (
        patch.dict(os.environ, LEANSPIKE_INSTRUCTIONS="sse"),
        pytest.raises(LeanspikeError, match="LEANSPIKE_INSTRUCTIONS is 'sse'; choose"),
    ):
        native.means()


def test_it_works_in_as_many_threads_as_torch():
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert native.means().threads == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(native.means().parallel is None, reason="torch brought no libgomp")
@pytest.mark.parametrize("before", [True, False])
def test_a_fork_works_in_torchs_threads_unless_its_parent_did(before):
    """As a worker of multiprocessing's fork server does, which has imported and no more."""
    code = f"""
import os, warnings
from leanspike import native
if {before}:
    native.means()
warnings.simplefilter("ignore")  # of threads of numpy's
child = os.fork()
if child == 0:
    os._exit(native.means().parallel is None)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(int(before))]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what the library was built from, taken for the checkout."""
    for folder in ("native", "engine"):
        (tmp_path / "src" / folder).mkdir(parents=True)
    for path in library_files(native.ROOT, "native"):
        shutil.copy(path, tmp_path / path.relative_to(native.ROOT))
    monkeypatch.setattr(native, "ROOT", tmp_path)
    native._load.cache_clear()
    yield tmp_path
    native._load.cache_clear()


@pytest.mark.usefixtures("checkout")
def test_a_library_of_the_same_sources_is_used():
    assert native.is_built()
    assert not native.is_stale()


@pytest.mark.parametrize("name", ["libraries.py", "src/native/lif.c", "src/native/lif_block.h"])
def test_a_library_of_other_sources_is_not_used(checkout, name):
    with (checkout / name).open("a") as file:
        file.write("\n")
    assert native.is_stale()
    assert not native.is_built()
    found = native.what_is_missing()
    again = f"pip install --no-deps --editable {checkout}"
    assert found == f"the native kernel was built from other sources; build it again ({again})"


@pytest.mark.usefixtures("checkout")
def test_a_library_too_old_to_tell_its_sources_is_not_used(monkeypatch):
    assert native._digest_in(ctypes.CDLL(None)) is None
    monkeypatch.setattr(native, "_digest_in", lambda _: None)
    assert native.is_stale()


def test_where_no_sources_are_any_library_is_used(checkout):
    shutil.rmtree(checkout / "src")
    assert native.is_built()
