"""Files that others read: exporters, by name.

Each works on the network of one step, ``plan.per_step()``, and refuses what its file cannot hold.
A package of one's own adds an exporter by an entry point in the group ``leanspike.exporters``.
"""

from leanspike.export.exporter import Exporter, exporters, write

__all__ = ["Exporter", "exporters", "write"]
