"""Options as typed data: frozen, and closed to what they do not know."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import Parameter, getdoc, isfunction, signature
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every part of a recipe, and of the options of whatever a registry holds.

    What stands below a field is its meaning.

    >>> class Pool(Section):
    ...     size: Count = 2
    >>> Pool(size=3).size
    3
    """

    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
    )


class _Plain(Section):
    """A section of arguments, which have no meanings below them; looking would take a second."""

    model_config = ConfigDict(use_attribute_docstrings=False)


@cache
def section_of(kind: Callable[..., Any]) -> type[Section]:
    """Return the options of a class or function: each argument with a default, and its type.

    A range and a meaning may stand beside the type, as ``Annotated[int, Field(ge=1)]``. The first
    paragraph of the docstring says what the section is.

    >>> class Pool:
    ...     def __init__(self, channels: int, size: Annotated[int, Field(ge=1)] = 2) -> None: ...
    >>> section_of(Pool)(size=3)
    Pool(size=3)
    >>> section_of(Pool)(size=0)
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: ... greater than or equal to 1 ...
    """
    hints = get_type_hints(_signed(kind), include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in signature(kind).parameters.items()
        if parameter.default is not Parameter.empty
    }
    name = getattr(kind, "__name__", type(kind).__name__)
    meaning = (getdoc(kind) or "").partition("\n\n")[0]
    return create_model(name, __base__=_Plain, __doc__=meaning, **fields)


def _signed(kind: Callable[..., Any]) -> Any:
    """Return what has the types of the arguments: a constructor, a function, or a call."""
    if isinstance(kind, type):
        return kind.__init__  # type: ignore[misc]
    return kind if isfunction(kind) else type(kind).__call__
