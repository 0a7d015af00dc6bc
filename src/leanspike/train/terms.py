"""What a stage of training minimises, as a section of a recipe: terms by name, with their options.

The keys are the objectives that have registered. An objective of another package becomes a key
where a recipe names it.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidatorFunctionWrapHandler, create_model, model_validator
from pydantic_core import to_json

from leanspike.errors import LeanspikeError
from leanspike.registry import values_of
from leanspike.section import Section
from leanspike.train.objective import objective_kind, objectives


class Terms(Section):
    """What a stage minimises: the sum of the terms named, each times its weight.

    A list will do as well: ``[cross_entropy, {response: {temperature: 2, weight: 0.5}}]``, each
    term once; one without settings, or with null, has its defaults. In a mapping those are ``{}``,
    and null leaves the term out, as in the ``recipe.yaml`` of a run.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _with_those_of_others(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Read terms of other packages by a class that has them as fields."""
        named = terms_by_name(value) if isinstance(value, list) else value
        if isinstance(named, dict):
            unknown = (name for name in named if name not in cls.model_fields)
            offered = tuple(name for name in unknown if name in objectives)
            if offered:
                return _with_terms(cls, offered).model_validate_json(to_json(named))
        return handler(named)

    @model_validator(mode="after")
    def _not_empty(self) -> Terms:
        if not self.terms:
            raise ValueError(f"name at least one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def terms(self) -> dict[str, Section]:
        """The options of each term that is named."""
        return {name: term for name, term in values_of(self).items() if term is not None}

    @property
    def is_taught(self) -> bool:
        """Whether one of the terms asks a teacher."""
        return any(objective_kind(name).taught for name in self.terms)

    @property
    def between_steps(self) -> tuple[str, ...]:
        """The terms that compare the steps of an SNN."""
        return tuple(name for name in self.terms if objective_kind(name).between_steps)


@cache
def _with_terms(base: type[Terms], names: tuple[str, ...]) -> type[Terms]:
    """Return such a section in which these terms are keys."""
    fields: dict[str, Any] = {}
    for name in names:
        try:
            config = objectives.config(name)
        except LeanspikeError as error:
            raise ValueError(str(error)) from None
        meaning = Field(None, description=inspect.getdoc(config))
        fields[name] = (config | None, meaning)
    return create_model("ObjectiveSection", __base__=base, __doc__=base.__doc__, **fields)


if TYPE_CHECKING:
    ObjectiveSection = Terms
else:
    ObjectiveSection = _with_terms(Terms, tuple(objectives.registered))


def terms_by_name(terms: list[Any]) -> dict[str, Any]:
    """Return a list of terms as the mapping that it stands for; ValueError where a name is twice.

    >>> terms_by_name(["cross_entropy", {"response": {"weight": 0.3}}])
    {'cross_entropy': {}, 'response': {'weight': 0.3}}
    """
    named: dict[str, Any] = {}
    for term in terms:
        for name, settings in (term if isinstance(term, dict) else {str(term): None}).items():
            if name in named:
                raise ValueError(f"name {name} once, with all its settings")
            named[name] = {} if settings is None else settings
    return named
