"""Kinds of files besides those of data: recipes, models, checkpoints, programs, records."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

import leanspike as ls
from benchmarks.breaking import mutations as change
from benchmarks.breaking.guard import CANARY
from benchmarks.breaking.mutations import Bytes, damaged
from leanspike.errors import LeanspikeError

Example = tuple[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file: whole examples by their names, damage, and the reader that a user calls.

    ``beside`` are files that lie in the same folder, whole; ``hostile`` come first, unchanged.
    ``errors`` are those that a reader may raise. ``official``: that it reads no file but those.
    """

    examples: Sequence[Example]
    read: Callable[[Path], object]
    change: Bytes = damaged
    hostile: Sequence[Example] = ()
    beside: Mapping[str, bytes] = field(default_factory=dict)
    errors: tuple[type[Exception], ...] = (LeanspikeError,)
    official: bool = False

    def files(self, kind: str, count: int) -> Iterator[tuple[int, str, bytes]]:
        """First the whole ones, with numbers below 0, then damaged ones, always the same."""
        yield from ((-n, name, content) for n, (name, content) in enumerate(self.examples, 1))
        for number in range(count):
            draw = Random(f"{kind} {number}")
            if number < len(self.hostile):
                name, content = self.hostile[number]
            else:
                name, content = draw.choice(self.examples)
                content = self.change(content, draw)
            yield number, name, content


class Runs:
    """What a pickle calls where it is loaded."""

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {CANARY}_ran",)


def network() -> ls.SpikingNetwork:
    """A small one of the zoo that spikes."""
    torch.manual_seed(0)
    ann = ls.models.create_model("mlp", 3, in_channels=1, image_size=4, hidden=[5]).eval()
    neuron = ls.LIF(height="threshold", initial="half")
    snn = ls.spike(ann, example_input=torch.zeros(1, 1, 4, 4), timesteps=2, neuron=neuron)
    ls.calibrate(snn, torch.rand(16, 1, 4, 4), percentile=99)
    return snn


@functools.cache
def saved() -> tuple[bytes, bytes]:
    """Spec and weights of the network; without a digest, which would hide what comes after."""
    options = {"hidden": [5]}
    about = ls.ModelSpec(name="mlp", num_classes=3, in_channels=1, image_size=4, options=options)
    with tempfile.TemporaryDirectory() as folder:
        ls.save(network(), folder, about)
        spec = json.loads(Path(folder, "spec.json").read_text())
        del spec["weights_sha256"]
        return json.dumps(spec).encode(), Path(folder, "model.safetensors").read_bytes()


def recipes() -> Kind:
    from leanspike.recipes import dump, load_recipe

    found = [f for f in resources.files("leanspike.recipes").iterdir() if f.name.endswith(".yaml")]
    examples = [("a.yaml", f.read_bytes()) for f in sorted(found, key=lambda f: f.name)]
    whole = dump(load_recipe("digits")).encode()
    hostile = [("a.yaml", whole + more) for more in change.HOSTILE_YAML]
    return Kind([*examples, *[("a.yaml", whole)] * 8], load_recipe, change.as_yaml, hostile)


def specs() -> Kind:
    spec, weights = saved()
    strange = json.loads(spec)
    strange["model"]["name"] = f"{CANARY}:Net"
    return Kind(
        [("spec.json", spec)],
        lambda path: ls.load(path.parent)(torch.zeros(1, 1, 4, 4)),
        change.as_json,
        [("spec.json", json.dumps(strange).encode())],
        {"model.safetensors": weights},
    )


def weights() -> Kind:
    spec, whole = saved()
    return Kind(
        [("model.safetensors", whole)],
        lambda path: ls.load(path.parent)(torch.zeros(1, 1, 4, 4)),
        change.in_safetensors,
        beside={"spec.json": spec},
    )


def states() -> Kind:
    from leanspike.execute.state import State

    snn = network()
    _, state = snn.step(torch.zeros(1, 1, 4, 4))
    with tempfile.TemporaryDirectory() as folder:
        content = state.save(Path(folder) / "a").read_bytes()

    def read(path: Path) -> object:
        return snn.step(torch.zeros(1, 1, 4, 4), State.load(path))

    return Kind([("a.safetensors", content)], read, change.in_safetensors)


def checkpoints() -> Kind:
    from benchmarks.breaking.training import trained_for_a_step

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        trained_for_a_step(path, keep=True)
        content = path.read_bytes()
    hostile = [("checkpoint.pt", pickled({"stage": 0, "position": Runs()}))]
    return Kind(
        [("checkpoint.pt", content)],
        lambda path: trained_for_a_step(path, keep=False),
        change.in_zip(),
        hostile,
    )


def published() -> Kind:
    from leanspike.models.published import load_published

    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    content = pickled({"state_dict": network().state_dict()})
    return Kind(
        [("a.th", content)],
        lambda path: load_published(network(), path),
        change.in_zip(),
        [("a.th", pickled({"weight": Runs()}))],
    )


def programs() -> Kind:
    from leanspike_runtime import Engine, EngineError, load

    with tempfile.TemporaryDirectory() as folder:
        content = ls.compile_engine(network()).save(Path(folder) / "a").read_bytes()
    examples = [("a.leanspike", content)]
    kept = Path(__file__).parents[2] / "tests" / "engine" / "version1.leanspike"
    if kept.is_file():
        examples.append(("a.leanspike", kept.read_bytes()))

    def read(path: Path) -> object:
        load(path)
        return Engine.load(path)

    return Kind(examples, read, change.in_program, errors=(EngineError,))


def nir_graphs() -> Kind:
    import nir

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nir"
        nir.write(path, ls.to_nir(network(), approximate=True))
        content = path.read_bytes()
    return Kind([("a.nir", content)], ls.from_nir)


def pickled(content: Any) -> bytes:
    """A file as torch.save writes it."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@functools.cache
def result() -> tuple[bytes, bytes]:
    """A result of an evaluation as a run keeps it, and a log."""
    batches = [(torch.rand(16, 1, 4, 4), torch.arange(16) % 3)]
    found = ls.evaluate(network(), batches, classes=("a", "b", "c"), name="small", data="random")
    row = {"event": "epoch", "stage": "ann", "timesteps": 0, "epochs": 2, "train_loss": 1.0}
    more = {"train_accuracy": 0.5, "val_accuracy": 0.4, "learning_rate": 0.1, "seconds": 1.0}
    rows = [json.dumps({**row, **more, "epoch": epoch}) for epoch in (1, 2)]
    return found.model_dump_json().encode(), "\n".join(rows).encode()


def _page(path: Path) -> object:
    """What `leanspike report` makes of a run: tables, and the page, its plots left undrawn."""
    from leanspike.evaluation import load_result
    from leanspike.report import html, render_tables
    from leanspike.train import read_log

    matplotlib = __import__("matplotlib.figure").figure
    matplotlib.Figure.savefig = lambda _, file, **__: file.write('<svg viewBox="0 0 8 1"></svg>')
    found = load_result(path.parent / "result.json")
    render_tables(found)
    return html._page(found, read_log(path.parent / "log.jsonl"))


def results() -> Kind:
    whole, log = result()
    return Kind([("result.json", whole)], _page, change.as_json, beside={"log.jsonl": log})


def logs() -> Kind:
    whole, log = result()
    return Kind([("log.jsonl", log)], _page, change.as_lines, beside={"result.json": whole})


def run_records() -> Kind:
    """data.json, seconds.json, backends.json and recipe.yaml of a run's folder."""
    from leanspike.data import load_dataset
    from leanspike.recipes import dump, load_recipe
    from leanspike.run.clock import read_backends, read_seconds
    from leanspike.run.seen import check_seen, keep_seen
    from leanspike.run.workspace import read_recipe

    data = load_dataset("digits")
    with tempfile.TemporaryDirectory() as folder:
        keep_seen(Path(folder), data)
        seen = Path(folder, "data.json").read_bytes()
    readers: dict[str, Callable[[Path], object]] = {
        "data.json": lambda folder: check_seen(folder, data),
        "seconds.json": read_seconds,
        "backends.json": read_backends,
        "recipe.yaml": read_recipe,
    }
    examples = [
        ("data.json", seen),
        ("seconds.json", b'{"train ann": 3.5, "evaluate": 1}'),
        ("backends.json", b'{"train ann": "float32, native, avx2"}'),
    ]
    whole = dump(load_recipe("digits")).encode()

    def other(content: bytes, draw: Random) -> bytes:
        return (change.as_yaml if content == whole else change.as_json)(content, draw)

    return Kind(
        [*examples, ("recipe.yaml", whole)],
        lambda path: readers[path.name](path.parent),
        other,
    )


KINDS: dict[str, Callable[[], Kind]] = {
    "recipes (YAML)": recipes,
    "specs of models (JSON)": specs,
    "weights (safetensors)": weights,
    "states of a stream": states,
    "checkpoints": checkpoints,
    "published weights (.th)": published,
    "compiled programs": programs,
    "NIR": nir_graphs,
    "result.json": results,
    "log.jsonl": logs,
    "a run's other records": run_records,
}
