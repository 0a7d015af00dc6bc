"""The networks and images of a trained run, for part "engine"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from leanspike.saved import load

SCORED = 500
"""The number of test images on which accuracy is measured."""
CALIBRATED = 128
"""The number of training images by which whole-number weights and activations are chosen."""

Answer = Callable[[Tensor], Tensor]
"""A function from images ``[N, C, H, W]`` to scores ``[N, K]``."""


@dataclass(frozen=True)
class Trained:
    """A run's folder (``ann`` and ``snn`` in it) and its images, normalised."""

    folder: Path
    calibration: Tensor
    test: Tensor
    labels: Tensor

    @property
    def ann(self) -> nn.Module:
        """The ANN in eval mode, norms folded, channels last."""
        folded: nn.Module = fuse(fx.symbolic_trace(load(self.folder / "ann").eval()))
        return folded.to(memory_format=torch.channels_last)


def read_trained(folder: Path) -> Trained:
    """Return the finished run in ``folder``."""
    from rich.console import Console

    from leanspike.data.loader import normalise
    from leanspike.run import open_run
    from leanspike.train import Monitor

    data = open_run(folder, Monitor(Console(stderr=True, quiet=True))).data
    train, _ = data.train.batch(torch.arange(min(CALIBRATED, len(data.train))))
    test, labels = data.test.batch(torch.arange(min(SCORED, len(data.test))))
    return Trained(
        folder,
        normalise(train, data.mean, data.std),
        normalise(test, data.mean, data.std),
        labels,
    )
