"""What labels are of: yes or no, several labels, pixels; nothing is guessed where two tasks fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation import (
    Binary,
    Multiclass,
    Multilabel,
    accuracy,
    count_correct,
    find_task,
    record_example,
)
from leanspike.evaluation.task import named_task

YES = torch.tensor([1, 0, 1, 1])


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


ONE = {
    "whole numbers": YES,
    "floats": YES.float(),
    "bools": YES.bool(),
    "bytes": YES.byte(),
    "int32": YES.int(),
    "a column": YES[:, None].float(),
}


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("kind", ONE)
def test_one_logit_is_yes_or_no_by_the_threshold_0(kind: str, shape: tuple[int, ...]) -> None:
    y_TN = seeded(3, *shape)
    task = find_task(y_TN, ONE[kind])
    assert task == Binary()
    said = y_TN.reshape(3, 4).cumsum(0) > 0
    assert count_correct(y_TN, ONE[kind]).tolist() == (said == YES.bool()).sum(1).tolist()


SEVERAL = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize("labels", [SEVERAL, SEVERAL.float(), SEVERAL.bool(), SEVERAL.byte()])
def test_several_labels_are_each_right_or_wrong(labels: Tensor) -> None:
    y_TNK = seeded(2, 4, 3)
    assert find_task(y_TNK, labels) == Multilabel()
    expected = ((y_TNK.cumsum(0) > 0) == SEVERAL.bool()).sum((1, 2))
    assert count_correct(y_TNK, labels).tolist() == expected.tolist()


def test_pixels_are_answered_one_by_one() -> None:
    y_TNK, labels = seeded(2, 4, 3, 5, 5), torch.arange(100).view(4, 5, 5) % 3
    assert find_task(y_TNK, labels) == Multiclass()
    expected = (y_TNK.cumsum(0).argmax(2) == labels).sum((1, 2, 3))
    assert count_correct(y_TNK, labels).tolist() == expected.tolist()
    masks = (labels == 1)[:, None]
    assert find_task(y_TNK[:, :, :1], masks) == find_task(y_TNK[:, :, :1], masks[:, 0]) == Binary()
    right = ((y_TNK[:, :, :1].cumsum(0) > 0) == masks).sum((1, 2, 3, 4))
    assert count_correct(y_TNK[:, :, :1], masks[:, 0]).tolist() == right.tolist()


class Fixed(nn.Module):
    """Answers what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_pixels_of_the_ignored_label_are_left_out() -> None:
    y_NK, labels = seeded(2, 3, 4, 4), torch.arange(32).view(2, 4, 4) % 3
    right = (y_NK.argmax(1) == labels).flatten()
    half = torch.arange(32).view(2, 4, 4) < 16
    expected = right[:16].double().mean().item()
    assert accuracy(Fixed(), [(y_NK, labels.where(half, -100))]) == [pytest.approx(expected)]
    voc = [(y_NK, labels.where(half, 255))]
    message = r"label 255, .* 0 to 2; .* give task=Multiclass\(ignore_index=255\) of leanspike"
    with pytest.raises(LeanspikeError, match=message):
        accuracy(Fixed(), voc)
    assert accuracy(Fixed(), voc, task=Multiclass(ignore_index=255)) == [pytest.approx(expected)]
    loss = Multiclass(ignore_index=255).loss(y_NK, voc[0][1])
    assert loss.item() == pytest.approx(F.cross_entropy(y_NK, voc[0][1], ignore_index=255).item())
    with pytest.raises(LeanspikeError, match="no label says anything: all are ignore_index"):
        accuracy(Fixed(), [(y_NK, torch.full_like(labels, -100))])


@pytest.mark.parametrize("rows", [torch.eye(3), torch.eye(3)[:1], torch.eye(3).long()])
def test_rows_with_a_single_1_must_be_told_and_both_ways_work(rows: Tensor) -> None:
    y_NK = seeded(len(rows), 3)
    message = r'give labels\.argmax\(1\) or task="multiclass" for one-hot rows, task="multilabel"'
    with pytest.raises(LeanspikeError, match=message):
        accuracy(Fixed(), [(y_NK, rows)])
    classes = accuracy(Fixed(), [(y_NK, rows.argmax(1))])
    assert accuracy(Fixed(), [(y_NK, rows)], task="multiclass") == classes
    several = ((y_NK > 0) == rows.bool()).double().mean().item()
    assert accuracy(Fixed(), [(y_NK, rows)], task="multilabel") == [pytest.approx(several)]


def test_the_first_batch_settles_the_task_and_others_must_fit() -> None:
    batches = [(seeded(4, 1), YES.float()), (seeded(4, 1), torch.tensor([0.2, 1, 0, 1]))]
    with pytest.raises(LeanspikeError, match=r"label 0\.2, and one output .* give labels > 0\.5"):
        accuracy(Fixed(), batches)
    mended = [(x, labels > 0.5) for x, labels in batches]
    assert len(accuracy(Fixed(), mended)) == 1
    several = [(seeded(4, 3), SEVERAL), (seeded(3, 3), torch.eye(3))]
    assert len(accuracy(Fixed(), several)) == 1  # rows with a single 1 are no riddle any more


ADVICE: dict[str, tuple[Any, str, Any]] = {
    "signs": (2 * YES - 1, r"label -1, .* 0 or 1; give labels > 0\.", lambda y: y > 0),
    "signs as floats": (2.0 * YES - 1, r"label -1, .* give labels > 0\.", lambda y: y > 0),
    "an array": (2 * YES.numpy() - 1, "give labels > 0", lambda y: y > 0),
}


@pytest.mark.parametrize("kind", ADVICE)
def test_labels_of_a_yes_or_no_that_are_neither_are_refused(kind: str) -> None:
    labels, message, mend = ADVICE[kind]
    with pytest.raises(LeanspikeError, match=message):
        accuracy(Fixed(), [(seeded(4, 1), labels)])
    expected = accuracy(Fixed(), [(seeded(4, 1), YES)])
    assert accuracy(Fixed(), [(seeded(4, 1), mend(labels))]) == expected


def test_more_classes_than_outputs_are_refused_and_so_many_outputs_take_them() -> None:
    labels = torch.tensor([0, 2, 1, 3])
    message = r"label 2, and one output answers 0 or 1; give a network of 4 outputs\. For targets"
    with pytest.raises(LeanspikeError, match=message):
        accuracy(Fixed(), [(seeded(4, 1), labels)])
    assert len(accuracy(Fixed(), [(seeded(4, 4), labels)])) == 1


@pytest.mark.parametrize(
    ("shape", "labels"),
    [
        ((4, 1), torch.tensor([0.2, 0.7, 1.0, 3.0])),
        ((4,), torch.tensor([2.0, 7.0, 1.0, 3.0])),
        ((4, 3), seeded(4, 3)),
        ((4, 2, 8, 8), torch.zeros(4)),
        ((4, 2, 8, 8), seeded(4, 2, 8, 8)),
        ((4, 2, 8, 8), seeded(4, 8, 8)),
    ],
)
def test_targets_of_a_regression_are_no_labels(shape: tuple[int, ...], labels: Tensor) -> None:
    assert find_task(seeded(1, *shape), labels) is None
    with pytest.raises(LeanspikeError, match=r'are no labels of outputs .*; in .* task="none"'):
        accuracy(Fixed(), [(seeded(*shape), labels)])


def test_empty_batches_say_nothing() -> None:
    some = [(torch.zeros(0, 1), torch.zeros(0)), (seeded(4, 1), YES)]
    assert accuracy(Fixed(), some) == accuracy(Fixed(), some[1:])
    with pytest.raises(LeanspikeError, match="no samples to measure the accuracy on"):
        accuracy(Fixed(), some[:1])


def test_a_task_that_does_not_fit_says_which_would() -> None:
    with pytest.raises(LeanspikeError, match="task is 'multi'; choose one of multiclass, binary"):
        named_task("multi")  # type: ignore[arg-type]
    with pytest.raises(LeanspikeError, match=r'not of classes, .* give task="binary"'):
        accuracy(Fixed(), [(seeded(4, 1), YES)], task="multiclass")
    assert len(accuracy(Fixed(), [(seeded(4, 1), YES)], task="binary")) == 1
    with pytest.raises(LeanspikeError, match=r'give task="multiclass" or task="multilabel"'):
        accuracy(Fixed(), [(seeded(4, 3), YES)], task="binary")
    assert len(accuracy(Fixed(), [(seeded(4, 3), YES)], task="multiclass")) == 1
    with pytest.raises(LeanspikeError, match=r"expected 0 or 1 for each output, \[4, 3\]"):
        accuracy(Fixed(), [(seeded(4, 3), YES)], task="multilabel")


def test_outputs_that_are_not_finite_or_not_one_tensor_are_refused() -> None:
    x = torch.full((4, 1), float("nan"))
    with pytest.raises(LeanspikeError, match="the network has outputs that are NaN or infinite"):
        accuracy(Fixed(), [(x, YES)])

    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(LeanspikeError, match="outputs in a tuple; accuracy is of one tensor"):
        accuracy(Two(), [(seeded(4, 1), YES)])


def test_losses_are_pytorchs() -> None:
    z, rows = seeded(4, 3), SEVERAL.float()
    ours, theirs = Multilabel().loss(z, rows), F.binary_cross_entropy_with_logits(z, rows)
    assert ours.item() == pytest.approx(theirs.item())
    soft = torch.tensor([0.3, 0.9, 0.0, 1.0])
    theirs = F.binary_cross_entropy_with_logits(z[:, 0], soft)
    for one in (z[:, 0], z[:, :1]):
        assert Binary().loss(one, soft).item() == pytest.approx(theirs.item())
        smooth = Binary().loss(one, YES, label_smoothing=0.2)  # as of the two classes (0, z)
        classes = torch.stack([torch.zeros(4), z[:, 0]], 1)
        expected = F.cross_entropy(classes, YES, label_smoothing=0.2)
        assert smooth.item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(LeanspikeError, match="label 2, and an output answers 0 or 1"):
        Binary().loss(z[:, 0], YES * 2)
    with pytest.raises(LeanspikeError, match=r'not of classes, .* give task="binary"'):
        Multiclass().loss(z[:, :1], torch.rand(4, 1))  # over one class it would always be 0
    mixed = torch.softmax(seeded(4, 3), 1)
    assert Multiclass().loss(z, mixed).item() == pytest.approx(F.cross_entropy(z, mixed).item())


def test_a_perfect_binary_network_is_right_and_its_spiking_twin_too() -> None:
    """Two inputs whose sum decides; the same with the output squeezed."""
    net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 1], [1, 1], [-1, -1], [-1, -1]]))
        net[2].weight.copy_(torch.tensor([[1.0, 1, -1, -1]]))
    x = seeded(200, 2)
    x = x[x.sum(1).abs() > 0.8]
    y = (x.sum(1) > 0).long()

    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x).squeeze(1)
            return out

    for ann in (net, Squeezed()):
        snn = ls.spike(ann.eval(), example_input=x[:1], timesteps=8)
        ls.calibrate(snn, x)
        result = ls.evaluate(snn, [(x, y)], ann=ann, classes=("no", "yes"))
        assert (result.ann_accuracy, result.accuracy[-1]) == (1.0, 1.0)
        assert (result.task, result.unit) == ("binary", "sample")
        assert result.chance == pytest.approx(0.5 + abs(y.double().mean().item() - 0.5))
        assert result.mistakes is not None
        assert (result.mistakes.snn_only, result.at_chance) == (0, False)
        with pytest.raises(LeanspikeError, match=r"classes has 1 names, .* answers no or yes"):
            ls.evaluate(snn, [(x, y)], classes=("yes",))
        numpy = [(x.numpy(), y.numpy().astype(np.uint8))]
        assert ls.evaluate(snn, numpy).accuracy == result.accuracy


def test_an_example_of_one_logit_shows_no_and_yes() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    pixels = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    snn = ls.spike(net, example_input=torch.zeros(1, 1, 2, 2), timesteps=3)
    example = record_example(snn, pixels[None] / 255, pixels, label=1)
    p = torch.sigmoid(snn(pixels[None] / 255).cumsum(0))[:, 0, 0]
    assert torch.tensor(example.probabilities).allclose(torch.stack([1 - p, p], 1))
    wide = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval()
    snn = ls.spike(wide, example_input=torch.zeros(1, 1, 2, 2), timesteps=3)
    with pytest.raises(LeanspikeError, match="an example shows the probabilities of classes"):
        record_example(snn, pixels[None] / 255, pixels, label=1)


def test_outputs_of_a_sigmoid_are_said_to_be_no_logits(caplog: pytest.LogCaptureFixture) -> None:
    ann = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid()).eval()
    x, labels = seeded(8, 3), torch.tensor([0, 1] * 4)
    for last, warned in ((ann[3], 1), (nn.Identity(), 0)):  # the advice
        ann[3] = last
        snn = ls.spike(ann, example_input=x[:1], ops={nn.Sigmoid: "analog"})
        caplog.clear()
        ls.evaluate(snn, [(x, labels)])
        assert caplog.text.count("as after a sigmoid") == warned


def test_several_labels_are_not_one_class() -> None:
    """Neither where a task is told, nor in a later batch than the one that it was found by."""
    network, y = nn.Identity(), torch.eye(3)
    several = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 1]])
    words = r"have 2 largest entries, and one of 3 classes is right; give task=\"multilabel\""
    with pytest.raises(LeanspikeError, match=words):
        accuracy(network, [(y, several)], task="multiclass")
    with pytest.raises(LeanspikeError, match=words):
        accuracy(network, [(y, torch.arange(3)), (y, several)])
    assert accuracy(network, [(y, several)], task="multilabel") == [7 / 9]  # as the advice says
    assert accuracy(network, [(y, torch.eye(3))], task="multiclass") == [1.0]
