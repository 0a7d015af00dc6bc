"""Showing a result as a page (`write_report`) and as tables for the terminal (`render_tables`).

Usually the result is read from a run's ``result.json``. This one is made by hand:

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from rich.console import Console
>>> from leanspike.evaluation.result import Result
>>> result = Result.model_validate({
...     "name": "tiny", "data": "digits", "split": "test", "n": 360, "classes": ("odd", "even"),
...     "timesteps": 2, "encode": "direct", "ann_accuracy": 0.95, "accuracy": (0.8, 0.9),
...     "neurons": ({"path": "relu", "neurons": 4, "spikes_per_step": (0.25, 0.5),
...                  "threshold": 1.0, "leak": 1.0},),
...     "operations": ({"path": "fc", "edge": "spike", "static": False, "dense_macs": 8,
...                     "ann_macs": 8, "snn_macs": 0, "snn_acs": 6, "ann_pj": 36.8,
...                     "snn_pj": 5.4},),
...     "energy": {"mac_pj": 4.6, "ac_pj": 0.9, "ann_pj": 36.8, "snn_pj": 12.6,
...                "membrane_updates": 8, "membrane_pj": 7.2, "ratio": 2.92,
...                "formula_ratio": 6.81, "spikes_per_neuron": 0.75},
...     "example": None,
...     "provenance": {"command": "", "created": "", "leanspike": "0.1.0", "commit": None,
...                    "seed": 0, "hardware": "", "threads": 1, "versions": {}, "recipe": {},
...                    "seconds": {}}})
>>> Console(width=80).print(render_tables(result))
tiny (digits)
At 2 timesteps the SNN answers 90.0 % of 360 test images correctly (ANN: 95.0 %)
and spends 2.9× less energy on arithmetic than the ANN.
...
>>> with TemporaryDirectory() as folder:
...     write_report(result, history=[], out=Path(folder, "report.html")).name
'report.html'
"""

from leanspike.report.html import write_report
from leanspike.report.terminal import render_tables

__all__ = ["render_tables", "write_report"]
