"""Scores of several processes add up to that of one."""

from __future__ import annotations

import pytest
import torch

from leanspike.distributed import ALONE, Group
from leanspike.evaluation.score import Score
from leanspike.evaluation.task import Multiclass


def test_scores_of_many_classes_add_up_to_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [
        (torch.randn(3, 4, 120), torch.arange(4) + n, torch.randn(1, 4, 120)) for n in (0, 4)
    ]
    whole, parts = Score(Multiclass()), list[Score]()
    for rank, batch in enumerate(batches):
        whole.add(*batch)
        parts.append(Score(Multiclass(), group=Group(rank, 2)))
        parts[-1].add(*batch)
    monkeypatch.setattr(Group, "gathered", lambda *_: parts)
    together = Score.of_all(parts[0], Group(0, 2))
    assert together is not None
    ours, theirs = together.result(), whole.result()
    assert len(theirs.top5) == 3
    assert ours == theirs
    assert Score.of_all(whole, ALONE) is whole
