"""A package of somebody else's: its parts by name, from the command line, and in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = '''
import torch
from torch import nn
import leanspike as ls
from leanspike.data import Corruption, Source, synthetic
from leanspike.evaluation import Metric, StepTable
from leanspike.evaluation.record import Record
from leanspike.neuron import Cost
from leanspike.section import Positive, Section
from leanspike.train import Curve, Objective, Term


class Steep(ls.Neuron):
    class Config(Section):
        height: Positive = 1.0

    def __init__(self, height=1.0):
        super().__init__()
        self.height = height

    @property
    def options(self):
        return {"height": self.height}

    def initial(self, x_N):
        return x_N * 0

    def step(self, x_N, state):
        soft = torch.sigmoid(x_N)
        return self.height * ((x_N > 0) + soft - soft.detach()), self.initial(x_N)

    def spike_height(self):
        return torch.tensor(self.height)

    def update_cost(self):
        return Cost()


class Small(nn.Module):
    def __init__(self, num_classes: int, *, in_channels: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(in_channels, hidden, 3), nn.ReLU()
        self.answer = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.answer(self.relu(self.conv(x)).mean((2, 3)))


def stripes(classes: int = 2) -> Source:
    return Source(lambda root: synthetic((1, 6, 6), classes, train=40, test=12), 8)


class Quiet(Objective):
    class Config(Term):
        """Small outputs."""

        power: float = 2.0

    def __init__(self, power=2.0):
        super().__init__()
        self.power = power

    def forward(self, y_TNK, labels, x):
        return y_TNK.abs().pow(self.power).mean()


def plain(groups, beta: float = 0.5):
    return torch.optim.SGD(groups, momentum=beta)


class Half(Curve):
    def __init__(self, floor: float = 0.5) -> None:
        self.floor = floor

    def __call__(self, done, epoch):
        return self.floor


class Largest(Metric):
    class Row(Record):
        largest: float

    def begin(self, about):
        self.largest = 0.0

    def see(self, y_TN, targets, ann_N):
        self.largest = max(self.largest, float(y_TN.max()))

    def row(self):
        return self.Row(largest=self.largest)

    @classmethod
    def tables(cls, row):
        return (StepTable("Largest output", (row.largest,)),)


def dark() -> Corruption:
    return Corruption(lambda x, factor, draws: factor * x, "factor", (0.9, 0.8, 0.7, 0.6, 0.5))
'''
PARTS = {
    "neurons": ("steep", "Steep"),
    "models": ("small", "Small"),
    "datasets": ("stripes", "stripes"),
    "objectives": ("quiet", "Quiet"),
    "optimizers": ("plain", "plain"),
    "schedules": ("half", "Half"),
    "metrics": ("largest", "Largest"),
    "corruptions": ("dark", "dark"),
}
RECIPE = """
name: theirs
data: {name: stripes, options: {classes: 3}}
model: {name: small, options: {hidden: 5}}
spike: {timesteps: 2, neuron: {name: steep, height: 2.0}, calibrate: null}
snn:
  - epochs: 1
    batch_size: 16
    optimizer: {name: plain, beta: 0.25}
    schedule: {name: half, floor: 0.25}
    objective: {cross_entropy: {}, quiet: {weight: 0.5, power: 1.5}}
evaluate: {metrics: {largest: {}}}
"""


def install(folder: Path, name: str, code: str, points: dict[str, tuple[str, str]]) -> None:
    """A package as pip would leave it there."""
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[leanspike.{kind}]\n{part} = {name}:{at}\n" for kind, (part, at) in points.items()]
    (about / "entry_points.txt").write_text("".join(lines))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    install(folder, "plug", PACKAGE, PARTS)
    broken = dict.fromkeys(PARTS, ("broken", "Nothing"))
    install(folder, "broken_plug", "raise RuntimeError('no licence')\n", broken)
    (tmp_path / "theirs.yaml").write_text(RECIPE)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder / "packages"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_recipe_of_their_parts_trains_from_the_command_line(theirs: Path) -> None:
    done = python(theirs, "-m", "leanspike.cli", "train", "theirs.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "Largest output" in done.stderr
    kept = (theirs / "run" / "recipe.yaml").read_text()
    assert (
        "quiet:\n      weight: 0.5\n      power: 1.5" in kept
    )  # else the run is not repeated by it
    result = json.loads((theirs / "run" / "result.json").read_text())
    assert result["measured"]["largest"]["largest"] > 0
    assert len(result["classes"]) == 3
    spec = (theirs / "run" / "snn" / "spec.json").read_text()
    assert '"steep"' in spec


LOOK = """
import sys
import torch
import leanspike, leanspike.run
from leanspike.backends.protocol import backends
from leanspike.data import corrupt, datasets
from leanspike.data.corruptions import corruptions
from leanspike.export.exporter import exporters
from leanspike.metrics import metrics
from leanspike.models import models
from leanspike.neuron import neurons, surrogates
from leanspike.recipes import load_recipe
from leanspike.temporal import encoders, norms
from leanspike.train import objectives, optimizers, schedules

kinds = [neurons, models, datasets, objectives, optimizers, schedules, metrics, corruptions]
others = [backends, exporters, surrogates, encoders, norms]
assert len({registry.group for registry in kinds + others}) == 13
load_recipe("digits")
for registry in kinds:
    assert "broken" in registry.names() and len(registry.names()) > 2, registry.group
print([name for name in ("plug", "broken_plug") if name in sys.modules])
for registry in kinds:
    try:
        registry.find("broken")
    except leanspike.LeanspikeError as error:
        print(error)
    assert registry.find(registry.names()[0])
print(models.find("small").__name__)
white = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
assert corrupt(white, "dark", 5).unique().tolist() == [50]
for change in sys.argv[1:]:
    try:
        load_recipe("theirs.yaml", [change])
    except leanspike.LeanspikeError as error:
        print(error)
"""

MISTAKES = {
    "snn.0.optimizer=plane": "optimizer is 'plane'; choose one of sgd, adam, adamw, plain, broken;",
    "snn.0.objective={quite: {}}": "unknown key snn.0.objective.quite; did you mean 'quiet'?",
    "snn.0.objective={quiet: {powr: 1}}": "key snn.0.objective.quiet.powr; did you mean 'power'?",
    "snn.0.schedule.flor=1": "unknown key snn.0.schedule.flor; did you mean 'floor'?",
    "data.options={clases: 2}": "data set stripes has no option 'clases'; valid are classes",
    "model.options={hiden: 1}": "model small has no option 'hiden'; did you mean 'hidden'?",
    "evaluate.metrics=[larges]": "metric is 'larges'; choose one of calibration_error, largest, br",
    "snn.0.optimizer=broken": "optimizer 'broken' of the package broken_plug cannot be imported",
    "snn.0.objective={broken: {}}": "objective 'broken' of the package broken_plug cannot be",
}


def test_nothing_is_imported_before_it_is_named_and_what_is_broken_is_named(theirs: Path) -> None:
    done = python(theirs, "-c", LOOK, *MISTAKES)
    assert done.returncode == 0, done.stderr
    imported, *said = done.stdout.splitlines()
    assert imported == "[]"
    broken, (small, *mistakes) = said[: len(PARTS)], said[len(PARTS) :]
    for line in broken:
        assert "'broken' of the package broken_plug cannot be imported (no licence); mend" in line
    assert small == "Small"
    assert len(mistakes) == len(MISTAKES)
    for line, start in zip(mistakes, MISTAKES.values(), strict=True):
        assert start in line
