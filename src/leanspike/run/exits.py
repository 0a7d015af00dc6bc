"""The early exits of a run: which rules are used, how each is chosen and measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from leanspike.config import EvaluateSection, Recipe
from leanspike.errors import LeanspikeError
from leanspike.evaluation import (
    EarlyExit,
    Result,
    anytime,
    choose_confidence,
    choose_gamma,
    gamma_by_step,
    measure_exit,
)
from leanspike.execute import SpikingNetwork
from leanspike.recipes import validate

Batches = Iterable[tuple[Tensor, Tensor]]


def with_exits(
    recipe: Recipe,
    early_exit: Sequence[str] = (),
    max_drop_points: float | None = None,
    metrics: Sequence[str] = (),
) -> EvaluateSection:
    """Return the recipe's evaluation with other exit rules ("none": no rule) or another drop.

    Arguments that are not given keep the recipe's values. ``metrics`` are added to the recipe's.

    Raises:
        LeanspikeError: for values that a recipe may not have, either.

    >>> from leanspike.recipes import load_recipe
    >>> with_exits(load_recipe("digits"), ["margin"]).max_drop_points
    0.2
    >>> with_exits(load_recipe("digits"), ["gamma"])
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: recipe digits: early exit by gamma goes by the scales of ...
    """
    data = recipe.model_dump(mode="json")
    if early_exit:
        data["evaluate"]["early_exit"] = [rule for rule in early_exit if rule != "none"]
    if max_drop_points is not None:
        data["evaluate"]["max_drop_points"] = max_drop_points
        if not data["evaluate"]["early_exit"]:
            raise LeanspikeError(
                f"max_drop_points is {max_drop_points:g}, but there is no early exit; name a rule, "
                "as --early-exit margin"
            )
    for name in metrics:
        data["evaluate"]["metrics"].setdefault(name, {})
    return validate(data, recipe.name).evaluate


def measure_exits(
    snn: SpikingNetwork, section: EvaluateSection, held_out: Batches, test: Batches, full: Result
) -> tuple[EarlyExit, ...]:
    """Choose each rule on answers to held-out images, and measure it on the test set."""
    answers_TNK, labels = anytime(snn, held_out)
    max_drop = section.max_drop_points / 100
    exits = []
    for by in section.early_exit:
        if by == "gamma":
            choice = choose_gamma(gamma_by_step(snn), answers_TNK, labels, max_drop)
        else:
            choice = choose_confidence(answers_TNK, labels, by, max_drop)
        exits.append(measure_exit(snn, choice, test, full))
    return tuple(exits)
