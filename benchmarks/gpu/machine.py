"""Where the figures come from: processor, GPU, driver, versions, commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.cases import Case, Found, Options

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "LEANSPIKE_COMMIT"
"""The environment variable that says which commit this is where there is no git to ask."""


def cases(options: Options) -> Sequence[Case]:
    """One row, with everything."""
    return [Case("machine", lambda: describe(options.device))]


def describe(device: str) -> Found:
    """The machine in words, and all that may matter as values."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": installed("triton"),
        "numpy": installed("numpy"),
        "leanspike": installed("leanspike"),
        "commit": commit(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
    }
    if device == "cpu":
        facts["gpu"] = None
        return Found("no GPU", f"{facts['processor']}, torch {torch.__version__}", values=facts)
    properties = torch.cuda.get_device_properties(torch.device(device))
    facts |= {
        "gpu": properties.name,
        "gpu_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver(),
    }
    detail = (
        f"{facts['gpu_gib']} GiB, driver {facts['driver']}, torch {facts['torch']}, CUDA "
        f"{facts['cuda']}, cuDNN {facts['cudnn']}, Triton {facts['triton']}, Python "
        f"{facts['python']}, commit {facts['commit']}"
    )
    return Found(properties.name, detail, values=facts)


def installed(package: str) -> str | None:
    """The version of a package; None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of this checkout, marked if files differ; else what the environment says."""
    head = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    if head is None:
        return os.environ.get(COMMIT)
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return head + ("-dirty" if changed else "")


def driver() -> str | None:
    """The version of NVIDIA's driver."""
    found = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return found.splitlines()[0] if found else None


def processor() -> str:
    """The CPU's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _output(*command: str) -> str | None:
    """What a program prints; None where there is no such program, or it fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
