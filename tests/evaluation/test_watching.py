"""A metric of a user's own that sees inside the network: what it counts, and where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import fx, nn

import leanspike as ls
from leanspike.distributed import Group
from leanspike.evaluation import About, LayerTable, Result, WatchingMetric
from leanspike.evaluation.record import Record
from leanspike.metrics import metrics
from leanspike.report import render_tables, write_report


class Found(Record):
    """Spikes of each layer, all samples and steps together."""

    spikes: dict[str, int]
    samples: int


class Fired(WatchingMetric):
    """Counts spikes by itself."""

    Row = Found

    def begin(self, about: About) -> None:
        assert about.network is not None
        assert about.timesteps == about.network.timesteps
        self.spikes: dict[str, int] = {}
        self.samples = 0

    def observe(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        assert all(source in values for source in node.all_input_nodes)
        if node.meta.get("neuron"):
            path = str(node.target)
            self.spikes[path] = self.spikes.get(path, 0) + int((value != 0).sum())

    def see(self, y_TN: Any, targets: Any, ann_N: Any) -> None:  # noqa: ARG002
        assert self.spikes  # all operations come before the answer
        self.samples += y_TN.shape[1]

    def add_others(self, group: Group) -> None:
        each = group.gathered((self.spikes, self.samples))
        paths = {path for spikes, _ in each for path in spikes}
        self.spikes = {path: sum(found.get(path, 0) for found, _ in each) for path in paths}
        self.samples = sum(samples for _, samples in each)

    def row(self) -> Found:
        return Found(spikes=self.spikes, samples=self.samples)

    @classmethod
    def tables(cls, row: Record) -> tuple[LayerTable, ...]:
        assert isinstance(row, Found)
        rows = {
            path: (spikes, "many" if spikes > 9 else "few") for path, spikes in row.spikes.items()
        }
        return (LayerTable("Spikes of all images", ("fired", "in words"), rows),)


@pytest.fixture
def result() -> Result:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    snn = ls.spike(ann, example_input=torch.zeros(1, 8), timesteps=2, neuron=ls.LIF(0.2))
    pairs = [(torch.rand(n, 8), torch.randint(3, (n,))) for n in (5, 3)]
    return ls.evaluate(snn, pairs, ann=ann, metrics={"fired": Fired()})


def test_it_sees_what_spikes_and_energy_are_counted_by(result: Result) -> None:
    row = Found.model_validate(result.measured["fired"])
    assert row.samples == result.n == 8
    assert sum(row.spikes.values()) > 0
    counted = {r.path: r.spikes_per_neuron * r.neurons * result.n for r in result.neurons}
    assert row.spikes == pytest.approx(counted)


def test_its_table_stands_in_the_terminal_and_on_the_page(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_kinds", {**metrics.registered, "fired": Fired})
    page = write_report(result, [], tmp_path / "report.html").read_text()
    console = Console(width=80, record=True, file=StringIO())
    console.print(render_tables(result))
    lines = console.export_text().splitlines()
    (path, spikes), *_ = result.measured["fired"]["spikes"].items()
    at = lines.index("Spikes of all images")
    assert lines[at + 1].split() == ["layer", "fired", "in", "words"]
    assert lines[at + 2].split() == [path, str(spikes), "many"]
    assert "<h3>Spikes of all images</h3>" in page
    assert "After step" not in page  # there is no table of steps, not even an empty one
    assert f'<tr><td class="path">{path}</td><td>{spikes}</td><td>many</td></tr>' in page


def test_one_that_cannot_add_up_cannot_be_made() -> None:
    class Alone(WatchingMetric):
        """Says nothing of other processes."""

        def observe(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None: ...

    with pytest.raises(TypeError, match=r"abstract.*add_others"):
        Alone()  # type: ignore[abstract]
