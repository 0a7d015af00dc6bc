"""Models on disk, as safetensors beside a JSON spec. Loading runs no code from the files."""

from leanspike.saved.folder import SPEC, WEIGHTS, read_model, read_weights, weights_digest
from leanspike.saved.loading import load
from leanspike.saved.saving import save
from leanspike.saved.spec import ModelSpec

__all__ = [
    "SPEC",
    "WEIGHTS",
    "ModelSpec",
    "load",
    "read_model",
    "read_weights",
    "save",
    "weights_digest",
]
