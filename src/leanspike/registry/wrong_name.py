"""The end of a message about a name that does not exist."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def nearest(wrong: str, valid: Collection[str]) -> str:
    """Return in words the names to choose instead of one that does not exist.

    >>> nearest("step", ("direct", "frames")), nearest("lfi", ("lif", "cuba_lif"))
    ('choose one of direct, frames', "choose one of lif, cuba_lif; did you mean 'lif'?")
    """
    close = get_close_matches(wrong, list(valid), n=1, cutoff=0.65)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"choose one of {', '.join(valid)}{meant}"
