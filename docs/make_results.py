"""Write the tables of docs/results.md and docs/choose.md from the runs in results/.

    python docs/make_results.py

A table stands between ``<!-- KIND: NAMES -->`` and ``<!-- end -->``, where NAMES are folders of
runs (or patterns) below results/. Runs that differ only in the folder's last ``-SEED`` are one row.
KIND is

- ``table``: the runs, mean ± standard deviation over the seeds; ``!COLUMN`` leaves out those whose
  names begin so;
- ``steps``: accuracy after each step, the mean over the seeds;
- ``pairs``: what each run has over the first one named, seed by seed: the mean difference with its
  95 % interval by Student's t;
- ``exits``: what leaving early comes to, a row for each rule;
- ``noise``: accuracies on corrupted and attacked images, a row for each kind, of one run's
  robustness.json, followed by what the networks in it are called, if not by their names there.

Equal runs give equal bytes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from scipy import stats

from leanspike.evaluation import Result, load_result, load_robustness

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "results.md", ROOT / "docs" / "choose.md")
RUNS = ROOT / "results"

Value = Callable[[Result], float | None]
COLUMNS: dict[str, tuple[Value, str]] = {
    "ANN": (lambda r: r.ann_accuracy and 100 * r.ann_accuracy, ".2f"),
    "SNN": (lambda r: 100 * r.accuracy[-1], ".2f"),
    "difference": (lambda r: r.ann_accuracy and 100 * (r.accuracy[-1] - r.ann_accuracy), "+.2f"),
    "steps": (lambda r: r.timesteps, ".0f"),
    "spikes per neuron": (lambda r: r.energy.spikes_per_neuron, ".3f"),
    "energy, counted": (lambda r: r.energy.ratio, ".1f"),
    "energy, DIET-SNN's formula": (lambda r: r.energy.formula_ratio, ".1f"),
    "energy, BNTT's formula": (lambda r: r.energy.bntt_formula_ratio, ".1f"),
    "minutes": (lambda r: sum(r.provenance.seconds.values()) / 60, ".0f"),
}
REGION = re.compile(r"(<!-- (\w+): (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page with all its tables written anew."""
    return REGION.sub(
        lambda found: found[1] + "\n" + KINDS[found[2]](found[3].split()) + "\n" + found[4], text
    )


def table(words: Sequence[str]) -> str:
    """The runs, a row for each set of seeds."""
    without = tuple(word[1:] for word in words if word[0] == "!")
    columns = {name: value for name, value in COLUMNS.items() if not name.startswith(without)}
    rows = [
        [_link(runs), str(len(runs))]
        + [_mean_and_spread(runs.values(), value, form) for value, form in columns.values()]
        for runs in _groups([word for word in words if word[0] != "!"])
    ]
    return _markdown(["run", "n", *columns], rows)


def steps(words: Sequence[str]) -> str:
    """Accuracy after each step, a row for each set of seeds of the same number of steps."""
    rows = []
    for runs in _groups(words):
        by_step = zip(*(load_result(path).accuracy for path in runs.values()), strict=True)
        rows.append([_link(runs), *(f"{100 * mean(values):.1f}" for values in by_step)])
    return _markdown(["run", *map(str, range(1, len(rows[0])))], rows)


def pairs(words: Sequence[str]) -> str:
    """What each set of seeds has over the first, in points of accuracy."""
    base, *others = _groups(words)
    rows = []
    for runs in others:
        seeds = base.keys() & runs.keys()
        gains = [
            100 * (load_result(runs[seed]).accuracy[-1] - load_result(base[seed]).accuracy[-1])
            for seed in sorted(seeds)
        ]
        half = stats.t.ppf(0.975, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
        rows.append([_link(runs), str(len(gains)), f"{mean(gains):+.2f} ± {half:.2f}"])
    return _markdown(["run", "n", f"points over {_link(base)}, with 95 % interval"], rows)


def exits(words: Sequence[str]) -> str:
    """What leaving early comes to, a row for each rule."""
    rows = []
    for runs in _groups(words):
        for path in runs.values():
            for e in (result := load_result(path)).early_exit:
                rows.append(
                    [
                        _link({0: path}),
                        e.by,
                        f"{100 * e.full_accuracy:.2f}",
                        f"{100 * e.accuracy:.2f}",
                        f"{result.timesteps}",
                        f"{e.mean_steps:.2f}",
                        f"{100 * (1 - e.mean_steps / result.timesteps):.0f} %",
                        f"{100 * (1 - e.snn_pj / e.full_snn_pj):.0f} %",
                        f"{100 * (1 - e.seconds / e.full_seconds):.0f} %",
                    ]
                )
    head = ["run", "rule", "all steps", "early", "steps", "mean steps"]
    return _markdown([*head, "steps saved", "energy saved", "time saved"], rows)


def noise(words: Sequence[str]) -> str:
    """Accuracy by corruption, averaged over its severities, and by attack, at each strength."""
    found = load_robustness(RUNS / words[0] / "robustness.json")

    def row(title: str, accuracy: Mapping[str, float]) -> list[str]:
        return [title, *(f"{100 * accuracy[network]:.1f}" for network in found.networks)]

    rows = [row("as they are", found.clean)]
    for family, curves in found.corruptions.items():
        rows += [row(c.name, {n: 1 - c.error(n) for n in found.networks}) for c in curves]
        error = found.mean_corruption_error[family]
        rows.append(row(f"mean of the {len(curves)}", {n: 1 - e for n, e in error.items()}))
    for attack in found.attacks:
        for index, strength in enumerate(attack.strengths):
            accuracy = {n: attack.accuracy[n][index] for n in found.networks}
            rows.append(row(f"{attack.name}, ε = {255 * strength:g}/255", accuracy))
    rows.append(row("no gradient at any pixel", found.silent))
    return _markdown(["images", *(words[1:] or found.networks)], rows)


KINDS = {"table": table, "steps": steps, "pairs": pairs, "exits": exits, "noise": noise}


def _groups(patterns: Sequence[str]) -> list[dict[int, Path]]:
    """The runs of each pattern by what they are called without their seed, then by seed."""
    groups: dict[str, dict[int, Path]] = defaultdict(dict)
    for pattern in patterns:
        found = sorted(RUNS.glob(f"{pattern}/result.json"))
        if not found:
            raise FileNotFoundError(f"no run {pattern} in {RUNS}")
        for path in found:
            name, seed = re.fullmatch(r"(.*?)(?:-(\d+))?", path.parent.name).groups()
            groups[name][int(seed or 0)] = path
    return list(groups.values())


def _link(runs: Mapping[int, Path]) -> str:
    folder = next(iter(runs.values())).parent
    name = re.sub(r"-\d+$", "", folder.name)
    return f"[{name}](../{folder.relative_to(ROOT)}/recipe.yaml)"


def _mean_and_spread(paths: Iterable[Path], value: Value, form: str) -> str:
    values = [found for path in paths if (found := value(load_result(path))) is not None]
    if not values:
        return "–"
    text = f"{mean(values):{form}}"
    spread = f"{stdev(values):{form.lstrip('+')}}" if len(values) > 1 else ""
    if spread and float(spread):
        text += f" ± {spread}"
    return text


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    # A minus sign before a figure; the hyphens of names stay.
    lines += [re.sub(r"(?<=[ (])-(?=\d)", "−", "| " + " | ".join(row) + " |") for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
