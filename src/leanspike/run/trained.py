"""Whether the network that a recipe measures was trained, here or before."""

from __future__ import annotations

from leanspike.config import Recipe
from leanspike.errors import LeanspikeError


def untrained(recipe: Recipe) -> str | None:
    """Return the reason why the recipe's SNN has random weights, or None if it has not.

    >>> from leanspike.recipes import load_recipe
    >>> untrained(load_recipe("digits", ["ann=null", "snn=[]"]))
    'no ann to train, no model.weights, no stage of snn'
    >>> untrained(load_recipe("digits", ["snn=[]"]))
    """
    if any(stage.epochs for stage in recipe.snn):
        return None
    stages = "no stage of snn" + (" with epochs" if recipe.snn else "")
    if recipe.spike.start == "scratch":
        return f"spike.start is scratch, {stages}"
    if recipe.ann is not None and recipe.ann.epochs:
        return None
    if recipe.model.weights is not None:
        answer = f"the answer layer is new (model.new_answer), ann is not trained, {stages}"
        return answer if recipe.model.new_answer else None
    ann = "no ann to train" if recipe.ann is None else "ann.epochs is 0"
    return f"{ann}, no model.weights, {stages}"


def check_trained(recipe: Recipe, command: str) -> None:
    """Raise LeanspikeError if the recipe's SNN is untrained, with ways out for ``command``.

    >>> from leanspike.recipes import load_recipe
    >>> check_trained(load_recipe("digits", ["ann=null", "snn=[]"]), "train")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: nothing is trained (...); ... or --untrained to measure it so
    """
    why = untrained(recipe)
    if why is None:
        return
    way = "give --ann FOLDER or model.weights=FILE of a trained ANN"
    if recipe.spike.start == "scratch":
        way = "set spike.start=ann with a trained ANN"
        if command == "train":
            way += ", or epochs for a stage of snn"
    raise LeanspikeError(f"nothing is trained ({why}); {way}, or --untrained to measure it so")
