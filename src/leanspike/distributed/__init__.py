"""Training one network in several processes: their group, and the share of each in a batch.

They are PyTorch's processes, started by ``torchrun``, and train by ``DistributedDataParallel``.
Functions that take a group of processes take :data:`ALONE`, too, for a single process.

>>> batch = split_batch(6, 1, Group(rank=1, size=2))  # the second process's part of six samples
>>> [share.rows.tolist() for share in batch]
[[3, 4, 5]]
"""

from leanspike.distributed.group import ALONE, Group, in_turn, joined
from leanspike.distributed.share import (
    Share,
    current_share,
    drawn,
    mean_of_all,
    share_of_known,
    sharing,
    split_batch,
)

__all__ = [
    "ALONE",
    "Group",
    "Share",
    "current_share",
    "drawn",
    "in_turn",
    "joined",
    "mean_of_all",
    "share_of_known",
    "sharing",
    "split_batch",
]
