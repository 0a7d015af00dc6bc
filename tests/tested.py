"""What a run of the tests tests: that nothing is missing which must be there, and what there was.

``LEANSPIKE_NATIVE`` says whether the native library must be there: "required" or "optional".
Without it CI requires it. A library of other sources than those beside it is never tested.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

import pytest
import torch

from leanspike import native
from leanspike.backends.choice import candidates
from leanspike.evaluation.origin import provenance
from leanspike_runtime.library import what_is_missing


def requires_native(environment: Mapping[str, str]) -> bool:
    default = "required" if environment.get("CI") else "optional"
    choice = environment.get("LEANSPIKE_NATIVE", default)
    if choice not in ("required", "optional"):
        raise pytest.UsageError(
            f"LEANSPIKE_NATIVE is {choice!r}; choose required or optional, or unset it"
        )
    return choice == "required"


def check_native(environment: Mapping[str, str]) -> None:
    """Refuse to test something else than is there, or less than must be."""
    required = requires_native(environment)
    if native.is_stale():
        raise pytest.UsageError(native.what_is_missing())
    engine = what_is_missing()
    if "built from other sources" in engine:
        raise pytest.UsageError(engine)
    if required and (engine or not native.is_built()):
        missing = engine or native.what_is_missing()
        raise pytest.UsageError(f"{missing}; LEANSPIKE_NATIVE=optional tests without it")


def refuse_skipped_module(report: pytest.CollectReport) -> pytest.CollectReport:
    """A test module that is skipped where everything must be there becomes an error."""
    if report.outcome == "skipped":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}: in CI (LEANSPIKE_NATIVE=required) no module may be skipped"
    return report


def what_was_tested() -> list[str]:
    """Lines for people: the backend and its instructions, versions, the processor."""
    here = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    return [
        f"neurons: {_backend()}",
        f"{versions}, {platform.system()} {platform.machine()}",
        f"{here.hardware}, {torch.get_num_threads()} threads; {_limit()}",
    ]


def _backend() -> str:
    if not native.is_built():
        return f"reference only ({native.what_is_missing()})"
    there = ", ".join(native.available_instructions())
    names = candidates()
    if "native" not in names:
        return f"{', '.join(names)} (chosen by hand; the native library has {there})"
    best = native.chosen_instructions()
    return f"native, {best} (library and processor have {there}), and the reference"


def _limit() -> str:
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"oneDNN held to {limit}" if limit else "oneDNN without a limit"
