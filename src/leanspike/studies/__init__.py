"""Finished runs kept as a study: ``study.yaml``, and one compact file for each run.

A study is what is left to show of many runs: a base recipe, the variants as changes of it, the
seeds, and what was measured. `keep` makes one of the folders of runs; `load_finished` reads runs
and studies alike.
"""

from leanspike.studies.keep import keep
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
