"""The evaluation in a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from leanspike.config.section import Section
from leanspike.errors import LeanspikeError
from leanspike.metrics import metrics
from leanspike.section import Count
from leanspike.train.terms import terms_by_name


class EvaluateSection(Section):
    """The evaluation on the whole test set."""

    batch_size: Count = 250
    """Images computed at once; it changes no number but by rounding."""
    readout: Literal["sum", "mean"] = "sum"
    """Outputs so far are summed or averaged: the same answer, but not equally sure."""
    early_exit: tuple[Literal["gamma", "margin", "entropy"], ...] = ()
    """Rules by which images leave early, to be measured; gamma needs `spike.norm=bntt`."""
    max_drop_points: Annotated[float, Field(ge=0, lt=100)] = 0.2
    """Percentage points that leaving early may lose on the held-out images."""
    metrics: dict[str, dict[str, Any]] = Field({}, examples=list(metrics.registered))
    """What else is measured after each step, by name, with its options; a list of names will do."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        named = terms_by_name(value) if isinstance(value, list) else value
        if not isinstance(named, dict):
            return named
        return {name: {} if options is None else options for name, options in named.items()}

    @field_validator("metrics")
    @classmethod
    def _fit(cls, chosen: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in chosen.items():
            try:
                metrics.options(name, options)
            except LeanspikeError as error:
                raise ValueError(str(error)) from None
        return chosen
