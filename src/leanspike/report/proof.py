"""The proof of a file by its own reader, for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from leanspike.export import TARGETS, Proof


def render_proof(proof: Proof) -> Group:
    """Return a table of differing spikes by layer and step, and both accuracies.

    >>> from leanspike.export import LayerProof
    >>> layer = LayerProof("relu1", mismatches=(0, 3), spikes=(10, 20), neurons=8)
    >>> proof = Proof("norse", 4, (layer,), 0.5, 0.25, 1.0)
    >>> heading, table, total, _ = render_proof(proof).renderables
    >>> total.plain
    '3 of 30 spikes differ (10.00 %), on 4 images'
    """
    title = TARGETS[proof.target].title
    if proof.by_rules:
        title += " (by its rules, not read back)"
    steps = len(proof.layers[0].mismatches)
    heading = Text(f"spikes that {title} computes otherwise, by step")
    table = Table(box=None, pad_edge=False)
    table.add_column("neurons at", overflow="fold")
    for column in (*(str(step + 1) for step in range(steps)), "spikes"):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in proof.layers:
        cells = [f"{count:,}" for count in layer.mismatches]
        table.add_row(layer.path, *cells, f"{sum(layer.spikes):,}")
    spikes = sum(sum(layer.spikes) for layer in proof.layers)
    share = f" ({100 * proof.mismatches / spikes:.2f} %)" if spikes else ""
    total = f"{proof.mismatches:,} of {spikes:,} spikes differ{share}, on {proof.samples} images"
    return Group(heading, table, Text(total), Text(_accuracy(proof, title)))


def _accuracy(proof: Proof, title: str) -> str:
    if proof.ours is None or proof.theirs is None:
        return "no labels, no accuracy"
    return f"accuracy: leanspike {100 * proof.ours:.1f} %, {title} {100 * proof.theirs:.1f} %"
