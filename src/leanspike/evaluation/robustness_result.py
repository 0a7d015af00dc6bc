"""What a measurement of robustness found: a frozen object, written to and read from JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from leanspike.errors import LeanspikeError, one_line
from leanspike.evaluation.record import Record
from leanspike.evaluation.result import Provenance
from leanspike.files import checked_json

OWN = "leanspike"
"""The family of the corruptions that leanspike defines itself."""


class Curve(Record):
    """Accuracy under one corruption or attack, at each of its strengths.

    ``strengths`` are severities of a corruption, or an attack's ε. ``accuracy[network][i]`` belongs
    to ``strengths[i]``.

    >>> Curve(name="blur", strengths=(1, 3), accuracy={"ann": (0.5, 0.25)}).error("ann")
    0.625
    """

    name: str
    strengths: tuple[float, ...]
    accuracy: dict[str, tuple[float, ...]]

    def error(self, network: str) -> float:
        """Return 1 − accuracy, averaged over the strengths."""
        return 1 - math.fsum(self.accuracy[network]) / len(self.strengths)


class CleanSample(Record):
    """One image as it is, and its position in the split, from which its corruptions follow.

    ``pixels`` is ``[H][W][C]`` in 0..255.

    >>> CleanSample(position=7, pixels=(((0,), (255,)),)).position
    7
    """

    position: int
    pixels: tuple[tuple[tuple[int, ...], ...], ...]


class Robustness(Record):
    """What ``measure_robustness`` found on ``n`` images; ``networks`` in the order given.

    The images are of the ``split`` ("test") of ``data``, if it was told. ``clean`` is the accuracy
    on the images as they are. ``corruptions`` are by family, that is by who defined them, because
    each family has strengths of its own. :data:`OWN` is leanspike's family.

    ``silent[network]`` is the share of images at which the network's gradient is 0 in every pixel.
    It is measured if there are ``attacks``. An attack cannot move these images, so a large share
    means a masked gradient, not a robust network. ``sample`` is the image of the contact sheet, or
    None if the image may not be handed on.

    >>> blur = Curve(name="blur", strengths=(1, 2), accuracy={"ann": (0.5, 0.3), "snn": (0.6, 0.4)})
    >>> found = Robustness.model_construct(networks=("ann", "snn"), corruptions={OWN: (blur,)})
    >>> {name: round(error, 2) for name, error in found.mean_corruption_error[OWN].items()}
    {'ann': 0.6, 'snn': 0.5}
    >>> round(found.relative_corruption_error[OWN]["snn"], 4)
    0.8333
    """

    schema_version: Literal[2] = 2
    data: str | None
    split: str | None = None
    n: int
    seed: int
    networks: tuple[str, ...]
    clean: dict[str, float]
    corruptions: dict[str, tuple[Curve, ...]]
    attacks: tuple[Curve, ...]
    silent: dict[str, float]
    sample: CleanSample | None
    provenance: Provenance

    @property
    def mean_corruption_error(self) -> dict[str, dict[str, float]]:
        """1 − accuracy, averaged over a family's corruptions and their severities, by network."""
        return {
            family: {
                network: math.fsum(curve.error(network) for curve in curves) / len(curves)
                for network in self.networks
            }
            for family, curves in self.corruptions.items()
        }

    @property
    def relative_corruption_error(self) -> dict[str, dict[str, float]]:
        """The mean corruption errors as multiples of the first network's; {} if it makes none."""
        return {
            family: {
                network: error / first
                for first in (errors[self.networks[0]],)
                for network, error in errors.items()
                if first > 0
            }
            for family, errors in self.mean_corruption_error.items()
        }

    @property
    def summary(self) -> dict[str, object]:
        """The figures that a measurement is known by, for programs.

        ``corruptions`` says how many corruptions each mean is over.

        >>> fgsm = Curve(name="fgsm", strengths=(0.1,), accuracy={"ann": (0.2,)})
        >>> Robustness.model_construct(networks=("ann",), clean={"ann": 0.9}, corruptions={},
        ...                            attacks=(fgsm,)).summary
        {'clean': {'ann': 0.9}, 'corruptions': {}, 'mean_corruption_error': {},
         'attacks': {'fgsm': {'ann': [0.2]}}}
        """
        return {
            "clean": dict(self.clean),
            "corruptions": {family: len(curves) for family, curves in self.corruptions.items()},
            "mean_corruption_error": {
                family: {network: round(error, 4) for network, error in errors.items()}
                for family, errors in self.mean_corruption_error.items()
            },
            "attacks": {
                curve.name: {name: list(right) for name, right in curve.accuracy.items()}
                for curve in self.attacks
            },
        }


def load_robustness(path: str | Path) -> Robustness:
    """Read a ``robustness.json`` back; a damaged or foreign file is an error of one line.

    Raises:
        LeanspikeError: for a file that is missing, damaged, or no such measurement.

    >>> load_robustness(Path("nowhere.json"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no robustness at nowhere.json; measure it with ...
    """
    path = Path(path)
    if not path.is_file():
        raise LeanspikeError(f"no robustness at {path}; measure it with `leanspike robustness RUN`")
    try:
        return Robustness.model_validate_json(checked_json(path.read_text()))
    except ValueError as error:  # ValidationError and UnicodeDecodeError among them
        raise LeanspikeError(
            f"{path} holds no robustness ({one_line(error)}); "
            "measure it again with `leanspike robustness RUN`"
        ) from None
