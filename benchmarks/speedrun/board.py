"""Write the board of the speedrun into its README.

    python -m benchmarks.speedrun.board

The entries are those of ``entries.yaml``. All else comes from the results that are kept of them:
mean and standard deviation over the seeds of an entry, which is one variant of a study. Equal
results give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from leanspike.evaluation import Result
from leanspike.recipes.study import STUDY, called, read_study
from leanspike.report.quantities import count, energy, mean_and_deviation
from leanspike.studies import load_kept

HERE = Path(__file__).parent
README, ENTRIES = HERE / "README.md", HERE / "entries.yaml"
RESULTS = HERE.parents[1] / "results"
REGION = re.compile(r"(<!-- board -->\n).*?(<!-- end -->)", re.DOTALL)

ACCURACY, STEPS, SEEDS, IMAGES = 0.927, 4, 3, 10_000
MINUTES, CORES, MACS, HELD_OUT = 60.0, 2, 6e14, 5_000


@dataclass(frozen=True)
class Entry:
    """An entry: its name, its place, and the results of its seeds.

    ``macs`` are those of one training, of results from before that was counted.
    """

    name: str
    place: str
    results: tuple[Result, ...]
    macs: int | None = None

    def each(self, value: Callable[[Result], float]) -> list[float]:
        return [value(result) for result in self.results]

    @property
    def training_macs(self) -> list[float]:
        """The multiply-accumulates of each seed's training; empty if they are not known."""
        found = [result.provenance.training_macs for result in self.results]
        counted = [self.macs if macs is None else macs for macs in found]
        return [] if None in counted else [float(macs) for macs in counted if macs is not None]

    @property
    def lacking(self) -> tuple[str, ...]:
        """The rules that the entry does not meet, in words."""
        accuracy, first = self.each(lambda r: r.last_accuracy or 0.0), self.results[0]
        origin = first.provenance
        timed = "AVX512" in origin.hardware and origin.threads <= CORES
        slow = not timed or max(self.each(minutes)) > MINUTES
        much = not self.training_macs or max(self.training_macs) > MACS
        data = origin.recipe.get("data")
        held_out = data.get("validation") if isinstance(data, dict) else 0
        rules = {
            "accuracy": mean(accuracy) < ACCURACY,
            "T": first.timesteps > STEPS,
            "n": len(self.results) < SEEDS,
            "test set": any(r.n != IMAGES or r.split != "test" for r in self.results),
            "minutes and MACs": slow and much,
            "held out": (HELD_OUT if held_out is None else held_out)
            < HELD_OUT,  # None: CIFAR's own
        }
        return tuple(rule for rule, broken in rules.items() if broken)


def minutes(result: Result) -> float:
    """The minutes of a whole command: training, calibration, evaluation.

    Those of measurements that an entry need not have are left out.
    """
    seconds = result.provenance.seconds.items()
    return sum(value for phase, value in seconds if phase not in ("early exit", "times")) / 60


def accumulates(result: Result) -> float:
    """The accumulates of one image, over all layers and steps."""
    return sum(layer.snn_acs for layer in result.operations)


def entries(path: Path = ENTRIES, results: Path = RESULTS) -> list[Entry]:
    """The entries of a list, best first: those that keep the rules, then by accuracy."""
    found = [_entry(row, results) for row in yaml.safe_load(path.read_text("utf-8"))]
    return sorted(
        found, key=lambda e: (bool(e.lacking), -mean(e.each(lambda r: r.last_accuracy or 0.0)))
    )


def _entry(row: Mapping[str, Any], results: Path) -> Entry:
    name, _, variant = str(row["runs"]).partition("/")
    study = read_study(results / name)
    runs = [results / name / f"{variant}-{seed}.json" for seed in study.variants[variant].seeds]
    kept = tuple(load_kept(run).result for run in runs)
    return Entry(called(results / name, variant), f"{name}/{STUDY}", kept, row.get("macs"))


def table(found: Sequence[Entry]) -> str:
    """The entries as a table in Markdown."""
    rows = [list(_cells(entry)) for entry in found]
    head = [name for name, _ in rows[0]]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(text for _, text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(entry: Entry) -> Iterator[tuple[str, str]]:
    first, origin = entry.results[0], entry.results[0].provenance
    trained = entry.training_macs
    yield "date", max(result.provenance.created for result in entry.results)[:10]
    yield "commit", f"`{(origin.commit or 'unknown')[:10]}`"
    yield "recipe", f"[{entry.name}](../../results/{entry.place})"
    yield (
        "accuracy, %",
        mean_and_deviation(entry.each(lambda r: 100 * (r.last_accuracy or 0.0)), ".2f"),
    )
    yield "n", str(len(entry.results))
    yield "T", str(first.timesteps)
    yield (
        "spikes per neuron",
        mean_and_deviation(entry.each(lambda r: r.energy.spikes_per_neuron), ".2f"),
    )
    yield "accumulates an image", count(mean(entry.each(accumulates)))
    pj = mean(entry.each(lambda r: r.energy.snn_pj))
    times = mean_and_deviation(entry.each(lambda r: r.energy.ratio), ".1f")
    yield "energy, counted (ANN ÷ SNN)", f"{energy(pj)} ({times})"
    yield "minutes", mean_and_deviation(entry.each(minutes), ".0f")
    macs = mean_and_deviation([v / 1e15 for v in trained], ".2f") if trained else "not counted"
    yield "MACs of the training, 10¹⁵", macs
    yield "machine", f"{origin.hardware}, {origin.threads} threads"
    yield "rules not met", ", ".join(entry.lacking) or "none"


def page(text: str) -> str:
    """The README with its table written anew."""
    return REGION.sub(lambda found: found[1] + "\n" + table(entries()) + "\n" + found[2], text)


if __name__ == "__main__":
    README.write_text(page(README.read_text("utf-8")), "utf-8")
