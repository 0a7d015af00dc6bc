"""Several processes that train one network: who they are, and what each has of a batch.

They are PyTorch's own, started by ``torchrun``, and train by ``DistributedDataParallel``. All that
takes a group of processes takes :data:`ALONE`, too, which needs none of that.

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
