"""One line for whoever calls: what was chosen, where nobody has said how to be told."""

from __future__ import annotations

import logging
import sys


def say(line: str) -> None:
    """Tell it in the log, as INFO; on stderr where logging was not set up, as warnings are there.

    >>> from contextlib import redirect_stderr
    >>> from io import StringIO
    >>> heard, logger = StringIO(), logging.getLogger("leanspike")
    >>> before = logger.propagate, logger.handlers
    >>> logger.propagate, logger.handlers = False, []  # nobody listens
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
