"""The recipe: a run as typed data, section by section.

Frozen and closed: an unknown key or a wrong type is an error. Modules never see a recipe; only the
builders in ``leanspike.run`` do. ``leanspike.recipes`` reads them from YAML. What stands below a
key is its meaning in the reference (``leanspike recipes --keys``). A part owns its options: they
stand beside the part itself, and a section says only where they go.
"""

from leanspike.config.data import AugmentSection, DataSection
from leanspike.config.evaluation import EvaluateSection
from leanspike.config.network import ModelSection, TeacherSection, TrainedSection
from leanspike.config.recipe import Recipe
from leanspike.config.section import Section
from leanspike.config.spike import CalibrateSection, SpikeSection
from leanspike.config.stage import TrainSection

__all__ = [
    "AugmentSection",
    "CalibrateSection",
    "DataSection",
    "EvaluateSection",
    "ModelSection",
    "Recipe",
    "Section",
    "SpikeSection",
    "TeacherSection",
    "TrainSection",
    "TrainedSection",
]
