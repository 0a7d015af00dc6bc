"""Early exit: the rules, their choice on validation data, and the run that really drops samples."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import leanspike as ls
from leanspike.evaluation import (
    After,
    Choice,
    Confident,
    OperationCounter,
    Prices,
    anytime,
    choose_confidence,
    choose_gamma,
    confidence,
    evaluate,
    exit_early,
    exit_measure,
    gamma_by_step,
    gamma_steps,
    measure_exit,
)
from leanspike.evaluation.exit_choice import exit_steps
from leanspike.surgery import readout


def network(encode="direct", timesteps=6, norm="keep"):
    torch.manual_seed(0)
    hidden = nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16)
    ann = nn.Sequential(*hidden, nn.ReLU(), nn.Linear(16, 4)).eval()
    example = torch.zeros(3, 1, 12) if encode == "frames" else torch.zeros(1, 12)
    snn = ls.spike(
        ann, example_input=example, encode=encode, timesteps=timesteps, norm=norm,
        neuron=ls.LIF(threshold=0.4, leak=0.9),
    )  # fmt: skip
    return snn.double().eval()


def samples(n=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (n,), generator=generator)


def test_confidence_against_numpy():
    logits = samples()[0]
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    best = np.sort(p, -1)
    margin = best[:, -1] - best[:, -2]
    entropy = 1 + (p * np.log(p)).sum(-1) / math.log(12)
    np.testing.assert_allclose(confidence(logits, "margin").numpy(), margin, atol=1e-6)
    np.testing.assert_allclose(confidence(logits, "entropy").numpy(), entropy, atol=1e-6)


@pytest.mark.parametrize("measure", ["margin", "entropy"])
def test_confidence_is_bounded_even_where_the_softmax_is(measure):
    logits = torch.tensor([[1000.0, 0.0], [0.0, 0.0], [-1000.0, 1000.0]])
    assert confidence(logits, measure).tolist() == pytest.approx([1.0, 0.0, 1.0])


def test_confidence_refuses_what_it_cannot_measure():
    with pytest.raises(ls.LeanspikeError, match="measure is 'margins'; choose one of margin"):
        confidence(torch.zeros(2, 2), "margins")
    with pytest.raises(ls.LeanspikeError, match=r"\[2, 3, 4, 4\] have no one confidence"):
        Confident()(torch.zeros(2, 3, 4, 4), steps=1)
    assert After(2)(torch.zeros(2, 3, 4, 4), steps=2).all()  # as it says


@pytest.mark.parametrize("encode", ["direct", "poisson", "frames"])
@pytest.mark.parametrize("rule", [Confident("margin", 0.08), Confident("entropy", 0.02), After(2)])
def test_samples_leave_with_the_answer_they_had(encode, rule):
    snn = network(encode)
    x, _ = samples()
    x = torch.stack([x * scale for scale in (1.0, 0.5, 2.0, 1.5)]) if encode == "frames" else x
    answers_TNK = readout(snn(x), "mean")
    leaves_TN = torch.stack([rule(y_NK, t + 1) for t, y_NK in enumerate(answers_TNK)])
    expected = exit_steps(leaves_TN)
    exits = exit_early(snn, x, rule)
    assert torch.equal(exits.steps, expected)
    assert 1 <= expected.min() <= expected.max()
    if isinstance(rule, Confident):
        assert expected.min() < expected.max()  # else the test tells nothing
    for sample, step in enumerate(expected.tolist()):
        torch.testing.assert_close(exits.logits[sample], answers_TNK[step - 1, sample])


def test_those_who_left_cost_nothing_more():
    snn = network()
    x, _ = samples()
    rule = Confident("margin", 0.08)
    sizes = []

    def observe(node, _values, value):
        if node.meta.get("neuron") and node.target == "5":
            sizes.append(value.shape[1])

    exits = exit_early(snn, x, rule, observer=observe)
    inside = [int((exits.steps > t).sum()) for t in range(int(exits.steps.max()))]
    assert sizes == inside
    assert sizes[-1] < sizes[0]


def test_nobody_waits_for_more_steps_than_asked_for():
    snn = network()
    x, _ = samples()
    never = Confident("margin", 2.0)
    assert exit_early(snn, x, never).steps.unique().tolist() == [6]
    assert exit_early(snn, x, never, timesteps=3).steps.unique().tolist() == [3]
    assert exit_early(snn, x, Confident("margin", 0.0)).steps.unique().tolist() == [1]
    with pytest.raises(ls.LeanspikeError, match="timesteps is 0; give 1 or more"):
        exit_early(snn, x, never, timesteps=0)
    with pytest.raises(ls.LeanspikeError, match="in training mode"):
        exit_early(snn.train(), x, never)


def test_the_gamma_rule_waits_for_the_last_layer_and_the_last_rise():
    gammas = {"a": (0.9, 0.2, 0.05, 0.02), "b": (0.8, 0.05, 0.3, 0.01)}
    assert gamma_steps(gammas, 0.1) == 3
    assert gamma_steps(gammas, 0.35) == 1
    assert gamma_steps(gammas, 0.005) == 4
    assert gamma_steps(gammas, 5.0) == 1
    with pytest.raises(ls.LeanspikeError, match="no BNTT layers"):
        gamma_steps({})


def test_the_gamma_rule_reads_what_was_trained_and_leaves_the_static_stem_out():
    snn = network(norm="bntt")
    with torch.no_grad():
        snn.get_submodule("4").weight.copy_(torch.linspace(1, 0, 6).unsqueeze(1).expand(6, 16))
    gammas = gamma_by_step(snn)
    assert list(gammas) == ["4"]
    assert gammas["4"] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])
    assert gamma_steps(gammas, 0.5) == 3


@given(st.integers(0, 50), st.sampled_from(["margin", "entropy"]), st.floats(0, 0.2))
@example(16, "margin", 0.0625)  # a threshold between two that are tried would be cheaper
@settings(max_examples=20)
def test_the_choice_is_the_cheapest_that_is_accurate_enough(seed, measure, max_drop):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (60,), generator=generator)
    noise = torch.randn(8, 60, 5, generator=generator).cumsum(0)
    signal = nn.functional.one_hot(labels, 5) * torch.arange(1, 9).view(-1, 1, 1)
    answers_TNK = noise + 0.5 * signal
    choice = choose_confidence(answers_TNK, labels, measure, max_drop)
    right_TN = answers_TNK.argmax(-1) == labels
    full = right_TN[-1].double().mean().item()

    sure = [confidence(step_NK, measure).tolist() for step_NK in answers_TNK]

    def outcome(threshold, latest=8):  # one sample after the other
        steps, right = [], []
        for n in range(60):
            t = next((t for t in range(latest) if sure[t][n] >= threshold), latest - 1)
            steps.append(t + 1)
            right.append(bool(right_TN[t, n]))
        return float(np.mean(steps)), float(np.mean(right))

    chosen = outcome(choice.threshold, choice.rule.latest or 8)
    assert chosen == pytest.approx((choice.mean_steps, choice.accuracy))
    assert (choice.mean_steps, choice.accuracy) in [point[1:] for point in choice.curve]
    assert choice.accuracy >= full - max_drop
    assert choice.full_accuracy == pytest.approx(full)
    thresholds = [threshold for threshold, *_ in choice.curve]
    for threshold, latest in product(thresholds[::10], (2, 5, 8)):
        steps, accuracy = outcome(threshold, latest)
        if accuracy >= full - max_drop:
            assert choice.mean_steps <= steps + 1e-9


def test_who_never_becomes_sure_does_not_stay_for_nothing():
    right, unsure = [0.0, 9.0], [0.0, 0.1]
    answers_TNK = torch.tensor([[right, unsure[::-1]], [right, unsure], [right, unsure]])
    choice = choose_confidence(answers_TNK, torch.tensor([1, 1]), max_drop=0.0)
    assert choice.rule.latest == 2
    assert (choice.mean_steps, choice.accuracy) == (1.5, 1.0)
    assert choice.rule(answers_TNK[0], 1).tolist() == [True, False]
    assert choice.rule(answers_TNK[1], 2).tolist() == [True, True]


def test_the_choice_may_be_that_nobody_leaves():
    answers_TNK = torch.tensor([[[5.0, 0.0]] * 4, [[0.0, 5.0]] * 4])  # sure, and wrong at first
    choice = choose_confidence(answers_TNK, torch.ones(4).long(), max_drop=0.0)
    assert choice.threshold == math.inf
    assert (choice.mean_steps, choice.accuracy) == (2.0, 1.0)


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_drop_out_of_range_is_refused(drop):
    with pytest.raises(ls.LeanspikeError, match=r"give a fraction, as 0\.002"):
        choose_confidence(torch.zeros(2, 1, 2), torch.zeros(1).long(), max_drop=drop)
    with pytest.raises(ls.LeanspikeError, match=r"give a fraction, as 0\.002"):
        choose_gamma({"a": (1.0, 1.0)}, torch.zeros(2, 1, 2), torch.zeros(1).long(), drop)


def test_the_gamma_threshold_is_chosen_among_the_steps_that_some_threshold_gives():
    right = torch.tensor([[0.0, 1.0]])
    answers_TNK = torch.stack([-right, right, right, right])
    gammas = {"a": (0.9, 0.1, 0.5, 0.2)}  # no threshold stops after 2: γ rises once more
    choice = choose_gamma(gammas, answers_TNK, torch.tensor([1]), max_drop=0.0)
    assert choice.rule == After(3)
    assert gamma_steps(gammas, choice.threshold) == 3
    steps = {int(point[1]) for point in choice.curve}
    assert steps == {1, 3, 4}


@pytest.mark.parametrize("encode", ["direct", "poisson"])
def test_what_is_measured_is_what_was_run(encode):
    snn = network(encode, norm="bntt")
    batches = [samples(24, seed) for seed in (1, 2)]
    full = evaluate(snn, batches, classes=("a", "b", "c", "d"))
    choice = choose_confidence(*anytime(snn, batches), "margin", 0.3)
    early = measure_exit(snn, choice, batches, full)
    exits = [exit_early(snn, x, choice.rule) for x, _ in batches]
    labels = torch.cat([labels for _, labels in batches])
    right = torch.cat([e.logits.argmax(-1) for e in exits]) == labels
    steps = torch.cat([e.steps for e in exits])
    assert early.n == 48
    assert early.accuracy == pytest.approx(right.double().mean().item())
    assert early.mean_steps == pytest.approx(steps.double().mean().item())
    assert early.mean_steps == pytest.approx(choice.mean_steps)  # the same data
    assert sum(early.leaving) == pytest.approx(1)
    assert [row.n for row in early.classes] == torch.bincount(labels).tolist()
    by_class = sum(row.n * row.mean_steps for row in early.classes) / 48
    assert by_class == pytest.approx(early.mean_steps)
    assert 0 < early.snn_pj < early.full_snn_pj


def test_the_time_of_each_way_is_its_own(monkeypatch):
    snn, batches = network("direct"), [samples(8, seed) for seed in (1, 2)]
    full = evaluate(snn, batches)
    choice = choose_confidence(*anytime(snn, batches), "margin", 0.3)
    clock = iter([0.0, 10.0, 13.0, 100.0, 120.0, 124.0])  # whole, then leaving, of two batches
    monkeypatch.setattr(exit_measure, "_now", lambda _x: next(clock))
    early = measure_exit(snn, choice, batches, full)
    assert (early.seconds, early.full_seconds) == (7.0, 30.0)


@pytest.mark.parametrize("measure", ["margin", "entropy"])
def test_of_one_step_nobody_leaves_early(measure):
    anytime_TNK = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))
    choice = choose_confidence(anytime_TNK, torch.arange(6) % 3, measure)
    assert choice.mean_steps == 1
    assert choice.threshold == math.inf


@pytest.mark.parametrize("encode", ["direct", "poisson"])
def test_energy_of_staying_to_the_end_is_that_of_the_evaluation(encode):
    snn = network(encode)
    batches = [samples(24, 1)]
    full = evaluate(snn, batches)
    nobody = Choice(Confident("margin", 2.0), "margin", 2.0, 0.0, 24, 0.5, 0.5, 6.0, ())
    stays = measure_exit(snn, nobody, batches, full)
    assert stays.mean_steps == 6
    assert stays.snn_pj == pytest.approx(full.energy.snn_pj)
    counter = OperationCounter(snn)
    counter.begin_batch(24)
    exit_early(snn, batches[0][0], Confident("margin", 2.0), observer=counter)
    rows = counter.rows(Prices())
    for streamed, whole in zip(rows, full.operations, strict=True):
        assert streamed.snn_acs == pytest.approx(whole.snn_acs)
        assert streamed.snn_macs == pytest.approx(whole.snn_macs)
