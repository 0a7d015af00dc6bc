"""Where a figure comes from: machine, versions, commit."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from leanspike.backends import Backends
from leanspike.evaluation.macs import Macs
from leanspike.evaluation.result import Provenance

SOURCES = ("src", "setup.py", "pyproject.toml")
"""What figures depend on, in the checkout: code in Python and in C, and how it is built."""

READERS = {
    "PIL": "pillow",
    "aedat": "aedat",
    "imagecorruptions": "imagecorruptions-imaug",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torchvision": "torchvision",
}
"""Modules that data or networks may come from, and the packages that bring them."""


def provenance(
    *,
    command: str | None = None,
    seed: int | None = None,
    recipe: Mapping[str, object] | None = None,
    seconds: Mapping[str, float] | None = None,
    macs: Mapping[str, Macs] | None = None,
    device: torch.device | str = "cpu",
    backends: Mapping[str, str] | None = None,
) -> Provenance:
    """Describe this process, this machine and this version of leanspike.

    Args:
        command, seed, recipe: what made the figures, as far as it is known.
        seconds: wall-clock time by phase.
        macs: multiply-accumulates of a training by phase, as far as they were counted.
        device: the device that computed the figures.
        backends: what computed the phases of a run, in words.

    >>> origin = provenance(seed=7)
    >>> origin.versions["torch"] == torch.__version__, origin.seed, origin.command, origin.backend
    (True, 7, None, None)
    """
    return Provenance(
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        leanspike=version("leanspike"),
        commit=_commit(Path(__file__).resolve()),
        seed=seed,
        hardware=_hardware(torch.device(device)),
        threads=torch.get_num_threads(),
        backends=dict(backends or {}),
        versions=_versions(torch.device(device)),
        recipe=dict(recipe or {}),
        seconds={phase: round(value, 1) for phase, value in (seconds or {}).items()},
        macs=dict(macs or {}),
    )


def computed_by(origin: Provenance, ran: Backends) -> Provenance:
    """Return the same origin, for figures that ``ran`` has computed.

    >>> computed_by(provenance(), Backends({"native"}, {"avx2"})).instructions
    'avx2'
    """
    return origin.model_copy(update={"backend": ran.backend, "instructions": ran.instructions})


def _commit(file: Path) -> str | None:
    """Return the commit of the checkout that this file is tracked in.

    It ends in "-dirty" if sources differ from the commit. It is None outside a checkout, and where
    git does not answer.
    """
    if len(file.parents) < 4:
        return None
    root = file.parents[3]  # the folder above src/leanspike/evaluation/
    tracked = _git(root, "ls-files", "--error-unmatch", str(file))
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", *SOURCES)
    if tracked is None or head is None or changed is None:
        return None
    return head + ("-dirty" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git answers in a folder; None if it does not."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        # A lock would be in the way of other processes that work in the same checkout.
        command = [git, "--no-optional-locks", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions(device: torch.device) -> dict[str, str]:
    """Return versions of what every figure depends on.

    Packages that may have read data are among them where they are loaded.
    """
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
    }
    if device.type == "cuda":
        found["cuda"] = str(torch.version.cuda)
    for module, package in READERS.items():
        if module in sys.modules:
            try:
                found[package] = version(package)
            except PackageNotFoundError:  # it may be installed by another name
                found[package] = "unknown"
    return found


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
