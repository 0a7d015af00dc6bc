"""The old name of `leanspike.evaluation`, which works for one more version.

``leanspike.evaluate`` is the function. Who imports this module gets one that can be called like it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from warnings import warn

from leanspike import evaluation


class _Old(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(evaluation, name)

    def __call__(self, *arguments: Any, **named: Any) -> evaluation.Result:
        return evaluation.evaluate(*arguments, **named)


warn("leanspike.evaluate is leanspike.evaluation now", FutureWarning, stacklevel=2)
sys.modules[__name__].__class__ = _Old
