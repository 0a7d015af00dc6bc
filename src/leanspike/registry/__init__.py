"""Parts by name: one registry for each kind of part, open to other packages.

A class, or a function that makes the part, is registered where it is written. Its options are a
:class:`~leanspike.section.Section`, whose fields are its keyword arguments. An installed package
adds parts by entry points, in the group of the registry::

    [project.entry-points."leanspike.neurons"]
    resonate = "its_package.resonate:Resonate"

Such a part is imported when its name is first used. If it cannot be imported, one line names it.
All other parts work.
"""

from leanspike.registry.chosen import ChosenSection
from leanspike.registry.options import values_of
from leanspike.registry.registered import ChosenPart, Registry, Row
from leanspike.registry.wrong_name import nearest

__all__ = ["ChosenPart", "ChosenSection", "Registry", "Row", "nearest", "values_of"]
