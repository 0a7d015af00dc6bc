"""What all tests share: what must be there and what was, real data sets, seeds, hypothesis."""

import gc
import os
import random
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings

import tested
from forked import save_unrendered
from leanspike.evaluation import times


def pytest_configure() -> None:
    tested.check_native(os.environ)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_collection_finish() -> None:
    """What was collected stays: Python need not look for garbage in it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    required = tested.requires_native(os.environ)
    return tested.refuse_skipped_module(report) if required else report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("tested")
    for line in tested.what_was_tested():
        terminalreporter.line(line)


@pytest.fixture
def new_seed() -> int:
    """Another one in each run, or that of LEANSPIKE_TEST_SEED; shown if the test fails."""
    given = os.environ.get("LEANSPIKE_TEST_SEED")
    seed = int(given) if given else random.SystemRandom().randrange(10**6)
    print(f"the same again: LEANSPIKE_TEST_SEED={seed}")
    return seed


@pytest.fixture(scope="session", autouse=True)
def timed_in_fewest_rounds() -> Iterator[None]:
    """The runs of this process are timed in three short rounds: fifteen take a second and more.

    How networks are timed is the subject of tests/evaluation/test_times.py.
    """

    def measured(*arguments: Any) -> times.Times:
        with patch.multiple(times, ROUNDS=times.LEAST_ROUNDS, TURN_SECONDS=1e-6):
            return times.measure_times(*arguments)

    with patch("leanspike.run.steps.evaluate.measure_times", measured):
        yield


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are composed and not rendered, which is most of a short run's time.

    Only matplotlib's own work is left out. Those of tests/report are rendered, and those of the
    first run of the README.
    """
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save_unrendered)


@pytest.fixture(scope="session")
def real_root() -> Callable[[str], Path]:
    """The folder that holds ``folder`` of a real data set; without it the test is skipped."""

    def find(folder: str) -> Path:
        root = os.environ.get("LEANSPIKE_DATA")
        if not root:
            pytest.skip("LEANSPIKE_DATA is not set to a folder with real data")
        if not (Path(root) / folder).is_dir():
            pytest.skip(f"LEANSPIKE_DATA has no {folder}")
        return Path(root)

    return find


# How long an example takes says how busy the machine is, not whether the law holds. What fails is
# printed with what repeats it. In CI the examples are the same each time, so that a failure there
# is of the change and not of chance; elsewhere each run tries others.
settings.register_profile(
    "leanspike", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("leanspike")
