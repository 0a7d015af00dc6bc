"""Whether a recipe's stages need a teacher, and whether there is one."""

from __future__ import annotations

from leanspike.config import Recipe, TrainSection
from leanspike.errors import LeanspikeError
from leanspike.run.build import find_weights


def is_taught(*stages: TrainSection | None) -> bool:
    """Return whether an objective of these stages needs a teacher.

    >>> is_taught(None, TrainSection(epochs=1))
    False
    """
    return any(stage is not None and stage.objective.is_taught for stage in stages)


def check_teacher(recipe: Recipe) -> None:
    """Check that the teacher's weights are there, and that no objective lacks a teacher.

    Raises:
        LeanspikeError: if either is not so.
    """
    if recipe.teacher is not None:
        find_weights(recipe.teacher.model)
        return
    has_ann = recipe.ann is not None or recipe.model.weights is not None
    if is_taught(recipe.ann, *(() if has_ann else recipe.snn)):
        raise LeanspikeError(
            "the objectives response and feature need a teacher; train an ANN, give model.weights, "
            "or name a network in the recipe's teacher"
        )
