"""The recipe: a run as typed data, section by section.

Frozen and closed: an unknown key or a wrong type is an error. Modules never see a recipe; only the
builders in ``leanspike.run`` do. ``leanspike.recipes`` reads them from YAML. What stands below a
key is its meaning in the reference (``leanspike recipes --keys``). A part owns its options: they
stand beside the part itself, and a section says only where they go.

>>> recipe = Recipe(
...     name="mine",
...     data=DataSection(name="digits", augment=AugmentSection(crop=1)),
...     model=ModelSection(name="mlp", options={"hidden": [16]}),
...     teacher=TeacherSection(model=TrainedSection(weights="runs/digits/ann")),
...     spike=SpikeSection(timesteps=4, calibrate=CalibrateSection(images=64)),
...     snn=(TrainSection(epochs=2, optimizer={"name": "sgd", "momentum": 0.5}),),
...     evaluate=EvaluateSection(batch_size=100))
>>> recipe.snn[0].optimizer.options
{'momentum': 0.5, 'nesterov': True}
"""

from leanspike.config.data import AugmentSection as AugmentSection
from leanspike.config.data import DataSection as DataSection
from leanspike.config.evaluation import EvaluateSection as EvaluateSection
from leanspike.config.network import ModelSection as ModelSection
from leanspike.config.network import TeacherSection as TeacherSection
from leanspike.config.network import TrainedSection as TrainedSection
from leanspike.config.recipe import Recipe as Recipe
from leanspike.config.section import Section as Section
from leanspike.config.spike import CalibrateSection as CalibrateSection
from leanspike.config.spike import SpikeSection as SpikeSection
from leanspike.config.stage import TrainSection as TrainSection
