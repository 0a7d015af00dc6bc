"""Write the tables of docs/results.md and docs/choose.md, and results/README.md.

    python docs/make_results.py

All of it comes from the studies in results/. A table stands between ``<!-- KIND: NAMES -->`` and
``<!-- end -->``, where a NAME is ``STUDY`` or ``STUDY/VARIANT``, which may be a pattern. All seeds
of a variant are one row. KIND is

- ``table``: the runs, mean ± standard deviation over the seeds; ``!COLUMN`` leaves out those whose
  names begin so;
- ``steps``: accuracy after each step, the mean over the seeds;
- ``pairs``: what each run has over the first one named, seed by seed: the mean difference with its
  95 % interval by Student's t;
- ``exits``: what leaving early comes to, a row for each rule;
- ``noise``: accuracies on corrupted and attacked images, a row for each kind, of one run,
  followed by what its networks are called, if not by their names in it.

Equal runs give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import filter as matching
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

from scipy import stats

from leanspike.evaluation import Result
from leanspike.recipes.study import STUDY, Study, called, read_study
from leanspike.studies import find_robustness, load_kept

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "results.md", ROOT / "docs" / "choose.md")
STUDIES = ROOT / "results"
INDEX = STUDIES / "README.md"

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


@cache
def result_of(run: Path) -> Result:
    """What was measured of a run, by its file in a study."""
    return load_kept(run).result


def table(words: Sequence[str]) -> str:
    """The runs, a row for each set of seeds."""
    without = tuple(word[1:] for word in words if word[0] == "!")
    columns = {name: value for name, value in COLUMNS.items() if not name.startswith(without)}
    rows = [
        [_link(runs), str(len(runs))]
        + [_mean_and_spread(runs.values(), value, form) for value, form in columns.values()]
        for runs in groups([word for word in words if word[0] != "!"])
    ]
    return _markdown(["run", "n", *columns], rows)


def steps(words: Sequence[str]) -> str:
    """Accuracy after each step, a row for each set of seeds of the same number of steps."""
    rows = []
    for runs in groups(words):
        by_step = zip(*(result_of(path).accuracy for path in runs.values()), strict=True)
        rows.append([_link(runs), *(f"{100 * mean(values):.1f}" for values in by_step)])
    return _markdown(["run", *map(str, range(1, len(rows[0])))], rows)


def pairs(words: Sequence[str]) -> str:
    """What each set of seeds has over the first, in points of accuracy."""
    base, *others = groups(words)
    rows = []
    for runs in others:
        seeds = base.keys() & runs.keys()
        gains = [
            100 * (result_of(runs[seed]).accuracy[-1] - result_of(base[seed]).accuracy[-1])
            for seed in sorted(seeds)
        ]
        half = stats.t.ppf(0.975, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
        rows.append([_link(runs), str(len(gains)), f"{mean(gains):+.2f} ± {half:.2f}"])
    return _markdown(["run", "n", f"points over {_link(base)}, with 95 % interval"], rows)


def exits(words: Sequence[str]) -> str:
    """What leaving early comes to, a row for each rule."""
    rows = []
    for runs in groups(words):
        for path in runs.values():
            for e in (result := result_of(path)).early_exit:
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
    ((run,),) = (runs.values() for runs in groups(words[:1]))
    found = find_robustness(run)

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


def groups(patterns: Sequence[str]) -> list[dict[int, Path]]:
    """The runs of each variant that a pattern names, by seed, as files of their studies."""
    found = []
    for pattern in patterns:
        name, _, variant = pattern.partition("/")
        study = read_study(STUDIES / name)
        variants = matching(study.variants, variant or "*")
        if not variants:
            raise FileNotFoundError(f"no run {pattern} in {STUDIES}")
        found += [
            {
                seed: STUDIES / name / f"{variant}-{seed}.json"
                for seed in study.variants[variant].seeds
            }
            for variant in variants
        ]
    return found


def _link(runs: Mapping[int, Path]) -> str:
    run = next(iter(runs.values()))
    variant, _ = read_study(run.parent).find(run.stem)
    return f"[{called(run.parent, variant)}](../results/{run.parent.name}/{STUDY})"


def _mean_and_spread(paths: Iterable[Path], value: Value, form: str) -> str:
    values = [found for path in paths if (found := value(result_of(path))) is not None]
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


HEAD = """\
# Results

Written by `python docs/make_results.py`.

Each folder is a study: runs whose recipes differ from one another by a few changes.

- `study.yaml` holds a whole recipe (`base`), each variant as changes of it, and the seeds. It says
  which command repeats a run.
- `VARIANT-SEED.json` is what is left of a run, without weights and pictures. It holds accuracy on
  the whole test set after each step, spikes, operations, and energy. It holds the log, the
  thresholds as calibrated, and, of some, what noise does. It says where the figures come from:
  seed, commit, hardware, versions, seconds by phase.

A run's file stands for the run:

```
leanspike train results/norms/bntt-0.json
leanspike recipes results/norms/bntt-0.json
leanspike report results/norms/bntt-0.json --out bntt.html
leanspike report results/kd/long-feature-0.json --robustness --out noise.html
leanspike report results/norms --out norms.html
```

They repeat it, print its whole recipe, write its page, write the page of its noise, and compare all
runs of a study. `leanspike study keep` makes such a folder of runs of your own.

Of each variant the command for one seed:
"""
FOOT = """\
## Of all studies

The recipes stay as they ran. CIFAR-10 is normalised with the data set's own mean and std, but for
`published_resnet20`. The code of DIET-SNN and BNTT has others, and so have today's `diet_*` and
`bntt_*_vgg*`.

Results hold the ratio by DIET-SNN's formula. That by BNTT's came later; it is worked out when they
are read.

The seconds of these results leave out attempts that were killed. Today they count. Where an ANN was
taken over from another run, that was done by copying files. Today
`leanspike train RECIPE --ann RUN` checks that it is the same, and the result names the run
(`provenance.ann_from`).

The data are found with `LEANSPIKE_DATA`; see the [README](../README.md). `resnet20.th` holds the
weights that Yerlan Idelbayev published for He et al.'s ResNet-20, `resnet32.th` those for ResNet-32
(github.com/akamaster/pytorch_resnet_cifar10).
"""


def index() -> str:
    """results/README.md: all studies, how their runs are repeated, and what is to be known."""
    studies = {
        path.parent.name: read_study(path.parent) for path in sorted(STUDIES.glob(f"*/{STUDY}"))
    }
    rows = [row for name, study in studies.items() for row in _commands(name, study)]
    words = [f"## {name}\n\n{study.title}.\n\n{study.notes}" for name, study in studies.items()]
    table = _markdown(["study", "variants", "seeds", "command"], rows)
    return "\n".join([HEAD, table, *(f"{word.strip()}\n" for word in words), FOOT])


def _commands(name: str, study: Study) -> Iterator[list[str]]:
    """A row for all variants in turn that the same command repeats."""
    link = f"[{name}]({name}/{STUDY})"
    command = {variant: found.command or study.command for variant, found in study.variants.items()}
    for _, together in groupby(
        study.variants, lambda variant: (command[variant], _seeds(study, variant))
    ):
        variants = list(together)
        first = f"{variants[0]}-{next(iter(study.variants[variants[0]].seeds))}"
        repeats = study.repeats(first, Path("results", name))
        yield [link, ", ".join(variants), _seeds(study, variants[0]), f"`{repeats}`"]


def _seeds(study: Study, variant: str) -> str:
    return ", ".join(map(str, study.variants[variant].seeds))


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
    INDEX.write_text(index(), encoding="utf-8")
