"""Several processes come to what one process comes to, in float64."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from together import CASES, OTHERS, alone, gone_on_with, snn, train, work
from torch import nn

import forked
from leanspike.data import Augment, EventAugment, Loader
from leanspike.data.split import TensorSplit
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation.task import Multiclass
from leanspike.train import CrossEntropy

pytestmark = pytest.mark.timeout(900)  # processes start, also where others are at work
EQUAL = [name for name in CASES if name != "apart"]


def run(size: int, folder: Path) -> list[dict[str, Any]]:
    """What each of several processes comes to."""
    names = [*CASES, *OTHERS]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = forked.server()
    processes = [
        context.Process(target=work, args=(rank, size, names, folder, port)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def processes(folder: Path, request: pytest.FixtureRequest) -> tuple[Path, list[dict[str, Any]]]:
    there = folder / str(request.param)
    there.mkdir()
    return there, run(request.param, there)


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    return {name: alone(name, folder) for name in [*CASES, *OTHERS]}


def close(found: dict[str, torch.Tensor], whole: dict[str, torch.Tensor]) -> None:
    assert found.keys() == whole.keys()
    for key, value in whole.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-12, msg=key)


@pytest.mark.parametrize("name", EQUAL)
def test_processes_end_with_the_weights_of_one(name: str, processes: Any, one: Any) -> None:
    _, found = processes
    for each in found:
        assert not isinstance(each[name], str), each[name]
        close(each[name], one[name])
        for key, value in found[0][name].items():
            assert torch.equal(each[name][key], value), key  # the same bits in all of them


def test_norms_of_each_process_are_a_choice(processes: Any, one: Any) -> None:
    _, found = processes
    with pytest.raises(AssertionError):
        close(found[0]["apart"], one["apart"])
    for each in found[1:]:
        for key, value in found[0]["apart"].items():
            assert torch.equal(each["apart"][key], value), key  # the first one's statistics


def test_a_run_that_was_stopped_ends_with_the_same_bits(processes: Any) -> None:
    _, found = processes
    for each in found:
        assert not isinstance(each["cut"], str), each["cut"]
        for key, value in each["whole"].items():
            assert torch.equal(each["cut"][key], value), key


def test_another_number_of_processes_goes_on_with_the_same_batches(
    processes: Any, one: Any, tmp_path: Path
) -> None:
    there, _ = processes
    shutil.copy(there / "cut.pt", tmp_path)  # after 9 of 15 steps
    close(gone_on_with(tmp_path), one["whole"])


def test_calibration_and_evaluation_are_the_same_to_the_bit(processes: Any, one: Any) -> None:
    _, found = processes
    for each in found:
        ours, theirs = each["measured"], one["measured"]
        assert not isinstance(ours, str), ours
        assert ours["table"] == theirs["table"]
        for key, value in theirs["state"].items():
            assert torch.equal(ours["state"][key], value), key
        assert ours["result"] == theirs["result"]
        assert ours["result"].n == 23
        assert ours["result"].neurons[0].spikes_per_step[0] > 0
        assert (ours["accuracy"], ours["few"]) == (theirs["accuracy"], theirs["few"])


def test_a_sample_that_is_no_number_is_named_by_all(processes: Any, one: Any) -> None:
    _, found = processes
    for each in [*found, one]:
        assert "sample 30 holds NaN or infinity" in each["refused"], each["refused"]
        assert each["refused"] == one["refused"]


def test_training_moves_the_weights_that_are_compared(one: Any) -> None:
    start = snn().state_dict()
    for key in ("conv1.weight", "head.weight", "relu1.threshold", "relu1.leak"):
        assert (one["kept"][key] - start[key]).abs().max() > 1e-6, key


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
def test_micro_batches_without_norms_are_the_whole_batch(gradient: Any, tmp_path: Path) -> None:
    def trained(name: str, **how: Any) -> dict[str, torch.Tensor]:
        network = snn(norms=False, encode="poisson")
        return train(network, ALONE, tmp_path, name, steps=5, gradient=gradient, **how)

    close(trained("cut up", accumulate=4), trained("whole"))


def test_a_process_without_images_is_refused(tmp_path: Path) -> None:
    says = (
        "stage few: a batch of 7 images in 8 micro-batches of 1 processes leaves some without "
        "images; set batch_size to 8 or more"
    )
    with pytest.raises(LeanspikeError, match=says):
        train(snn(), ALONE, tmp_path, "few", accumulate=8)
    assert train(snn(), ALONE, tmp_path, "eight", accumulate=8, batch=8, steps=4)


@pytest.mark.parametrize("frames", [None, 2])
@pytest.mark.parametrize("micro", [1, 2])
def test_the_parts_of_a_batch_are_the_batch(frames: int | None, micro: int) -> None:
    steps = () if frames is None else (frames,)
    pixels = torch.randint(256, (17, *steps, 1, 6, 6), dtype=torch.uint8)
    augment = Augment(crop=2, flip=True, cutout=3) if frames is None else EventAugment(drop=0.5)
    axis = 0 if frames is None else 1
    made: dict[str, Any] = {"batch_size": 7, "mean": (0.0,), "std": (1.0,), "seed": 1}
    made |= {"train": True, "augment": augment, "micro_batches": micro}

    def batches(rank: int, size: int) -> list[Any]:
        split = TensorSplit(pixels, torch.arange(17))
        return list(Loader(split, group=Group(rank, size), **made).epoch(2, 1))

    ((x, labels),) = batches(0, 1)
    parts = [batches(rank, 3)[0] for rank in range(3)]
    assert sorted(torch.cat([part[1] for part in parts]).tolist()) == sorted(labels.tolist())
    for part_x, part_labels in parts:
        rows = [labels.tolist().index(label) for label in part_labels.tolist()]
        assert torch.equal(part_x, x.index_select(axis, torch.tensor(rows)))


def test_batches_that_are_measured_are_taken_in_turn() -> None:
    split = TensorSplit(torch.zeros(9, 1, 2, 2, dtype=torch.uint8), torch.arange(9))
    made: dict[str, Any] = {"mean": (0.0,), "std": (1.0,), "seed": 0, "train": False}
    loaders = [Loader(split, batch_size=2, group=Group(rank, 3), **made) for rank in range(3)]
    seen = [[labels.tolist() for _, labels in loader] for loader in loaders]
    assert seen == [[[0, 1], [6, 7]], [[2, 3], [8]], [[4, 5]]]


def test_the_loss_of_a_whole_batch_has_the_same_bits_as_before() -> None:
    y_NK = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, -100, 1, 1])
    plain = nn.functional.cross_entropy(y_NK, labels)
    assert torch.equal(Multiclass().loss(y_NK, labels), plain)
    assert torch.equal(CrossEntropy(task="multiclass")(y_NK[None], labels, y_NK), plain)
