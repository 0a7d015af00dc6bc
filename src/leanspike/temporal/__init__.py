"""What knows about time besides the neurons: folding, encoders, dropout."""

from leanspike.temporal.dropout import TemporalDropout
from leanspike.temporal.encode import ENCODERS, Direct, Encoder, Frames, create_encoder
from leanspike.temporal.fold import broadcast, fold, repeat, unfold

__all__ = [
    "ENCODERS",
    "Direct",
    "Encoder",
    "Frames",
    "TemporalDropout",
    "broadcast",
    "create_encoder",
    "fold",
    "repeat",
    "unfold",
]
