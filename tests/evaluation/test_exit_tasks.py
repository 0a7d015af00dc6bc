"""Early exit of one logit and of several labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation import (
    Confident,
    anytime,
    choose_confidence,
    choose_gamma,
    confidence,
    exit_early,
    measure_exit,
)

X = torch.rand(60, 6, generator=torch.Generator().manual_seed(2)) - 0.5
YES = (X.sum(1) > 0).long()
SEVERAL = torch.stack([X[:, i] + X[:, 3 + i] > 0 for i in range(3)], 1).float()


def make(outputs: int, squeeze: bool = False) -> tuple[nn.Module, ls.SpikingNetwork]:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, outputs)]
    ann = nn.Sequential(*layers, *([nn.Flatten(0)] if squeeze else []))
    snn = ls.spike(nn.Sequential(*layers).eval(), example_input=X[:1], timesteps=5)
    ls.calibrate(snn, X)
    return ann, snn


class Squeezed(nn.Module):
    """One logit as [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make(1)[0]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x).squeeze(1)
        return y


def test_the_confidence_of_a_logit_is_that_of_its_two_classes() -> None:
    z = torch.linspace(-3, 3, 7)[:, None]
    two = torch.cat([torch.zeros_like(z), z], 1)
    for measure in ("margin", "entropy"):
        assert torch.allclose(confidence(z, measure), confidence(two, measure))
    p = z.sigmoid()
    assert torch.allclose(confidence(z), (2 * p - 1).abs()[:, 0])
    rows = torch.tensor([[9.0, 0.5, -9.0], [-9.0, -9.0, 9.0]])
    assert torch.allclose(confidence(rows, task="multilabel"), confidence(rows[..., None]).amin(1))


@pytest.mark.parametrize("kind", ["binary", "squeezed", "multilabel"])
def test_samples_leave_with_the_answer_they_had_and_it_is_measured(kind: str) -> None:
    labels = SEVERAL if kind == "multilabel" else YES
    if kind == "squeezed":
        snn = ls.spike(Squeezed().eval(), example_input=X[:1], timesteps=5)
        ls.calibrate(snn, X)
    else:
        snn = make(3 if kind == "multilabel" else 1)[1]
    y_TN, seen = anytime(snn, (X, labels))
    choice = choose_confidence(y_TN, seen, max_drop=0.2)
    assert isinstance(choice.rule, Confident)
    assert choice.rule.task == ("multilabel" if kind == "multilabel" else None)
    exits = exit_early(snn.eval(), X, choice.rule)
    for i, steps in enumerate(exits.steps.tolist()):
        assert torch.allclose(exits.logits[i], y_TN[steps - 1, i], atol=1e-5)
    full = ls.evaluate(snn, (X, labels))
    early = measure_exit(snn, choice, [(X, labels)], full)
    said = exits.logits.reshape(labels.shape) > 0
    assert early.accuracy == pytest.approx((said == labels).double().mean().item())
    assert early.mean_steps == pytest.approx(choice.mean_steps)
    assert [row.name for row in early.classes] == ([] if kind == "multilabel" else ["0", "1"])
    gammas = {"norm": (1.0, 0.9, 0.8, 0.7, 0.6)}
    assert choose_gamma(gammas, y_TN, seen, max_drop=0.9).mean_steps == 1


def test_samples_of_many_answers_do_not_leave() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    x = torch.rand(4, 1, 3, 3)
    snn = ls.spike(net, example_input=x[:1], timesteps=2)
    with pytest.raises(
        LeanspikeError, match=r"outputs .* answer for each pixel, and a sample leave"
    ):
        anytime(snn, (x, torch.zeros(4, 3, 3).long()))
    with pytest.raises(LeanspikeError, match=r"are no labels of outputs \[60, 1\]"):
        anytime(make(1)[1], (X, torch.rand(60)))
    full = ls.evaluate(make(1)[1], X)
    choice = choose_confidence(torch.zeros(5, 60, 1), YES, max_drop=0.9)
    with pytest.raises(LeanspikeError, match="no accuracy; evaluate with labels"):
        measure_exit(make(1)[1], choice, [(X, YES)], full)
