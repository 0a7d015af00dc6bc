"""Self-distillation, against NumPy in float64: who learns from whom, how much, and what moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike.config import TrainSection
from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run.build import build_objective
from leanspike.train import CrossEntropy, SelfDistillation, Teacher, Weighted
from leanspike.train.self_distillation import Learner

T, N, K = 4, 6, 3
X = torch.zeros(N, 2)
LABELS = {
    "multiclass": torch.arange(N) % K,
    "pixels": torch.zeros(N, 5, dtype=torch.long),
    "binary": torch.arange(N) % 2,
    "multilabel": torch.ones(N, K),
}
SHAPES = {
    "multiclass": (T, N, K),
    "pixels": (T, N, K, 5),
    "binary": (T, N, 1),
    "multilabel": (T, N, K),
}
# By which axis, in NumPy, the classes of an answer lie; None: one output is no (0) or yes.
AXES = {"multiclass": -1, "pixels": 2, "binary": None, "multilabel": None}


def outputs(kind: str, seed: int = 0) -> Tensor:
    """Whose second step is the surest and whose third the least sure."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 3.0, 0.2, 1.5], dtype=torch.float64)
    y_TN = torch.randn(SHAPES[kind], dtype=torch.float64, generator=generator)
    return y_TN * scale.view(T, *[1] * (y_TN.dim() - 1))


def softmax(logits: Any, axis: int) -> Any:
    powers = np.exp(logits)
    return powers / powers.sum(axis, keepdims=True)


def by_hand(y_TN: Any, kind: str, taught: int, learns: int, temperature: float) -> tuple[Any, Any]:
    """The divergence from its definition, and its gradient at the step that learns."""
    axis = AXES[kind]
    teacher, student = y_TN[taught] / temperature, y_TN[learns] / temperature
    if axis is None:  # Bernoulli
        p, q = 1 / (1 + np.exp(-teacher)), 1 / (1 + np.exp(-student))
        each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    else:
        axis -= axis > 0  # without the axis of the steps
        p, q = softmax(teacher, axis), softmax(student, axis)
        each = (p * np.log(p / q)).sum(axis)
    gradient = temperature * (q - p) / each.size
    return temperature**2 * each.mean(), gradient


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("learner", ["least_sure", "surest"])
def test_one_step_learns_from_another(kind: str, temperature: float, learner: Learner) -> None:
    y_TN = outputs(kind).requires_grad_()
    taught, learns = (1, 2) if learner == "least_sure" else (2, 1)
    expected, gradient = by_hand(y_TN.detach().numpy(), kind, taught, learns, temperature)
    loss = SelfDistillation(temperature, learner)(y_TN, LABELS[kind], X)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert expected > 0.01
    assert y_TN.grad is not None
    np.testing.assert_allclose(y_TN.grad[learns].numpy(), gradient, rtol=1e-9, atol=1e-15)
    others = [t for t in range(T) if t != learns]
    assert y_TN.grad[others].abs().max() == 0  # of the step that teaches, too


def test_the_gradient_is_that_of_finite_differences_with_the_teacher_held() -> None:
    y_TNK, eps = outputs("multiclass"), 1e-6
    wanted = y_TNK.clone().requires_grad_()
    objective = SelfDistillation()
    objective(wanted, LABELS["multiclass"], X).backward()  # type: ignore[no-untyped-call]
    assert wanted.grad is not None
    for n, k in ((0, 0), (3, 2)):
        values = []
        for sign in (1, -1):
            moved = y_TNK.clone()
            moved[2, n, k] += sign * eps
            values.append(objective(moved, LABELS["multiclass"], X).item())
        slope = (values[0] - values[1]) / (2 * eps)
        assert wanted.grad[2, n, k].item() == pytest.approx(slope, rel=1e-6)


def test_the_steps_are_those_of_a_batch_not_of_each_sample() -> None:
    """Of the two samples one is surest at the first step, the other, by more, at the second."""
    y_TNK = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[1.9, 0.0], [5.0, 0.0]]]).double()
    y_TNK.requires_grad_()
    SelfDistillation()(y_TNK, torch.tensor([0, 1]), X).backward()  # type: ignore[no-untyped-call]
    assert y_TNK.grad is not None
    assert y_TNK.grad[1].abs().max() == 0  # the second step taught both
    assert y_TNK.grad[0].abs().amin() > 0  # the first one learned both
    probabilities = y_TNK.detach().softmax(-1).amax(-1)
    assert probabilities[0, 0] > probabilities[1, 0]  # though there it was the surer one


def test_equal_steps_teach_each_other_nothing() -> None:
    y_TNK = outputs("multiclass")[:1].expand(T, N, K).clone().requires_grad_()
    loss = SelfDistillation()(y_TNK, LABELS["multiclass"], X)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(0.0, abs=1e-15)
    assert y_TNK.grad is not None
    assert y_TNK.grad.abs().max() < 1e-15


def test_it_is_computed_in_float32_of_narrower_outputs() -> None:
    y_TNK = outputs("multiclass").bfloat16()
    loss = SelfDistillation()(y_TNK, LABELS["multiclass"], X)
    wide = SelfDistillation()(y_TNK.float(), LABELS["multiclass"], X)
    assert loss.dtype == torch.float32
    assert loss.item() == wide.item()


def test_it_makes_no_sense_otherwise() -> None:
    for y_TNK in (torch.zeros(1, N, K), nn.Linear(2, K)(X)[None]):  # an ANN's are of one step
        with pytest.raises(LeanspikeError, match=r"is between steps, and the outputs are of 1; g"):
            SelfDistillation()(y_TNK, LABELS["multiclass"], X)
    with pytest.raises(LeanspikeError, match=r"learner is 'last'; choose one of least_sure, sur"):
        SelfDistillation(learner="last")  # type: ignore[arg-type]
    with pytest.raises(LeanspikeError, match=r"temperature is -1\.0; give a number above 0"):
        SelfDistillation(-1.0)


def test_the_first_step_comes_nearer_to_the_last() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 4)
    labels = (x[:, 0] > x[:, 1]).long()
    ann = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    neuron = ls.LIF(threshold=1.0, initial="zero")  # the first step is the weak one

    def trained(*terms: tuple[float, Any]) -> Tensor:
        torch.manual_seed(0)
        snn = ls.spike(ann, example_input=x[:1], timesteps=4, neuron=neuron)
        optimizer = torch.optim.Adam(snn.parameters(), lr=0.05)
        objective = Weighted(terms)
        for _ in range(25):
            optimizer.zero_grad()
            objective(snn(x), labels, x).backward()
            optimizer.step()
        with torch.no_grad():
            y_TNK = snn(x).softmax(-1)
        return (y_TNK[0] - y_TNK[-1]).abs().mean()

    alone = trained((1.0, CrossEntropy("mean")))
    both = trained((1.0, CrossEntropy("mean")), (1.0, SelfDistillation()))
    assert both < 0.8 * alone


# In a recipe.


def test_a_recipe_names_it_beside_every_other_term() -> None:
    terms = "[cross_entropy, tet, response, self_distillation]"
    other = {"weight": 0.5, "temperature": 3, "learner": "surest"}
    section = load_recipe("digits", [f"snn.0.objective={terms}"]).snn[0]
    changed = load_recipe("digits", [f"snn.0.objective=[tet, {{self_distillation: {other}}}]"])
    y_TNK, labels = outputs("multiclass").float(), LABELS["multiclass"]

    def built(section: TrainSection) -> Weighted:
        objective = build_objective(section, nn.Identity(), lambda: Teacher(nn.Linear(2, K)), X)
        assert isinstance(objective, Weighted)
        return objective

    objective = built(section)
    assert objective.weights == (1.0, 1.0, 0.5, 1.0)
    parts = [term(y_TNK, labels, X) for term in objective.objectives]
    torch.testing.assert_close(parts[3], SelfDistillation()(y_TNK, labels, X))
    total = sum(w * part for w, part in zip(objective.weights, parts, strict=True))
    torch.testing.assert_close(objective(y_TNK, labels, X), total)
    objective = built(changed.snn[0])
    assert objective.weights == (1.0, 0.5)
    wanted = SelfDistillation(3.0, "surest")(y_TNK, labels, X)
    torch.testing.assert_close(objective.objectives[1](y_TNK, labels, X), wanted)


TERMS = "objective=[cross_entropy, self_distillation]"


def test_where_there_is_one_step_a_recipe_is_refused_by_its_key() -> None:
    with pytest.raises(LeanspikeError, match=r"ann\.objective\.self_distillation .* leave it out$"):
        load_recipe("digits", [f"ann.{TERMS}"])
    for changes in (["spike.timesteps=1"], ["snn.0.timesteps=1"]):
        with pytest.raises(
            LeanspikeError,
            match=r"snn\.0\.objective\.self_distillation is between steps, and the stage has 1; "
            r"set snn\.0\.timesteps to 2 or more, or leave it out$",
        ):
            load_recipe("digits", [f"snn.0.{TERMS}", *changes])
        load_recipe("digits", [f"snn.0.{TERMS}", *changes, "snn.0.timesteps=2"])  # the advice


def test_with_rate_gradients_it_is_refused_by_its_key_and_the_advice_works() -> None:
    """They move all steps alike, so the step that learns would take the surest along."""
    changes = [f"snn.0.{TERMS}", "snn.0.gradient=rate"]
    says = (
        r"snn\.0\.objective\.self_distillation draws steps to each other, and rate gradients move "
    )
    with pytest.raises(LeanspikeError, match=says + r".*; set snn\.0\.gradient=bptt, or leave it"):
        load_recipe("digits", changes)
    load_recipe("digits", [changes[0], "snn.0.gradient=bptt"])
    load_recipe("digits", changes[1:])
