"""The old name of `leanspike.backends`, which works for one more version."""

from leanspike.renamed import renamed

NAMES = ("Backends", "note_backend", "watch_backends")

__getattr__ = renamed(__name__, {name: f"leanspike.backends.{name}" for name in NAMES})
