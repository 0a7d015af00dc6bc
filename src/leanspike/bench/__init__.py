"""The race of leanspike with other libraries and a plain time loop, on one network.

``leanspike bench`` runs it. ``contenders`` describes the contenders and the fairness of the race.
"""

from leanspike.bench.contenders import CONTENDERS
from leanspike.bench.race import PARTS, Plan
from leanspike.bench.result import Counted, Heat, Outcome, Profile, Race, StepEnergy
from leanspike.bench.rivals import RIVALS
from leanspike.bench.show import figure, markdown, render_race
from leanspike.bench.time_and_energy import engine_figure

__all__ = [
    "CONTENDERS",
    "PARTS",
    "RIVALS",
    "Counted",
    "Heat",
    "Outcome",
    "Plan",
    "Profile",
    "Race",
    "StepEnergy",
    "engine_figure",
    "figure",
    "markdown",
    "render_race",
]
