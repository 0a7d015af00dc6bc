"""Telling the caller in one line what was chosen."""

from __future__ import annotations

import logging
import sys


def say(line: str) -> None:
    """Log a line as INFO, or print it on stderr if logging was not set up, as for warnings.

    >>> from contextlib import redirect_stderr
    >>> from io import StringIO
    >>> heard, logger = StringIO(), logging.getLogger("leanspike")
    >>> before = logger.propagate, logger.handlers
    >>> logger.propagate, logger.handlers = False, []  # no handler
    >>> with redirect_stderr(heard):
    ...     say("scale 0.6")
    >>> logger.propagate, logger.handlers = before
    >>> heard.getvalue()
    'scale 0.6\\n'
    """
    logger = logging.getLogger("leanspike")
    if logger.hasHandlers():
        logger.info(line)
    elif logger.isEnabledFor(logging.WARNING):
        print(line, file=sys.stderr)
