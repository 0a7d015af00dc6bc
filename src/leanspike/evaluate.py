"""The old name of `leanspike.evaluation`, which works for one more version.

``leanspike.evaluate`` is the function. An import of this module gives a module that can be called
like the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from leanspike import evaluation
from leanspike.renamed import renamed

_find = renamed(__name__, {name: f"leanspike.evaluation.{name}" for name in evaluation.__all__})


class _Old(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _find(name)

    def __call__(self, *arguments: Any, **named: Any) -> evaluation.Result:
        return evaluation.evaluate(*arguments, **named)


sys.modules[__name__].__class__ = _Old
