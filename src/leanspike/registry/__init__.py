"""Parts by name: one registry for each kind of part, open to other packages.

A class, or a function that makes the part, registers itself where it is written. It brings its
options along, as a :class:`~leanspike.section.Section`; the fields are its keyword arguments. An
installed package adds parts by entry points, in a group named after the registry::

    [project.entry-points."leanspike.neurons"]
    resonate = "its_package.resonate:Resonate"

Such a part is imported when its name is asked for, and not before. A part that cannot be imported
is named in one line. It hinders no other part.
"""

from leanspike.registry.chosen import ChosenSection
from leanspike.registry.options import values_of
from leanspike.registry.registered import ChosenPart, Registry, Row
from leanspike.registry.wrong_name import nearest

__all__ = ["ChosenPart", "ChosenSection", "Registry", "Row", "nearest", "values_of"]
