"""What a measurement of robustness is given, checked before hours of measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Literal, get_args

import torch
from torch import nn

from leanspike.data import Split
from leanspike.data.corruptions import check_severity
from leanspike.errors import LeanspikeError
from leanspike.evaluation.attack import check_attackable, check_epsilon
from leanspike.evaluation.robustness_result import OWN

Attack = Literal["fgsm", "pgd"]
Family = Mapping[str, Callable[[int], Split]]
"""Corruptions by name: from the severity to the images under it."""


def all_families(own: Family, more: Mapping[str, Family]) -> dict[str, Family]:
    """Return the families that have something to measure."""
    if OWN in more:
        raise LeanspikeError(f"a family in more is named {OWN!r}; give it another name")
    return {name: family for name, family in {OWN: own, **more}.items() if family}


def opened(source: Callable[[int], Split], severity: int, split: Split) -> Split:
    """Return the images of a split, corrupted; an error for the images of another split."""
    corrupted = source(severity)
    if not torch.equal(corrupted.labels, split.labels):
        raise LeanspikeError(
            f"the corrupted images ({len(corrupted)}) are not the {len(split)} of the split "
            "in the same order: their labels differ; give those of the same test set"
        )
    return corrupted


def check_arguments(
    networks: Mapping[str, nn.Module],
    split: Split,
    families: Mapping[str, Family],
    severities: Sequence[int],
    attacks: Mapping[Attack, Sequence[float]],
) -> None:
    """Raise where there is nothing to measure, or it cannot be measured.

    That saves hours of measuring.
    """
    if not isinstance(split, Split):
        raise LeanspikeError(
            f"split is a {type(split).__name__}; corruptions are of bytes: give images uint8 "
            "[N, C, H, W] and labels int64 [N], as leanspike.data.TensorSplit(images, labels)"
        )
    sized: dict[str, Sized] = {"networks": networks, "images": split, "severities": severities}
    for what, things in sized.items():
        if len(things) == 0:
            raise LeanspikeError(f"no {what} to measure the robustness with; give 1 or more")
    if split.labels.dim() != 1 or split.labels.is_floating_point():
        raise LeanspikeError(
            f"labels are {split.labels.dtype} {list(split.labels.shape)}; robustness is measured "
            "of one answer for each sample: give whole numbers [N]"
        )
    images, _ = split.batch(torch.tensor([0]))
    if images.dim() != 4:
        raise LeanspikeError(
            f"samples are {list(images.shape[1:])}; robustness is measured on images [C, H, W]"
        )
    for severity in severities:
        check_severity(severity)
    for family in families.values():
        for source in family.values():
            opened(source, severities[0], split).batch(torch.tensor([0]))
    if attacks:
        _check_attacks(networks, attacks)


def _check_attacks(
    networks: Mapping[str, nn.Module], attacks: Mapping[Attack, Sequence[float]]
) -> None:
    for network in networks.values():
        check_attackable(network)
    for attack, epsilons in attacks.items():
        if attack not in get_args(Attack):
            raise LeanspikeError(f"no attack {attack!r}; choose one of fgsm, pgd")
        if len(epsilons) == 0:
            raise LeanspikeError(f"{attack} has no epsilon; give it one or more, such as 8/255")
        for epsilon in epsilons:
            check_epsilon(epsilon)


def check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise LeanspikeError(f"{name} is {count}; give 1 or more")
