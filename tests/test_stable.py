"""The page on what is public names versions of files, variables and names as they are."""

from __future__ import annotations

import re
from pathlib import Path

import leanspike
from leanspike.evaluation import Result, Robustness
from leanspike.saved.spec import Spec
from leanspike_runtime.file import VERSION

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/stable.md").read_text(encoding="utf-8")


def named(file: str) -> int:
    """The version beside a file."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and file in line]
    found = re.search(r"now (\d+)", row)
    assert found is not None
    return int(found[1])


def test_versions_of_files_are_those_of_the_code() -> None:
    assert named("`spec.json`") == Spec.model_fields["format"].default
    assert named("`.leanspike`") == VERSION
    assert named("`result.json`") == Result.model_fields["schema_version"].default
    assert named("`robustness.json`") == Robustness.model_fields["schema_version"].default


def test_each_variable_is_read_somewhere_and_each_short_name_is_in_the_reference() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    variables = set(re.findall(r"`(LEANSPIKE_\w+)`", PAGE))
    assert len(variables) >= 4
    assert [name for name in variables if f'"{name}"' not in source] == []
    reference = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8")
    names = set(leanspike.__all__)
    assert [name for name in names if f"`ls.{name}`" not in reference] == []
