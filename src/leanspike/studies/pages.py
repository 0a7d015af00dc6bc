"""Writing the pages of a finished run from its results."""

from __future__ import annotations

from pathlib import Path

from leanspike.recipes.study import called, is_kept, read_study
from leanspike.report import write_report
from leanspike.report.html import SIGN, check_replaceable, write_robustness
from leanspike.run import REPORT, ROBUSTNESS_PAGE
from leanspike.studies.kept import Finished, find_robustness


def write_report_of(found: Finished, out: str | Path | None = None, fresh: bool = False) -> Path:
    """Write the report of a finished run, and return its path.

    Args:
        found: the run.
        out: the page. Default: ``report.html`` in the run's folder; for a run in a study,
            ``STUDY-VARIANT-SEED.html`` in the current folder.
        fresh: replace the file at ``out``, even if it is no page of leanspike.

    Raises:
        LeanspikeError: if another file is there, or the page cannot be written.
    """
    out = None if out is None else Path(out)
    page = _place(found.path, out, REPORT, "", fresh)
    return write_report(found.result, found.history, page)


def write_robustness_of(
    found: Finished, out: str | Path | None = None, fresh: bool = False
) -> Path:
    """Write the page of a run's robustness, and return its path; otherwise as `write_report_of`.

    Raises:
        LeanspikeError: also if no robustness was measured.

    >>> from leanspike.evaluation import Result
    >>> write_robustness_of(Finished(Path("nowhere"), Result.model_construct(), []))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no robustness at nowhere/robustness.json; measure it with ...
    """
    out = None if out is None else Path(out)
    robustness = find_robustness(found.path)
    return write_robustness(robustness, _place(found.path, out, ROBUSTNESS_PAGE, "-noise", fresh))


def _place(run: Path, out: Path | None, name: str, ending: str, fresh: bool) -> Path:
    """Return the path of a page, after checking that it may be written."""
    if out is None and not is_kept(run):
        return run / name
    page = out or Path(f"{_called(run)}{ending}.html")
    if not fresh:
        check_replaceable(page, SIGN, "a page of a run")
    return page


def _called(run: Path) -> str:
    variant, seed = read_study(run.parent).find(run.stem)
    return f"{called(run.parent, variant)}-{seed}"
