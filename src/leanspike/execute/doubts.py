"""Warnings of a network's calls: it was probably not meant to answer or to be trained so."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import final

from torch import nn

from leanspike.neuron import Calibrated


@final
class Doubts:
    """The warnings that a network has not given yet. Each is given once.

    Attributes:
        uncalibrated: whether the network came from a trained ANN and was never calibrated.
        fixed: whether it was calibrated, and has not been trained yet.
        active: its dropouts in training mode, if nothing told whether its ANN is trained.
    """

    def __init__(self) -> None:
        self.uncalibrated = False
        self.fixed = False
        self.active: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether a call has anything to check."""
        return self.uncalibrated or self.fixed

    def calibrated(self, *, training: bool) -> None:
        """Note that the thresholds were calibrated, from which follows that the ANN is trained."""
        self.uncalibrated, self.fixed = False, True
        if self.active and training:
            warn_of_training_mode(self.active)
        self.active = ()

    def tell(self, neurons: Iterable[tuple[str, nn.Module]], *, training: bool) -> None:
        """Give the warnings that are due at a call of a network with these neurons.

        >>> from leanspike.neuron import LIF
        >>> doubts = Doubts()
        >>> doubts.uncalibrated = True
        >>> doubts.tell([("relu", LIF(threshold=0.3))], training=False)  # chosen by hand
        >>> doubts.any
        False
        """
        layers = [module for _, module in neurons if isinstance(module, Calibrated)]
        logger = logging.getLogger("leanspike")
        if self.uncalibrated:
            self.uncalibrated = False
            if layers and all(bool((layer.scale() == 1).all()) for layer in layers):
                logger.warning(
                    "the network was never calibrated: all thresholds are 1; call "
                    "leanspike.calibrate(snn, images) with some hundreds of training images first"
                )
        if self.fixed and training:
            self.fixed = False
            numbers = [dict(layer.named_parameters(recurse=False)) for layer in layers]
            if any(numbers) and not any(
                p.requires_grad for found in numbers for p in found.values()
            ):
                learn = ", ".join(f'"{name}"' for name in sorted(numbers[0]))
                logger.warning(
                    "leaks and thresholds are not trained, only the weights; make the network with "
                    f"{type(layers[0]).__name__}(learn=({learn}), ...), or leave out neuron= in "
                    "spike"
                )


def warn_of_training_mode(active: Sequence[str]) -> None:
    """Warn that a trained ANN was converted in training mode, with these layers active."""
    logging.getLogger("leanspike").warning(
        "the ANN is trained but in training mode, and so is the SNN: there %s use the statistics "
        "of each batch, or drop; call ann.eval() before spike, or snn.eval() before it answers",
        ", ".join(active[:3]) + (" ..." if len(active) > 3 else ""),
    )
