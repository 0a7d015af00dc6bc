"""The networks and images of a trained run, for part "engine"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from leanspike.bench.deployed import deployed
from leanspike.execute import SpikingNetwork
from leanspike.saved import load

CALIBRATED = 128
"""The number of training images by which whole-number weights and activations are chosen."""
MARGIN = 0.9
"""The margin at which images leave, if the run has not chosen one."""

Answer = Callable[[Tensor], Tensor]
"""A function from images ``[N, C, H, W]`` to scores ``[N, K]``."""


@dataclass(frozen=True)
class Trained:
    """A run's folder (``ann`` and ``snn`` in it) and its images, normalised.

    ``steps`` is the number of steps after which the SNN is stopped; None: all.
    """

    folder: Path
    calibration: Tensor
    test: Tensor
    labels: Tensor
    steps: int | None = None

    @property
    def ann(self) -> nn.Module:
        """The ANN in eval mode, as it is deployed, channels last."""
        return deployed(load(self.folder / "ann")).to(memory_format=torch.channels_last)

    @property
    def snn(self) -> SpikingNetwork:
        """The SNN in eval mode."""
        network = load(self.folder / "snn").eval()
        assert isinstance(network, SpikingNetwork)
        return network

    @property
    def margin(self) -> tuple[float, int | None]:
        """The margin at which images leave, and the step after which all have left, or None.

        It is the one that ``leanspike evaluate RUN --early-exit margin`` chose, or else `MARGIN`.
        """
        from leanspike.evaluation import load_result

        result = self.folder / "result.json"
        rules = load_result(result).early_exit if result.is_file() else ()
        for rule in rules:
            if rule.by == "margin" and rule.threshold is not None:
                return rule.threshold, rule.latest
        return MARGIN, None


def read_trained(folder: Path, limit: int, steps: int | None = None) -> Trained:
    """Return the finished run in ``folder``, with at most ``limit`` of its test images."""
    from rich.console import Console

    from leanspike.data.loader import normalise
    from leanspike.run import open_run
    from leanspike.train import Monitor

    data = open_run(folder, Monitor(Console(stderr=True, quiet=True))).data
    train, _ = data.train.batch(torch.arange(min(CALIBRATED, len(data.train))))
    test, labels = data.test.batch(torch.arange(min(limit, len(data.test))))
    return Trained(
        folder,
        normalise(train, data.mean, data.std),
        normalise(test, data.mean, data.std),
        labels,
        steps,
    )
