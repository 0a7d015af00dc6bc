"""What can be measured of a network besides accuracy, spikes and energy: a file for each metric.

Each file of this folder is imported, and registers its metric by a name. `evaluate.metrics` of a
recipe, `leanspike evaluate RUN --metric NAME` and ``leanspike.evaluate(metrics=...)`` take these.

>>> "calibration_error" in metrics.names()
True
"""

from importlib import import_module
from pkgutil import iter_modules

from leanspike.evaluation.metric import metrics

for _found in iter_modules(__path__, f"{__name__}."):
    import_module(_found.name)

from leanspike.metrics.calibration_error import CalibrationError  # noqa: E402

__all__ = ["CalibrationError", "metrics"]
