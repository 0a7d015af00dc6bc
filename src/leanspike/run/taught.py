"""Whether a recipe's stages ask a teacher, and whether there is one."""

from __future__ import annotations

from leanspike.config import Recipe, TrainSection
from leanspike.errors import LeanspikeError
from leanspike.run.build import find_weights


def is_taught(*stages: TrainSection | None) -> bool:
    """Return whether an objective of these stages asks a teacher.

    >>> is_taught(None, TrainSection(epochs=1))
    False
    """
    return any(stage is not None and stage.objective.is_taught for stage in stages)


def check_teacher(recipe: Recipe) -> None:
    """That the weights of the recipe's teacher are there, and that no objective lacks a teacher.

    Raises:
        LeanspikeError: if not.
    """
    if recipe.teacher is not None:
        find_weights(recipe.teacher.model)
        return
    has_ann = recipe.ann is not None or recipe.model.weights is not None
    if is_taught(recipe.ann, *(() if has_ann else recipe.snn)):
        raise LeanspikeError(
            "response and feature need a teacher; train an ANN, give model.weights, or name one in "
            "the recipe's teacher"
        )
