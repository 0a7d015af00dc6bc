"""A disk that is full is an error of one line, and what was there stays."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.execute.state import State
from leanspike.files import write_text
from leanspike.train import Checkpoints

WRITERS: dict[str, Callable[[Path, int], object]] = {
    "text": lambda path, n: write_text(path, "x" * 4 * n),
    "checkpoint": lambda path, n: Checkpoints(path, 1).save({"stage": 1, "a": torch.zeros(n)}),
    "model": lambda path, n: ls.save(nn.Linear(n, 1, bias=False), path),
    "state": lambda path, n: State(1, {"a": torch.zeros(1, n)}).save(path),
}


@contextmanager
def largest_file(count: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as none can on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_said_and_what_was_there_stays(what: str, tmp_path: Path) -> None:
    path = tmp_path / what
    WRITERS[what](path, 100)
    before = content(path)
    with (
        largest_file(40_000),
        pytest.raises(LeanspikeError, match=r"cannot write \S+ \(.*\); make room or give another"),
    ):
        WRITERS[what](path, 20_000)
    assert content(path) == before
    assert [file.name for file in tmp_path.iterdir()] == [what]
    WRITERS[what](path, 20_000)  # as the advice says
    assert content(path) != before
