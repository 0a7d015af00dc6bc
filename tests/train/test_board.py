"""Curves for TensorBoard."""

from __future__ import annotations

import gc
import resource
import signal
from pathlib import Path

import pytest

from leanspike.errors import LeanspikeError
from leanspike.train.board import Board


def test_its_file_is_read_by_tensorboard(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    board = Board(tmp_path / "tensorboard")
    for step in range(3):
        board.add("ann/loss", 0.5 * step, step)
    board.close()
    first, *events = loader.EventFileLoader(str(board.path)).Load()
    assert first.file_version == "brain.Event:2"
    found = [(e.step, e.summary.value[0].tag, e.summary.value[0].tensor.float_val) for e in events]
    assert found == [(step, "ann/loss", [0.5 * step]) for step in range(3)]


def test_its_file_is_closed_with_a_board_that_nobody_closes(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = Board(tmp_path)
    file = board._file
    del board
    gc.collect()
    assert file.closed


def test_a_full_disk_is_said_where_it_happens(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = Board(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signalled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        with pytest.raises(LeanspikeError, match=r"cannot write \S+tfevents\S+ \(.*\); make room"):
            board.add("a" * 200, 1.0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signalled)
    board.close()
