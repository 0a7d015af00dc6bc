"""What knows about time besides the neurons: stacking, encoders, dropout and norms."""

from leanspike.renamed import renamed
from leanspike.temporal.affine import Affine, ChannelAffine, affine_of_norm
from leanspike.temporal.bntt import BNTT
from leanspike.temporal.dropout import TemporalDropout, dropout_rate
from leanspike.temporal.encode import (
    ENCODERS,
    Direct,
    Encoder,
    Frames,
    Poisson,
    create_encoder,
    encoders,
)
from leanspike.temporal.norm import (
    TEMPORAL_NORMS,
    NormFactory,
    TemporalNorm,
    norms,
    temporal_norm,
)
from leanspike.temporal.stacking import broadcast, repeat, stack, unstack
from leanspike.temporal.tdbn import TDBN
from leanspike.temporal.tebn import TEBN

__all__ = [
    "BNTT",
    "ENCODERS",
    "TDBN",
    "TEBN",
    "TEMPORAL_NORMS",
    "Affine",
    "ChannelAffine",
    "Direct",
    "Encoder",
    "Frames",
    "NormFactory",
    "Poisson",
    "TemporalDropout",
    "TemporalNorm",
    "affine_of_norm",
    "broadcast",
    "create_encoder",
    "dropout_rate",
    "encoders",
    "norms",
    "repeat",
    "stack",
    "temporal_norm",
    "unstack",
]

__getattr__ = renamed(
    __name__, {"fold": "leanspike.temporal.stack", "unfold": "leanspike.temporal.unstack"}
)
