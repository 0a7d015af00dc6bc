"""NeuroBench's figures beside leanspike's, as a table for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from leanspike.evaluation.comparison import Comparison


def render_neurobench(found: Comparison) -> Group:
    """Return a table with a row for each quantity, and the reasons for differences.

    >>> from rich.console import Console
    >>> from leanspike.evaluation.comparison import Row
    >>> rows = Row("accuracy", 0.75, 0.75), Row("accumulates", 8.0, 16.0, "It counts others.")
    >>> Console(width=80).print(render_neurobench(Comparison(2, 40, rows)))
    40 samples, 2 timesteps; operations and updates of one sample
                 NeuroBench  leanspike
     accuracy          0.75       0.75  the same
     accumulates          8         16  differ
    accumulates: It counts others.
    """
    table = Table(box=None)
    table.add_column("")
    for column in ("NeuroBench", "leanspike"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in found.rows:
        told = "the same" if row.agree else "differ"
        table.add_row(row.what, _figure(row.neurobench), _figure(row.leanspike), told)
    why = [f"{row.what}: {row.reason}" for row in found.rows if not row.agree]
    head = (
        f"{found.samples:,} samples, {found.timesteps} timesteps; operations and updates of one "
        "sample"
    )
    return Group(head, table, *why)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) > 1000 or value == round(value) else f"{value:.4g}"
