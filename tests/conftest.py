"""What all tests share: real data sets, where there are any, and the settings of hypothesis."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings


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


# How long an example takes says how busy the machine is, not whether the law holds.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
