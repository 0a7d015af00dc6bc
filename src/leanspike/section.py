"""Options as typed data: frozen, and closed to what they do not know."""

from __future__ import annotations

from functools import cache
from inspect import Parameter, signature
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every part of a recipe, and of the options of whatever a registry holds.

    >>> class Pool(Section):
    ...     size: Count = 2
    >>> Pool(size=3).size
    3
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", strict=True)


@cache
def section_of(kind: type) -> type[Section]:
    """The options of a class by its constructor: each argument that has a default, with its type.

    >>> class Pool:
    ...     def __init__(self, channels: int, size: int = 2) -> None: ...
    >>> section_of(Pool)(size=3)
    Pool(size=3)
    """
    hints = get_type_hints(kind.__init__)  # type: ignore[misc]
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in signature(kind).parameters.items()
        if parameter.default is not Parameter.empty
    }
    return create_model(kind.__name__, __base__=Section, **fields)
