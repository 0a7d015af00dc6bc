"""Write the tables of docs/results.md from the runs in results/.

    python docs/make_results.py

A table stands between ``<!-- table: NAMES -->`` and ``<!-- end -->``, where NAMES are folders of
runs (or patterns) below results/, and ``!COLUMN`` leaves a column out. Runs that differ only in the
folder's last ``-SEED`` are one row: mean ± standard deviation over the seeds. Equal runs give equal
bytes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev

from leanspike.evaluate import Result, load_result

ROOT = Path(__file__).parents[1]
PAGE, RUNS = ROOT / "docs" / "results.md", ROOT / "results"

Value = Callable[[Result], float | None]
COLUMNS: dict[str, tuple[Value, str]] = {
    "ANN": (lambda r: r.ann_accuracy and 100 * r.ann_accuracy, ".2f"),
    "SNN": (lambda r: 100 * r.accuracy[-1], ".2f"),
    "difference": (lambda r: r.ann_accuracy and 100 * (r.accuracy[-1] - r.ann_accuracy), "+.2f"),
    "steps": (lambda r: r.timesteps, ".0f"),
    "spikes per neuron": (lambda r: r.energy.spikes_per_neuron, ".3f"),
    "energy, counted": (lambda r: r.energy.ratio, ".1f"),
    "energy, formula": (lambda r: r.energy.formula_ratio, ".1f"),
    "minutes": (lambda r: sum(r.provenance.seconds.values()) / 60, ".0f"),
}
TABLE = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page with all its tables written anew."""
    return TABLE.sub(
        lambda found: found[1] + "\n" + table(found[2].split()) + "\n" + found[3], text
    )


def table(words: Sequence[str]) -> str:
    """A Markdown table, a row for each set of seeds."""
    patterns = [word for word in words if word[0] != "!"]
    columns = {name: value for name, value in COLUMNS.items() if f"!{name}" not in words}
    lines = [
        "| run | n | " + " | ".join(columns) + " |",
        "|---|" + "---|" * (len(columns) + 1),
    ]
    for pattern in patterns:
        found = sorted(RUNS.glob(f"{pattern}/result.json"))
        if not found:
            raise FileNotFoundError(f"no run {pattern} in {RUNS}")
        rows: dict[str, list[Result]] = defaultdict(list)
        links: dict[str, Path] = {}
        for path in found:
            name = re.sub(r"-\d+$", "", path.parent.name)
            rows[name].append(load_result(path))
            links.setdefault(name, path.parent)
        for name, results in rows.items():
            link = f"[{name}](../{links[name].relative_to(ROOT)}/recipe.yaml)"
            cells = [_cell(results, value, form) for value, form in columns.values()]
            lines.append(f"| {link} | {len(results)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(results: Sequence[Result], value: Value, form: str) -> str:
    values = [found for result in results if (found := value(result)) is not None]
    if not values:
        return "–"
    text = f"{mean(values):{form}}"
    spread = f"{stdev(values):{form.lstrip('+')}}" if len(values) > 1 else ""
    if spread and float(spread):
        text += f" ± {spread}"
    return text.replace("-", "−")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
