"""Comparing results side by side, as a page (`write_comparison`) or table (`render_comparison`).

`compare` gives each run a short name. `differences` tells what makes the runs incomparable.
The results are usually read from the ``result.json`` of each run:

>>> from pathlib import Path
>>> from rich.console import Console
>>> from leanspike.evaluation.result import Energy, Provenance, Result
>>> def result(data: str, seed: int) -> Result:
...     origin = Provenance.model_construct(
...         seed=seed, recipe={"model": {"name": "vgg9"}}, hardware="", threads=1,
...         seconds={"train ann": 12.0})
...     energy = Energy.model_construct(
...         mac_pj=4.6, ac_pj=0.9, ratio=2.92, formula_ratio=6.81, bntt_formula_ratio=6.9,
...         spikes_per_neuron=0.75)
...     return Result.model_construct(
...         data=data, split="test", n=360, classes=(), encode="direct", timesteps=2,
...         accuracy=(0.8, 0.9), ann_accuracy=0.95, operations=(), energy=energy, provenance=origin)
>>> runs = compare([(Path("runs/a"), result("mnist", 0), []), (Path("b"), result("mnist", 1), [])])
>>> Console(width=80).print(render_comparison(runs))
run           ANN  SNN T counted DIET BNTT time spikes seconds seed
a            95.0 90.0 2    2.9× 6.8× 6.9×    –   0.75      12    0
mnist, vgg9
b            95.0 90.0 2    2.9× 6.8× 6.9×    –   0.75      12    1
mnist, vgg9
<BLANKLINE>
ANN, SNN: accuracy in %; ...
>>> write_comparison(runs[:1], Path("comparison.html"))
Traceback (most recent call last):
leanspike.errors.LeanspikeError: runs: 1 given, but a comparison needs two; give more
"""

from leanspike.report.compare.page import write_comparison
from leanspike.report.compare.runs import Compared, compare, differences
from leanspike.report.compare.table import render_comparison

__all__ = ["Compared", "compare", "differences", "render_comparison", "write_comparison"]
