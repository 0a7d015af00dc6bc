"""Names and results as text, for figures, pages and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leanspike.evaluation.exit_result import EarlyExit
from leanspike.evaluation.layers import NeuronActivity
from leanspike.evaluation.result import Provenance, Result
from leanspike.report.quantities import plural, times, wilson_interval


def interval(result: Result, fraction: float) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy; for dependent labels or pixels just the accuracy.

    >>> interval(Result.model_construct(n=100, unit="pixel"), 0.9)
    (0.9, 0.9)
    """
    return wilson_interval(fraction, result.n) if result.unit == "sample" else (fraction, fraction)


def device(kind: str) -> str:
    """Return the common name of a device type.

    >>> device("cpu"), device("cuda"), device("mps")
    ('CPU', 'GPU', 'mps')
    """
    return {"cpu": "CPU", "cuda": "GPU"}.get(kind, kind)


def tail(path: str, width: int) -> str:
    """Return the end of a layer's path in at most ``width`` characters.

    >>> tail("features.denseblock3.denselayer24.relu2", 24), tail("relu", 24)
    ('…ock3.denselayer24.relu2', 'relu')
    """
    return path if len(path) <= width else "…" + path[len(path) - width + 1 :]


def head(name: str, width: int) -> str:
    """Return the beginning of a class name in at most ``width`` characters.

    >>> head("great white shark", 12), head("cat", 12)
    ('great white…', 'cat')
    """
    return name if len(name) <= width else name[: width - 1] + "…"


def reading_names(neurons: Iterable[NeuronActivity]) -> list[str]:
    """Return the names of the readings of layers of neurons, each once, in order.

    >>> layer = NeuronActivity(path="relu", neurons=4, spikes_per_step=(0.5,), threshold=1, leak=1)
    >>> reading_names([layer, layer])
    ['threshold', 'leak']
    """
    return list(dict.fromkeys(name for layer in neurons for name in layer.readings))


def listed(names: Sequence[str], ending: str = "") -> str:
    """Return names of readings as the beginning of a sentence, each with an ending.

    >>> listed(["threshold", "synapse_leak"]), listed(["threshold", "leak"], ending="s")
    ('Threshold and synapse leak', 'Thresholds and leaks')
    """
    words = [name.replace("_", " ") + ending for name in names]
    text = ", ".join([*words[:-2], " and ".join(words[-2:])])
    return text[:1].upper() + text[1:]


def sample_noun(result: Result) -> str:
    """Return the noun for a test sample: "image", or "sample" with ``encode: frames``.

    >>> sample_noun(Result.model_construct(encode="direct"))
    'image'
    """
    return "sample" if result.encode == "frames" else "image"


def samples(number: int, noun: str, split: str | None) -> str:
    """Return a number of samples in words, with the split if it is known.

    >>> samples(360, "image", "test"), samples(1, "sample", None)
    ('360 test images', '1 sample')
    """
    return plural(number, noun if split is None else f"{split} {noun}")


def answered(result: Result) -> str:
    """Return in words what an accuracy is a share of.

    >>> answered(Result.model_construct(n=360, split="test", encode="direct", unit="pixel"))
    'the pixels of 360 test images'
    """
    those = samples(result.n, sample_noun(result), result.split)
    return those if result.unit == "sample" else f"the {result.unit}s of {those}"


def given(value: object) -> str:
    """Return a value as text, or "not given".

    >>> given(7), given(None), given("")
    ('7', 'not given', 'not given')
    """
    return "not given" if value is None or value == "" else str(value)


def commit(origin: Provenance) -> str:
    """Return the short commit, with "-dirty" if files differed from it.

    >>> commit(Provenance.model_construct(commit="0123456789abcdef-dirty"))
    '0123456789-dirty'
    >>> commit(Provenance.model_construct(commit=None))
    'unknown'
    """
    sha, _, dirty = (origin.commit or "").partition("-")
    return (sha[:10] + (f"-{dirty}" if dirty else "")) or "unknown"


def backend(origin: Provenance) -> str:
    """Return the backend of the figures, and those of the run's phases.

    >>> backend(Provenance.model_construct(
    ...     backend="native", instructions="avx2", backends={"train snn T=5": "bfloat16, native"}))
    'native, avx2; train snn T=5: bfloat16, native'
    >>> backend(Provenance.model_construct())
    'not recorded'
    """
    own = ", ".join(filter(None, (origin.backend, origin.instructions))) or "not recorded"
    return "; ".join([own, *(f"{phase}: {words}" for phase, words in origin.backends.items())])


def quoted(result: Result, energy_ratio: float | None) -> str:
    """Return an energy ratio as text, or "–" if it was not recorded or accuracy is at chance.

    >>> result = Result.model_construct(accuracy=(0.9,), n=360, chance=0.1)
    >>> quoted(result, 7.31), quoted(result, None)
    ('7.3×', '–')
    >>> quoted(result.model_copy(update={"accuracy": (0.111,)}), 7.31)
    '–'
    """
    return "–" if energy_ratio is None or result.at_chance else times(energy_ratio)


def exit_threshold(early: EarlyExit) -> str:
    """Return when samples leave by a rule: its threshold, and the latest step.

    >>> exit_threshold(EarlyExit.model_construct(threshold=0.81234, latest=16))
    '0.8123, or after 16'
    >>> exit_threshold(EarlyExit.model_construct(threshold=None, latest=None))
    'none'
    """
    threshold = "none" if early.threshold is None else f"{early.threshold:.4g}"
    return threshold if early.latest is None else f"{threshold}, or after {early.latest}"


def settling_step(accuracy: Sequence[float]) -> int:
    """Return the step (from 1) from which on the accuracy stays within a point of the last.

    >>> settling_step((0.5, 0.9, 0.895, 0.9))
    2
    """
    far = [step for step, value in enumerate(accuracy, 1) if abs(value - accuracy[-1]) > 0.01]
    return far[-1] + 1 if far else 1
