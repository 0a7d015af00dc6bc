"""Runs: a recipe carried out in a folder, resumed from wherever it was stopped.

`Run.begin` claims the folder for a recipe. `open_run` opens the run that is in a folder.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from rich.console import Console
>>> from leanspike.recipes import load_recipe
>>> from leanspike.train import Monitor
>>> changes = ["model.options.layers=[8, A]", "model.options.head=[]", "ann.epochs=1", "snn=[]"]
>>> recipe, monitor = load_recipe("digits", changes), Monitor(Console(quiet=True))
>>> with TemporaryDirectory() as parent:
...     folder = Path(parent, "digits")
...     first = Run(recipe, folder, monitor)
...     first.begin()
...     first.train_ann()
...     check_free(folder, recipe)  # for this recipe
...     run = open_run(folder, monitor)  # where the first one stopped
...     table = run.convert()
...     run.train_snn()
...     found = compare_robustness(run, limit=10)
...     # export_run(run, Path("net.nir"), "nir", {"target": "norse"}), then
...     # prove_run(run, Path("net.nir"), "norse", limit=256), for networks with average pools
...     same = read_recipe(folder) == recipe
...     print(same, len(table.layers), found.networks)
...     print(len(first_images(run, 4)), len(labelled_tests(run, limit=10)))
True 1 ('ANN', 'digits')
4 1
"""

from leanspike.run.exported import export_run, prove_run
from leanspike.run.robust import compare_robustness
from leanspike.run.run import Run, open_run
from leanspike.run.shipped import about_data, first_images, labelled_tests
from leanspike.run.trained import check_trained
from leanspike.run.workspace import (
    CALIBRATION,
    CHECKPOINT,
    LOG,
    RECIPE,
    REPORT,
    RESULT,
    ROBUSTNESS,
    ROBUSTNESS_PAGE,
    check_free,
    read_recipe,
)

__all__ = [
    "CALIBRATION",
    "CHECKPOINT",
    "LOG",
    "RECIPE",
    "REPORT",
    "RESULT",
    "ROBUSTNESS",
    "ROBUSTNESS_PAGE",
    "Run",
    "about_data",
    "check_free",
    "check_trained",
    "compare_robustness",
    "export_run",
    "first_images",
    "labelled_tests",
    "open_run",
    "prove_run",
    "read_recipe",
]
