"""Where a figure comes from: what ran, what was told, and nothing made up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike import native
from leanspike.data import synthetic
from leanspike.errors import LeanspikeError
from leanspike.evaluation import measure_robustness, provenance
from leanspike.evaluation.origin import _commit
from leanspike.studies import load_kept

ROOT = Path(__file__).parents[2]
git_is_there = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed checkout of the same layout as leanspike's."""
    for name in (
        *("src/leanspike/evaluation/origin.py", "src/leanspike/neuron/lif.py"),
        *("src/native/lif.c", "setup.py", "pyproject.toml", "docs/log.md"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    (tmp_path / ".gitignore").write_text("*.so\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    git(tmp_path, *who, "commit", "--quiet", "--message", "all")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(checkout: Path) -> str | None:
    return _commit(checkout / "src/leanspike/evaluation/origin.py")


@git_is_there
def test_a_commit_is_that_of_the_checkout(checkout: Path) -> None:
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD")


@git_is_there
@pytest.mark.parametrize(
    "name",
    [
        *("src/native/lif.c", "src/native/new.h", "src/leanspike/neuron/lif.py"),
        *("src/leanspike/evaluation/origin.py", "setup.py", "pyproject.toml"),
    ],
)
def test_it_is_dirty_when_python_c_or_the_build_changed(checkout: Path, name: str) -> None:
    (checkout / name).write_text("2\n")
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


@git_is_there
@pytest.mark.parametrize("name", ["docs/log.md", "runs.txt", "src/leanspike/_native.so"])
def test_it_is_not_dirty_for_what_no_figure_depends_on(checkout: Path, name: str) -> None:
    (checkout / name).write_text("2\n")
    assert commit(checkout) == git(checkout, "rev-parse", "HEAD")


@git_is_there
def test_there_is_no_commit_where_git_cannot_tell(checkout: Path) -> None:
    (checkout / "src/leanspike/other.py").touch()
    assert _commit(checkout / "src/leanspike/evaluation/untracked.py") is None
    assert _commit(Path("/provenance.py")) is None
    with patch("shutil.which", return_value=None):
        assert commit(checkout) is None
    (checkout / ".git/index").write_bytes(b"damaged")
    assert commit(checkout) is None  # not: clean


def make() -> tuple[ls.SpikingNetwork, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    snn = ls.spike(ann, example_input=torch.zeros(1, 8), timesteps=2)
    return snn, [(torch.rand(20, 8), torch.randint(3, (20,)))]


def test_nothing_is_made_up() -> None:
    result = ls.evaluate(*make())
    assert (result.data, result.split) == (None, None)
    origin = result.provenance
    assert (origin.seed, origin.command, origin.recipe, origin.seconds) == (None, None, {}, {})


def test_what_is_told_is_kept() -> None:
    snn, batches = make()
    result = ls.evaluate(snn, batches, data="iris", split="validation", seed=7)
    assert (result.data, result.split, result.provenance.seed) == ("iris", "validation", 7)
    origin = provenance(command="mine", seed=3)
    result = ls.evaluate(snn, batches, origin=origin)
    assert (result.provenance.command, result.provenance.seed) == ("mine", 3)
    assert result.provenance.backend is not None  # which the origin could not know
    with pytest.raises(LeanspikeError, match=r"^seed is 7, and origin has 3; give one of the two$"):
        ls.evaluate(snn, batches, origin=origin, seed=7)


def test_a_result_names_what_ran() -> None:
    snn, batches = make()
    with patch.dict(os.environ, LEANSPIKE_BACKEND="reference"):
        assert ls.evaluate(snn, batches).provenance.backend == "reference"
    if native.is_built():
        with patch.dict(os.environ, LEANSPIKE_BACKEND="native", LEANSPIKE_INSTRUCTIONS="plain"):
            origin = ls.evaluate(snn, batches).provenance
            assert (origin.backend, origin.instructions) == ("native", "plain")
            wide = [(x.double(), labels) for x, labels in batches]
            origin = ls.evaluate(snn.double(), wide).provenance  # native was chosen, but cannot
            assert (origin.backend, origin.instructions) == ("reference", None)


def test_robustness_names_what_ran_and_makes_nothing_up() -> None:
    split = synthetic((1, 2, 4), classes=3, train=3, test=9).test
    ann = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    snn = ls.spike(ann, example_input=torch.zeros(1, 1, 2, 4))
    with patch.dict(os.environ, LEANSPIKE_BACKEND="reference"):
        found = measure_robustness(
            {"ann": ann, "snn": snn}, split, mean=(0.5,), std=(0.5,), corruptions=["blur"]
        )
    origin = found.provenance
    assert (origin.backend, origin.instructions, origin.seed) == ("reference", None, None)
    assert (found.data, found.split) == (None, None)


def test_a_result_from_before_backends_were_recorded_can_be_read() -> None:
    result = load_kept(ROOT / "results/cifar10/base-0.json").result
    origin = result.provenance
    assert (origin.backend, origin.instructions, origin.backends) == (None, None, {})
    assert (result.split, origin.seed) == ("test", 0)


def test_packages_that_data_may_have_come_from_are_named_once_they_were_imported() -> None:
    pytest.importorskip("PIL")
    assert "pillow" in provenance().versions
    with patch.dict(sys.modules):
        del sys.modules["PIL"]
        assert "pillow" not in provenance().versions


def test_a_gpu_is_the_hardware_where_it_computed() -> None:
    with (
        patch("torch.cuda.get_device_name", lambda device: f"GPU {device.index}"),
        patch("torch.version.cuda", "13.0"),
    ):
        origin = provenance(device="cuda:1")
    assert (origin.hardware, origin.versions["cuda"]) == ("GPU 1", "13.0")
    assert "cuda" not in provenance().versions
