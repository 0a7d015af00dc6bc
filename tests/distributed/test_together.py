"""Several processes come to what one process comes to, in float64."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from together import CASES, alone, work


def run(size: int, names: list[str], folder: Path) -> list[dict[str, Any]]:
    """What each of several processes comes to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=work, args=(rank, size, names, folder, port)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(280)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    (folder / "2").mkdir()
    return run(2, [*CASES, "cut", "measured"], folder / "2")


@pytest.mark.parametrize("name", [name for name in CASES if name != "apart"])
def test_two_processes_end_with_the_weights_of_one(name: str, two: Any, tmp_path: Path) -> None:
    whole = alone(name, tmp_path)
    for found in two:
        assert found[name].keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-7, atol=1e-9, msg=key)
