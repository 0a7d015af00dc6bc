"""The runs of a comparison, with short names, and their differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from leanspike.errors import LeanspikeError
from leanspike.evaluation.result import Result
from leanspike.report.quantities import count, percent, plural
from leanspike.report.text import sample_noun, samples

History = Sequence[dict[str, object]]


@dataclass(frozen=True)
class Compared:
    """A run of a comparison: its short name, its result, and its log (empty if there is none).

    ``number`` is its place in the comparison, from 0, which determines its colour and marker.

    >>> run = Compared(0, "first", Result.model_construct(data="digits", n=360, split="test"), [])
    >>> run.name, run.result.data
    ('first', 'digits')
    """

    number: int
    name: str
    result: Result
    history: History

    @property
    def network(self) -> str:
        """The network's name in the recipe, or "–" if no recipe was recorded."""
        return str(self._model.get("name", "–"))

    @property
    def training_seconds(self) -> float | None:
        """The seconds of the training of ANN and SNN; None if nothing was trained."""
        return self.result.provenance.training_seconds

    @property
    def trained(self) -> bool:
        """Whether the SNN was trained, so that the first values of its neurons are known."""
        return any(layer.readings_start for layer in self.result.neurons)

    @property
    def summary(self) -> dict[str, object]:
        """Return the row of the table, for programs."""
        result = self.result
        return {
            "name": self.name,
            "data": result.data,
            "network": self.network,
            **result.summary,
            "training_seconds": self.training_seconds,
            "training_macs": result.provenance.training_macs,
            "seed": result.provenance.seed,
        }

    @property
    def data_in_words(self) -> str:
        """The data set and the number of samples of an accuracy."""
        result = self.result
        those = samples(result.n, sample_noun(result), result.split)
        return f"{result.data} ({those})" if result.data else those

    @property
    def network_in_words(self) -> str:
        """The network and its size."""
        macs = sum(layer.dense_macs for layer in self.result.operations)
        return f"{self.network} ({count(macs)} MACs)"

    @property
    def architecture(self) -> tuple[object, ...]:
        """A value that is equal for equal networks: name, options, and the layers themselves."""
        layers = tuple((layer.path, layer.dense_macs) for layer in self.result.operations)
        return self.network, json.dumps(self._model.get("options"), sort_keys=True), layers

    @property
    def _model(self) -> dict[str, object]:
        model = self.result.provenance.recipe.get("model")
        return model if isinstance(model, dict) else {}


def compare(runs: Sequence[tuple[Path, Result, History]]) -> list[Compared]:
    """Return runs to compare, named by the shortest unique ends of their folders' paths.

    Raises `LeanspikeError` if a folder is given twice.

    >>> result = Result.model_construct()
    >>> folders = (Path("monday/digits"), Path("tuesday/digits"), Path("tuesday/wide"))
    >>> [run.name for run in compare([(folder, result, []) for folder in folders])]
    ['monday/digits', 'tuesday/digits', 'wide']
    """
    folders = [folder.resolve() for folder, _, _ in runs]
    for index, folder in enumerate(folders):
        if folder in folders[:index]:
            raise LeanspikeError(f"{runs[index][0]} is given twice; name each run once")
    return [
        Compared(index, _short(folder, folders), result, history)
        for index, (folder, (_, result, history)) in enumerate(zip(folders, runs, strict=True))
    ]


def _short(folder: Path, folders: Sequence[Path]) -> str:
    """Return the shortest end of a path that no other path shares."""
    for length in range(1, len(folder.parts)):
        end = folder.parts[-length:]
        if sum(other.parts[-length:] == end for other in folders) == 1:
            return "/".join(end)
    return str(folder)


def differences(runs: Sequence[Compared]) -> list[str]:
    """Return a sentence for each difference that makes figures of the runs incomparable.

    >>> differences([])
    []
    """
    checks = (
        *(_at_chance, _different_data, _different_tasks, _different_networks),
        *(_different_prices, _different_hardware, _different_batches),
    )
    return [sentence for check in checks for sentence in check(runs)]


def _at_chance(runs: Sequence[Compared]) -> Iterator[str]:
    for run in runs:
        if run.result.at_chance:
            reached = percent(run.result.last_accuracy or 0.0, run.result.n)
            yield f"At chance: {run.name}, {reached}. Its energy means nothing."


def _different_data(runs: Sequence[Compared]) -> Iterator[str]:
    data = _distinct(run.data_in_words for run in runs)
    if len(data) > 1:
        yield f"Different data: {'; '.join(data)}. Their accuracies cannot be compared."


def _different_tasks(runs: Sequence[Compared]) -> Iterator[str]:
    tasks = _distinct(_task(run.result) for run in runs)
    if len(tasks) > 1:
        yield f"Different tasks: {'; '.join(tasks)}. Their accuracies cannot be compared."


def _task(result: Result) -> str:
    unit = "" if result.unit in ("sample", "label") else f" of each {result.unit}"
    return "no labels" if result.task == "none" else f"{result.task}{unit}"


def _different_networks(runs: Sequence[Compared]) -> Iterator[str]:
    if len({run.architecture for run in runs}) > 1:
        names = _distinct(run.network_in_words for run in runs)
        which = "; ".join(names) if len(names) > 1 else f"{names[0]} with different options"
        yield f"Different networks: {which}. An energy ratio is to each run’s own ANN."


def _different_prices(runs: Sequence[Compared]) -> Iterator[str]:
    prices = [run.result.energy for run in runs]
    words = _distinct(f"{price.mac_pj} pJ a MAC and {price.ac_pj} pJ an AC" for price in prices)
    if len(words) > 1:
        yield f"Different prices: {'; '.join(words)}. Their energies cannot be compared."


def _different_hardware(runs: Sequence[Compared]) -> Iterator[str]:
    machines = _distinct(map(hardware, runs))
    trained = any(run.training_seconds is not None for run in runs)
    timed = any(run.result.times is not None for run in runs)
    if len(machines) > 1 and (trained or timed):
        what = "Seconds of training" if trained else "Times"
        yield f"Different machines: {'; '.join(machines)}. {what} depend on them."


def _different_batches(runs: Sequence[Compared]) -> Iterator[str]:
    timed = [run.result.times for run in runs if run.result.times is not None]
    batches = _distinct(str(max(times.ratios)) for times in timed if times.ratios)
    if len(batches) > 1:
        which = "; ".join(batches)
        yield f"Different batches: times of {which} samples. Time ratios depend on them."


def hardware(run: Compared) -> str:
    """Return the machine and the number of threads.

    >>> from leanspike.evaluation.result import Provenance
    >>> origin = Provenance.model_construct(hardware="Example CPU", threads=2)
    >>> hardware(Compared(0, "", Result.model_construct(provenance=origin), []))
    'Example CPU, 2 threads'
    """
    origin = run.result.provenance
    return f"{origin.hardware}, {plural(origin.threads, 'thread')}"


def _distinct(words: Iterable[str]) -> list[str]:
    """Return each word once, in order."""
    return list(dict.fromkeys(words))


def recipe_changes(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """Return the keys in which the recipes differ, with the value in every run ("" if none).

    >>> from leanspike.evaluation.result import Provenance
    >>> def run(recipe: dict[str, object]) -> Compared:
    ...     origin = Provenance.model_construct(recipe=recipe)
    ...     return Compared(0, "", Result.model_construct(provenance=origin), [])
    >>> recipe_changes([run({"seed": 0, "ann": {"epochs": 7}}), run({"seed": 0})])
    {'ann.epochs': ['7', '']}
    """
    recipes = [dict(_flat(run.result.provenance.recipe)) for run in runs]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    rows = {key: [recipe.get(key, "") for recipe in recipes] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _flat(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested data by dotted key. A list without mappings is one leaf."""
    if isinstance(value, dict) and (value or not key):
        for name, below in value.items():
            yield from _flat(below, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        for index, below in enumerate(value):
            yield from _flat(below, f"{key}.{index}")
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, default=str)
