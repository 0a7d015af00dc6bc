"""Who teaches, settled before anything is trained."""

from __future__ import annotations

import pytest

from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run.taught import check_teacher


@pytest.mark.parametrize(
    "changes",
    [
        ["ann=null", "snn.0.objective=[response]"],
        ["ann=null", "snn.0.objective=[cross_entropy, feature]"],
        ["ann.objective=[response]"],  # the ANN is not there to teach itself
    ],
)
def test_an_objective_without_its_teacher_is_refused(changes: list[str]) -> None:
    with pytest.raises(LeanspikeError, match="response and feature need a teacher; train an ANN"):
        check_teacher(load_recipe("digits", changes))


@pytest.mark.parametrize(
    "changes",
    [
        ["snn.0.objective=[response]"],  # the recipe's own ANN
        ["ann=null", "model.weights=a.th", "snn.0.objective=[feature]"],
        ["ann=null", "snn.0.objective=[tet, spike_rate]"],
    ],
)
def test_one_that_has_it_is_taken(changes: list[str]) -> None:
    check_teacher(load_recipe("digits", changes))


def test_a_teacher_without_its_weights_is_refused() -> None:
    teacher = "teacher={model: {name: vgg6, weights: nowhere.th}}"
    with pytest.raises(LeanspikeError, match=r"nowhere\.th"):
        check_teacher(load_recipe("digits", [teacher, "snn.0.objective=[response]"]))
