"""The race of leanspike with other libraries and a plain time loop, on one network.

``leanspike bench`` runs it. ``contenders`` describes the contenders and the fairness of the race.
"""

from leanspike.bench.contenders import CONTENDERS
from leanspike.bench.race import PARTS, Plan
from leanspike.bench.result import Heat, Outcome, Profile, Race
from leanspike.bench.rivals import RIVALS
from leanspike.bench.show import figure, markdown, render_race

__all__ = [
    "CONTENDERS",
    "PARTS",
    "RIVALS",
    "Heat",
    "Outcome",
    "Plan",
    "Profile",
    "Race",
    "figure",
    "markdown",
    "render_race",
]
