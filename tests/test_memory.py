"""Keeping freed memory: large tensors stop being given fresh pages."""

import os
import platform
import resource
import subprocess
import sys
from unittest.mock import patch

import pytest

from leanspike.memory import keep_freed_memory, release_freed_memory, resident_bytes

GLIBC = platform.libc_ver()[0] == "glibc"
PAGES = """
import resource, torch
import leanspike
if {keep}:
    assert leanspike.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fresh = []
for _ in range(12):  # where a small block lies in the way, the heap grows once more
    before = faults()
    torch.zeros(2**24)  # 64 MiB, more than glibc ever keeps by itself
    fresh.append(faults() - before)
print(min(fresh) * resource.getpagesize())
"""


@pytest.mark.skipif(not GLIBC, reason="only glibc is told to keep memory")
def test_large_tensors_get_fresh_pages_no_more():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "THP_"))}

    def bytes_faulted(keep):
        code = PAGES.format(keep=keep)
        run = subprocess.run(
            [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    assert bytes_faulted(keep=True) < 2**20
    if resource.getpagesize() == 4096:
        assert bytes_faulted(keep=False) > 2**25


@pytest.mark.skipif(not GLIBC, reason="only glibc gives memory back on demand")
def test_what_was_kept_is_given_back_on_demand():
    code = (
        "import torch, leanspike; from leanspike.memory import release_freed_memory; "
        "from leanspike.memory import resident_bytes; leanspike.keep_freed_memory(); "
        "torch.ones(2**26); kept = resident_bytes(); release_freed_memory(); "
        "print((kept - resident_bytes()) >> 20)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 200  # of 256 MiB


def test_other_systems_are_left_alone():
    with patch("sys.platform", "darwin"):
        assert keep_freed_memory() is False
        assert release_freed_memory() is False
    with patch("ctypes.CDLL", lambda _: object()):  # a C library without mallopt
        assert keep_freed_memory() is False


def test_the_peak_is_at_least_what_is_held():
    if not sys.platform.startswith("linux"):
        assert resident_bytes() is None
        return
    assert 2**24 < resident_bytes() <= resident_bytes(most=True)
