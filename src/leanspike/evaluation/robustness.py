"""How accuracy falls on corrupted and on attacked images, for several networks side by side.

All networks see the very same corrupted images. Each is attacked along its own gradient. Accuracy
is taken after the last step, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from leanspike.backends import watch_backends
from leanspike.data import Loader, Split, stratified
from leanspike.data.corrupted import CorruptedSplit
from leanspike.data.corruptions import CORRUPTIONS, SEVERITIES
from leanspike.evaluation.answers import count_correct, outputs
from leanspike.evaluation.attack import fgsm, network_input, pgd, pixel_gradient
from leanspike.evaluation.origin import computed_by, provenance
from leanspike.evaluation.result import Provenance
from leanspike.evaluation.robustness_arguments import (
    Attack,
    Family,
    all_families,
    check_arguments,
    check_counts,
    opened,
)
from leanspike.evaluation.robustness_result import CleanSample, Curve, Robustness
from leanspike.modes import eval_mode

Strength = TypeVar("Strength", bound=float)
Change = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""From a network, its pixels, labels and positions to other pixels."""


def measure_robustness(
    networks: Mapping[str, nn.Module],
    split: Split,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    more: Mapping[str, Family] | None = None,
    attacks: Mapping[Attack, Sequence[float]] | None = None,
    pgd_steps: int = 10,
    batch_size: int = 100,
    limit: int | None = None,
    seed: int = 0,
    data: str | None = None,
    split_name: str | None = None,
    origin: Provenance | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Measure networks on clean, corrupted and attacked images of a split.

    Args:
        networks: by name, on one device. The first is the one to compare with. They run in eval
            mode and are put back afterwards.
        split: the images.
        mean, std: constants of the normalisation that the networks were trained with.
        corruptions: names in ``leanspike.data.CORRUPTIONS``, or of another package's, each measured
            at all ``severities``.
        severities: some of 1..5.
        more: further families of corruptions. Each name has a function from the severity to the
            same images, corrupted, in the same order:
            ``{"CIFAR-10-C": {"fog": partial(read_cifar_c, folder, "fog")}}``.
        attacks: ε in [0, 1], such as 8/255, for "fgsm" and "pgd".
        pgd_steps: of each "pgd", 1 or more.
        batch_size: 1 or more.
        limit: the number of images, drawn alike from all classes; always the same images. Default
            all.
        seed: decides all that is random, 0 or more.
        data, split_name: the data set and which part of it ``split`` is ("test"), if known.
        origin: where the figures come from (default: this process), except for what computed them.
        progress: called after each batch with the images passed so far, and in all.

    Raises:
        LeanspikeError: for arguments that do not fit, before anything is measured. Each corruption
            is tried on one image, at the first of the severities.

    Example:
        >>> from leanspike.data import synthetic
        >>> split = synthetic((1, 8, 8), classes=3, test=12).test
        >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> found = measure_robustness({"ann": ann}, split, mean=(0.5,), std=(0.5,),
        ...                            corruptions=["blur"], attacks={"fgsm": (0.02, 0.1)})
        >>> found.corruptions["leanspike"][0].strengths, len(found.attacks[0].accuracy["ann"])
        ((1.0, 2.0, 3.0, 4.0, 5.0), 2)
    """
    own = {name: partial(CorruptedSplit, split, name, seed=seed) for name in corruptions}
    families, attacks = all_families(own, more or {}), attacks or {}
    check_counts(batch_size=batch_size, pgd_steps=pgd_steps, limit=1 if limit is None else limit)
    check_arguments(networks, split, families, severities, attacks)
    chosen = _chosen(split, limit)
    passes = 1 + len(severities) * sum(map(len, families.values()))
    passes += sum(map(len, attacks.values())) + bool(attacks)
    run = _Run(networks, split, chosen, mean, std, batch_size, seed, pgd_steps, progress, passes)
    with ExitStack() as modes:
        for network in networks.values():
            modes.enter_context(eval_mode(network))
        ran = modes.enter_context(watch_backends())
        return Robustness(
            data=data,
            split=split_name,
            n=len(chosen),
            seed=seed,
            networks=tuple(networks),
            clean=run.accuracy(split),
            corruptions={
                family: tuple(
                    _curve(name, severities, partial(run.corrupted, source))
                    for name, source in sources.items()
                )
                for family, sources in families.items()
            },
            attacks=tuple(
                _curve(name, epsilons, partial(run.attacked, name))
                for name, epsilons in attacks.items()
            ),
            silent=run.silent() if attacks else {},
            sample=_sample(split, int(chosen[0])),
            # Last, as ``ran`` is complete when all measurements have run.
            provenance=computed_by(origin or provenance(device=_device(networks)), ran),
        )


@dataclass
class _Run:
    """One measurement: the networks, the images, and which of these are chosen."""

    networks: Mapping[str, nn.Module]
    split: Split
    chosen: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int
    seed: int
    pgd_steps: int
    progress: Callable[[int, int], None] | None
    passes: int
    done: int = 0

    def accuracy(self, split: Split, change: Change | None = None) -> dict[str, float]:
        """Return the share of the chosen images that each network answers correctly.

        ``change`` changes the images for each network by itself.
        """
        right = dict.fromkeys(self.networks, 0)
        for x, labels, positions in self._batches(split):
            for name, network in self.networks.items():
                changed = x if change is None else change(network, x, labels, positions)
                with torch.no_grad():
                    y_TNK = outputs(network, network_input(changed, self.mean, self.std))
                right[name] += int(count_correct(y_TNK, labels)[-1])
        return {name: count / len(self.chosen) for name, count in right.items()}

    def corrupted(self, source: Callable[[int], Split], severity: int) -> dict[str, float]:
        """Return the accuracy under a corruption."""
        return self.accuracy(opened(source, severity, self.split))

    def attacked(self, attack: Attack, epsilon: float) -> dict[str, float]:
        """Return the accuracy under an attack on each network."""

        def change(network: nn.Module, x: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
            if attack == "fgsm":
                return fgsm(network, x, labels, epsilon, mean=self.mean, std=self.std)
            return pgd(
                network,
                x,
                labels,
                epsilon,
                mean=self.mean,
                std=self.std,
                steps=self.pgd_steps,
                seed=self.seed,
                positions=positions,
            )

        return self.accuracy(self.split, change)

    def silent(self) -> dict[str, float]:
        """Return the share of the images at whose pixels the gradient of each network is 0."""
        count = dict.fromkeys(self.networks, 0)
        for x, labels, _ in self._batches(self.split):
            for name, network in self.networks.items():
                gradient = pixel_gradient(network, x, labels, mean=self.mean, std=self.std)
                count[name] += int((gradient == 0).flatten(1).all(1).sum())
        return {name: silent / len(self.chosen) for name, silent in count.items()}

    def _batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Return pixels in [0, 1], labels and positions of the chosen images, batch by batch."""
        channels = split.shape[0]
        loader = Loader(
            split.select(self.chosen),
            batch_size=self.batch_size,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            seed=0,
            train=False,
            device=_device(self.networks),
        )
        positions = torch.split(self.chosen, self.batch_size)
        for (x, labels), where in zip(loader.epoch(0), positions, strict=True):
            yield x, labels, where
            self.done += len(x)
            if self.progress is not None:
                self.progress(self.done, self.passes * len(self.chosen))


def _device(networks: Mapping[str, nn.Module]) -> torch.device:
    """Return the device of the networks."""
    parameters = (p for network in networks.values() for p in network.parameters())
    return next((p.device for p in parameters), torch.device("cpu"))


def _curve(
    name: str, strengths: Sequence[Strength], measure: Callable[[Strength], dict[str, float]]
) -> Curve:
    """Measure at each strength, and return the accuracy by network."""
    found = [measure(strength) for strength in strengths]
    accuracy = {network: tuple(at[network] for at in found) for network in found[0]}
    return Curve(name=name, strengths=tuple(strengths), accuracy=accuracy)


def _chosen(split: Split, limit: int | None) -> Tensor:
    """Return the indices of the images to measure on."""
    if limit is None or limit >= len(split):
        return torch.arange(len(split))
    return stratified(split.labels, limit)[1]


def _sample(split: Split, position: int) -> CleanSample:
    images, _ = split.batch(torch.tensor([position]))
    return CleanSample(position=position, pixels=images[0].permute(1, 2, 0).tolist())
