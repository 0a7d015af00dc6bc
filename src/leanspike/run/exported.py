"""Exporting a run's SNN, and proving the file on the run's own test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from leanspike.data import Loader
from leanspike.errors import LeanspikeError
from leanspike.export import Proof, prove, write
from leanspike.run.run import Run
from leanspike.surgery import SpikingNetwork

BATCH = 64


def export_run(run: Run, path: Path, exporter: str, options: Mapping[str, Any]) -> Path:
    """Write the SNN of a run with one of the exporters.

    Raises LeanspikeError as the exporter does, and if the run has no SNN yet.
    ``export_run(run, Path("net.nir"), "nir", {"target": "norse"})``
    """
    return write(_network(run), path, exporter, options)


def prove_run(run: Run, path: Path, target: str, limit: int, *, by_rules: bool = False) -> Proof:
    """Compare a file, run by its target's own reader, with the SNN on the first test images.

    With ``by_rules`` leanspike itself computes the file, by the rules of the target.

    Raises LeanspikeError where that reader is not installed.
    ``prove_run(run, Path("net.nir"), "norse", limit=256).mismatches``
    """
    return prove(_network(run), path, target, test_batches(run, limit), by_rules=by_rules)


def test_batches(run: Run, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first test images of a run and their labels, in batches."""
    size, data = min(BATCH, limit), run.data
    loader = Loader(
        data.test, batch_size=size, mean=data.mean, std=data.std, seed=run.recipe.seed, train=False
    )
    yield from islice(loader, -(-limit // size))


def _network(run: Run) -> SpikingNetwork:
    if not (run.folder / "snn").is_dir():
        raise LeanspikeError(f"{run.folder} has no SNN yet; finish it with leanspike train")
    network = run.load("snn").cpu()
    assert isinstance(network, SpikingNetwork)
    return network
