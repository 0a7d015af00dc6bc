"""Finished runs kept as a study: ``study.yaml``, and one compact file for each run.

A study holds a base recipe, the variants as changes of it, the seeds, and what was measured.
`keep` makes a study from folders of runs. `load_finished` reads runs and studies alike. Training
usually makes the folders of runs. These two are made by hand:

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> import torch
>>> from leanspike import evaluate, spike
>>> from leanspike.recipes import dump, load_recipe
>>> ann = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
>>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=2)
>>> result = evaluate(snn, [(torch.rand(32, 8), torch.randint(3, (32,)))])
>>> with TemporaryDirectory() as parent:
...     runs, study = [Path(parent, name) for name in ("short", "long")], Path(parent, "length")
...     for run, epochs in zip(runs, (1, 9), strict=True):
...         run.mkdir()
...         recipe = load_recipe("digits", [f"ann.epochs={epochs}"])
...         _ = (run / "recipe.yaml").write_text(dump(recipe))
...         _ = (run / "result.json").write_text(result.model_dump_json())
...     kept = keep(runs, study)
...     print(kept.runs, kept.variants["long"].changes)
...     long = load_kept(study / "long-0.json")
...     print(len(load_finished(study)), long.result.accuracy == result.accuracy)
...     print(read_kept(long.path).result["n"], load_recipe(long.path).ann.epochs)
...     print(write_report_of(long, out=Path(parent, "page.html")).name)
['short-0', 'long-0'] ('ann.epochs=9',)
2 True
32 9
page.html
"""

from leanspike.studies.keeping import keep
from leanspike.studies.kept import (
    Finished,
    KeptRun,
    find_robustness,
    load_finished,
    load_kept,
    read_kept,
)
from leanspike.studies.pages import write_report_of, write_robustness_of

__all__ = [
    "Finished",
    "KeptRun",
    "find_robustness",
    "keep",
    "load_finished",
    "load_kept",
    "read_kept",
    "write_report_of",
    "write_robustness_of",
]
