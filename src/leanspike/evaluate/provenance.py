"""Where a figure comes from: machine, versions, commit."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from leanspike.evaluate.result import Provenance


def provenance(
    *,
    command: str,
    seed: int,
    recipe: dict[str, object],
    seconds: dict[str, float],
    device: torch.device | str = "cpu",
) -> Provenance:
    """Describe this process, this machine and this version of leanspike.

    >>> provenance(command="test", seed=0, recipe={}, seconds={}).versions["torch"] != ""
    True
    """
    return Provenance(
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        leanspike=version("leanspike"),
        commit=_commit(),
        seed=seed,
        hardware=_hardware(torch.device(device)),
        threads=torch.get_num_threads(),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": version("numpy"),
        },
        recipe=recipe,
        seconds={phase: round(value, 1) for phase, value in seconds.items()},
    )


def _commit() -> str | None:
    """The commit of leanspike's own checkout, marked if files differ; None outside of one."""
    here = Path(__file__).resolve().parent
    git = shutil.which("git")
    if git is None:
        return None
    run = [git, "-C", str(here)]
    try:
        inside = subprocess.run(
            [*run, "ls-files", "--error-unmatch", __file__], capture_output=True
        )
        if inside.returncode != 0:
            return None
        head = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(
            [*run, "status", "--porcelain", "--", "."], capture_output=True, text=True
        )
    except OSError:
        return None
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


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
