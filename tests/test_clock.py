"""Only what is shown depends on the time of day, which may jump: durations are monotonic."""

from __future__ import annotations

import ast
from pathlib import Path

import leanspike

ROOT = Path(leanspike.__file__).parent
SHOWN = {"train/board.py", "evaluation/origin.py"}
"""Where curves and results say when they were made."""
OF_DAY = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime"}


def asked(path: Path) -> list[str]:
    calls = [
        node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]
    return [
        call.attr
        for call in calls
        if isinstance(call, ast.Attribute)
        and call.attr in OF_DAY
        and isinstance(call.value, ast.Name)
        and call.value.id in ("time", "datetime", "date")
    ]


def test_the_time_of_day_is_asked_for_where_it_is_shown() -> None:
    found = {str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py") if asked(p)}
    assert found == SHOWN


def test_no_name_hides_it() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                assert not OF_DAY & {name.name for name in node.names}, path
