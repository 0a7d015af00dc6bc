"""What was found, as files and as one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.workers import NO_TIME, Row

TITLES = {"machine": "", "check": "check", "time": "time", "train": "train", "compile": "time"}


def write(folder: Path, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """`result.json` with everything, `result.md` with the table; each whole or not at all."""
    files = {
        "result.json": json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False),
        "result.md": page(about, rows),
    }
    for name, text in files.items():
        part = folder / f".{name}.part"
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(folder / name)


def page(about: dict[str, Any], rows: Sequence[Row]) -> str:
    """The table with a title, and what has to be known to read it."""
    title = f"# leanspike on {about['device']}, {about['date']}"
    rehearsed = (
        "\n**A rehearsal on a CPU: its figures mean nothing.**\n" if about["rehearsal"] else ""
    )
    return f"{title}\n{rehearsed}\n`{about['command']}`\n\n{table(rows)}\n\n{LEGEND}"


LEGEND = """\
"ok" and "FAIL" are of what can be right or wrong. Times are medians (quartiles) by events of the
GPU's own clock, memory is the most that PyTorch's tensors took. VGG9 is that of `leanspike bench`,
in channels_last; float32 is PyTorch's default, convolutions in TF32. Ratios are to the ANN as it
stands, in the same precision."""


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown, columns aligned."""
    cells = [("", "", "what", "found", "÷ ANN", "more")]
    left_out = [row for row in rows if row["figure"] == NO_TIME]
    cells += [
        (
            TITLES[row["section"]],
            {True: "ok", False: "FAIL", None: ""}[row["ok"]],
            *(_safe(str(row[key])) for key in ("name", "figure")),
            ratio(row, rows),
            _safe(row["detail"]),
        )
        for row in rows
        if row not in left_out
    ]
    if left_out:
        names = "; ".join(row["name"] for row in left_out)
        cells.append(("", "", f"{len(left_out)} more", NO_TIME, "", _safe(names)))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    widths[-1] = 0
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def ratio(row: Row, rows: Sequence[Row]) -> str:
    """A time as a multiple of the ANN's as it stands, in the same work and precision."""
    values = row["values"]
    if "ms" not in values or not values.get("timesteps"):
        return ""
    same = {"timesteps": 0, "compiled": "", "train": values["train"], "dtype": values["dtype"]}
    for other in rows:
        if "ms" in other["values"] and all(other["values"].get(k) == v for k, v in same.items()):
            return f"{values['ms'] / other['values']['ms']:.2f}"
    return ""


def _safe(text: str) -> str:
    return text.replace("|", "/")
