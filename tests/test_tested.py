"""The tests cannot be fooled: nothing missing goes unnoticed, and nothing hangs for ever."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tested
from leanspike import native

ROOT = Path(__file__).parents[1]
IN_CI = {"CI": "true"}


def run_pytest(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the tests in a folder with this project's settings, and the hooks of ``conftest``."""
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *arguments]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "src")])
    clean = {k: v for k, v in os.environ.items() if k not in ("CI", "LEANSPIKE_NATIVE")}
    return subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)],
        env=clean | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def sources_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_built", lambda: False)
    monkeypatch.setattr(native, "_find", lambda: Path("_native.so"))


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_built", lambda: False)
    monkeypatch.setattr(native, "_find", lambda: None)


@pytest.mark.usefixtures("not_built")
@pytest.mark.parametrize("environment", [IN_CI, {"LEANSPIKE_NATIVE": "required"}])
def test_where_the_native_library_is_required_nothing_is_tested_without_it(
    environment: dict[str, str],
) -> None:
    with pytest.raises(pytest.UsageError, match=r"install a C compiler .*=optional tests without"):
        tested.check_native(environment)


@pytest.mark.usefixtures("not_built")
@pytest.mark.parametrize("environment", [{}, {"CI": ""}, IN_CI | {"LEANSPIKE_NATIVE": "optional"}])
def test_elsewhere_it_may_be_missing(environment: dict[str, str]) -> None:
    tested.check_native(environment)
    assert tested.what_was_tested()[0].startswith("neurons: reference only (the native kernel is")


@pytest.mark.usefixtures("sources_changed")
@pytest.mark.parametrize("environment", [{}, IN_CI, {"LEANSPIKE_NATIVE": "optional"}])
def test_a_library_of_other_sources_is_tested_nowhere(environment: dict[str, str]) -> None:
    with pytest.raises(pytest.UsageError, match="built from other sources; build it again"):
        tested.check_native(environment)


def test_an_unknown_choice_is_an_error() -> None:
    with pytest.raises(pytest.UsageError, match="LEANSPIKE_NATIVE is 'no'; choose required or"):
        tested.check_native({"LEANSPIKE_NATIVE": "no"})


@pytest.fixture
def half_skipped(tmp_path: Path) -> Path:
    """A module that is skipped and one that is not."""
    skipped = "import pytest\npytest.skip('no such package', allow_module_level=True)\n"
    (tmp_path / "test_skipped.py").write_text(skipped)
    (tmp_path / "test_passes.py").write_text("def test_it():\n    pass\n")
    return tmp_path


def test_a_module_that_is_skipped_fails_ci(half_skipped: Path) -> None:
    done = run_pytest(half_skipped, "-p", "conftest", LEANSPIKE_NATIVE="required")
    assert done.returncode != 0
    assert "no such package: in CI (LEANSPIKE_NATIVE=required) no module may be" in done.stdout


def test_the_end_says_what_was_tested_and_the_last_line_how_many_passed(half_skipped: Path) -> None:
    done = run_pytest(half_skipped, "-p", "conftest", ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.returncode == 0
    *_, title, neurons, versions, processor, last = done.stdout.splitlines()
    assert title.strip("= ") == "tested"
    assert neurons.startswith("neurons: native" if native.is_built() else "neurons: reference")
    assert re.match(r"python [\d.]+, torch [\w.+]+, numpy [\d.]+, ", versions)
    assert processor.endswith("; oneDNN held to AVX2")
    assert re.match(r"1 passed, \d skipped in [\d.]+s", last)


def test_the_reference_says_that_it_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")
    assert tested.what_was_tested()[0].startswith("neurons: reference")


HANG = "import ctypes\n\ndef test_hangs():\n    ctypes.{library}(None).pause()\n"


@pytest.mark.parametrize(
    ("library", "limits"),
    [
        ("CDLL", ["-o", "timeout=1"]),  # C code that lets other threads run, as torch's does
        ("PyDLL", ["-o", "timeout=1", "-o", "faulthandler_timeout=2"]),  # that does not
    ],
)
def test_what_hangs_in_c_fails_with_its_stack(
    tmp_path: Path, library: str, limits: list[str]
) -> None:
    (tmp_path / "test_hang.py").write_text(HANG.format(library=library))
    done = run_pytest(tmp_path, *limits)
    assert done.returncode != 0
    assert "passed" not in done.stdout
    assert re.search(r"Timeout", done.stdout + done.stderr)
    assert re.search(r"test_hang\.py\", line 4,? in test_hangs", done.stdout + done.stderr)


def test_the_limit_is_five_minutes() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["timeout"] == 300
    assert settings["timeout_method"] == "thread"
    assert 300 < settings["faulthandler_timeout"] < 400
    assert settings["faulthandler_exit_on_timeout"] is True


@pytest.mark.parametrize("environment", [{}, IN_CI, {"LEANSPIKE_NATIVE": "optional"}])
def test_an_engine_of_other_sources_is_never_tested(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "the engine was built from other sources; build it again (pip install ...)"
    monkeypatch.setattr(tested, "what_is_missing", lambda: told)
    with pytest.raises(pytest.UsageError, match="the engine was built from other sources"):
        tested.check_native(environment)


def test_where_it_is_required_nothing_is_tested_without_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tested, "what_is_missing", lambda: "the engine is not built here")
    tested.check_native({"LEANSPIKE_NATIVE": "optional"})
    with pytest.raises(pytest.UsageError, match="engine is not built here; LEANSPIKE_NATIVE=opt"):
        tested.check_native(IN_CI)
