"""Objectives, against NumPy and by what they must not touch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.train import CrossEntropy, Response, Weighted

LABELS = torch.tensor([0, 1, 2, 3, 0])
NO_INPUT = torch.zeros(5, 3, dtype=torch.float64)
READOUTS: tuple[Literal["sum", "mean"], ...] = ("sum", "mean")


def outputs() -> torch.Tensor:
    """Three steps, five samples, four classes."""
    return torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("readout", READOUTS)
def test_label_smoothing_and_readout_of_cross_entropy(readout: Literal["sum", "mean"]) -> None:
    y_TNK = outputs()
    log_p = np.log(softmax((y_TNK.sum(0) if readout == "sum" else y_TNK.mean(0)).numpy()))
    expected = -0.9 * log_p[range(5), LABELS].mean() - 0.1 * log_p.mean()
    loss = CrossEntropy(readout, label_smoothing=0.1)(y_TNK, LABELS, NO_INPUT)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_response_is_the_divergence_of_soft_answers(
    readout: Literal["sum", "mean"], temperature: float
) -> None:
    y_TNK, teacher = outputs(), nn.Linear(3, 4).double()
    x = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    student = (y_TNK.sum(0) if readout == "sum" else y_TNK.mean(0)).numpy()
    p = softmax(teacher(x).detach().numpy() / temperature)
    q = softmax(student / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    loss = Response(teacher, temperature, readout)(y_TNK, LABELS, x)
    assert loss.item() == pytest.approx(expected, rel=1e-5)  # the teacher's answer is float32


def test_the_teacher_is_asked_in_eval_mode_without_gradient() -> None:
    teacher = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).double().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    y_TNK = outputs().requires_grad_()
    Response(teacher)(y_TNK, LABELS, NO_INPUT).backward()  # type: ignore[no-untyped-call]
    assert y_TNK.grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_weights_add_up() -> None:
    y_TNK = outputs()
    hard, soft = CrossEntropy(), Response(nn.Linear(3, 4).double())
    parts = [objective(y_TNK, LABELS, NO_INPUT) for objective in (hard, soft)]
    loss = Weighted(((0.3, hard), (0.7, soft)))(y_TNK, LABELS, NO_INPUT)
    torch.testing.assert_close(loss, 0.3 * parts[0] + 0.7 * parts[1])


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(LeanspikeError, match=r"answers \(5, 7\), the student \(5, 4\)"):
        Response(nn.Linear(3, 7).double())(outputs(), LABELS, NO_INPUT)
    with pytest.raises(LeanspikeError, match=r"temperature is 0\.0; give a number above 0"):
        Response(nn.Identity(), temperature=0.0)
