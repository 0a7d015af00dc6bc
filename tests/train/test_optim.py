"""Learning rates against torch's own schedulers, and momentum against its plain form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.neuron import LIF
from leanspike.recipes import load_recipe
from leanspike.train import ScheduleSection, create_optimizer, create_schedule
from leanspike.train.optim import set_learning_rate

EPOCH_STEPS = 3


def rates_of(scheduler: torch.optim.lr_scheduler.LRScheduler, epochs: int) -> list[float]:
    """The rate in each epoch of a scheduler that steps once after it."""
    rates = []
    for _ in range(epochs):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def sgd(learning_rate: float) -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=learning_rate)


@pytest.mark.parametrize(("period", "learning_rate"), [(64, 1e-3), (128, 1e-4), (1, 0.1)])
def test_a_cosine_with_a_period_is_torchs_epoch_by_epoch(period, learning_rate):
    epochs = 299
    theirs = rates_of(
        torch.optim.lr_scheduler.CosineAnnealingLR(sgd(learning_rate), T_max=period), epochs
    )
    steps = epochs * EPOCH_STEPS
    factor = create_schedule(
        "cosine", steps, epoch_steps=EPOCH_STEPS, options={"period_epochs": period}
    )
    ours = [learning_rate * factor(step) for step in range(steps)]
    for within in range(EPOCH_STEPS):
        assert ours[within::EPOCH_STEPS] == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    assert theirs[period] == 0  # the rate is 0 for one epoch ...
    assert theirs[2 * period] == pytest.approx(learning_rate)  # ... and back at the top after it


def test_milestones_are_torchs_epoch_by_epoch():
    theirs = rates_of(torch.optim.lr_scheduler.MultiStepLR(sgd(0.3), [51, 71, 91]), 100)
    steps = 100 * EPOCH_STEPS
    falls = {"milestones": (51, 71, 91)}
    factor = create_schedule("step", steps, epoch_steps=EPOCH_STEPS, options=falls)
    assert [0.3 * factor(step) for step in range(0, steps, EPOCH_STEPS)] == pytest.approx(theirs)
    assert [0.3 * factor(step) for step in range(2, steps, EPOCH_STEPS)] == pytest.approx(theirs)


def test_without_milestones_the_rate_falls_at_shares_of_the_steps():
    factor = create_schedule("step", 100)
    falls = [step for step in range(1, 100) if factor(step) < factor(step - 1)]
    assert falls == [50, 70, 90]


def test_a_warm_up_comes_before_either():
    warm = {"warmup": 0.25, "epoch_steps": 2}
    for kind, more in (("cosine", {"period_epochs": 4}), ("step", {"milestones": (2,)})):
        plain = create_schedule(kind, 16, epoch_steps=2, options=more)
        warmed = create_schedule(kind, 16, **warm, options=more)
        assert [warmed(step) for step in range(4)] == [0.25, 0.5, 0.75, 1]
        assert [warmed(step) for step in range(4, 16)] == [plain(step) for step in range(4, 16)]


def test_a_triangle_is_three_points_and_the_lines_between():
    corners = {"start": 0.3, "peak": 0.25, "end": 0.1}
    factor = create_schedule("triangular", 200, options=corners)
    found = [factor(step) for step in range(200)]
    assert found == pytest.approx(np.interp(range(200), [0, 50, 200], [0.3, 1, 0.1]), rel=1e-12)
    falling = create_schedule("triangular", 10, options={"peak": 0.0, "end": 0.0})
    linear = create_schedule("linear", 10)
    assert [falling(step) for step in range(10)] == pytest.approx([linear(n) for n in range(10)])
    with pytest.raises(LeanspikeError, match="peak is 1: Input should be less than 1"):
        create_schedule("triangular", 10, options={"peak": 1})
    rising = {"name": "triangular", "start": 0, "peak": 0.5, "end": 1}
    assert ScheduleSection.model_validate(rising).options == {"start": 0, "peak": 0.5, "end": 1}


def test_a_triangle_after_a_warm_up_is_refused_and_the_advice_works():
    says = "warmup is 0.2, and this schedule rises by itself; set warmup to 0$"
    with pytest.raises(LeanspikeError, match=says):
        create_schedule("triangular", 10, warmup=0.2)
    assert create_schedule("triangular", 10, warmup=0)(0) == 0.2
    changes = ["ann.schedule=triangular", "ann.warmup=0.2"]
    with pytest.raises(LeanspikeError, match="recipe digits: ann .*" + says):
        load_recipe("digits", changes)
    recipe = load_recipe("digits", [*changes, "ann.warmup=0"])
    assert recipe.ann.schedule.options == {"start": 0.2, "peak": 0.23, "end": 0.07}


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("step", {"period_epochs": 64}, "step has no option 'period_epochs'; valid are milestones"),
        ("cosine", {"milestones": (2, 3)}, "no option 'milestones'; valid are period_epochs$"),
        ("linear", {"milestones": (2, 3)}, "linear has no option 'milestones'; it has none$"),
        ("step", {"milestones": (0,)}, "milestones.0 is 0: Input should be greater than or equal"),
    ],
)
def test_what_the_schedule_does_not_know_is_refused(kind, more, message):
    with pytest.raises(LeanspikeError, match=message):
        create_schedule(kind, 10, options=more)
    assert create_schedule(kind, 10)(0) == 1


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_with_and_without_nesterov_is_torchs(nesterov):
    twins = [nn.Linear(3, 2, bias=False) for _ in range(2)]
    twins[1].load_state_dict(twins[0].state_dict())
    options = {"nesterov": nesterov}
    ours = create_optimizer(twins[0], learning_rate=0.3, weight_decay=1e-4, options=options)
    theirs = torch.optim.SGD(
        twins[1].parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4, nesterov=nesterov
    )
    for seed in range(4):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        for twin, optimizer in zip(twins, (ours, theirs), strict=True):
            optimizer.zero_grad()
            twin(x).square().sum().backward()
            optimizer.step()
    assert torch.equal(twins[0].weight, twins[1].weight)


def test_without_momentum_nesterov_is_not_asked_for():
    optimizer = create_optimizer(nn.Linear(2, 2), learning_rate=0.1, options={"momentum": 0.0})
    assert optimizer.param_groups[0]["nesterov"] is False
    assert set_learning_rate(optimizer, 0.5) == 0.05


def test_biases_and_norms_may_have_a_rate_of_their_own():
    def rates(**how):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), LIF(1.0, 0.9, learn=("leak",)))
        names = {id(value): name for name, value in net.named_parameters()}
        optimizer = create_optimizer(net, learning_rate=0.1, **how)
        return {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}

    same = dict.fromkeys(["0.weight", "0.bias", "1.weight", "1.bias", "2.leak"], 0.1)
    assert rates() == rates(bias_learning_rate=0.1) == same
    plain = {"0.bias": 6.4, "1.weight": 6.4, "1.bias": 6.4}
    assert rates(bias_learning_rate=6.4) == {**same, **plain}
    both = rates(bias_learning_rate=6.4, neuron_learning_rate=0.3)
    assert both == {**same, **plain, "2.leak": 0.3}
    decayed = rates(bias_learning_rate=6.4, decay_norms=True, weight_decay=0.1)
    assert decayed == {**same, **plain, "1.weight": 0.1}


def test_a_rate_of_its_own_follows_the_schedule():
    optimizer = create_optimizer(nn.Linear(2, 2), learning_rate=0.1, bias_learning_rate=6.4)
    assert set_learning_rate(optimizer, 0.5) == 0.05
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 3.2]
