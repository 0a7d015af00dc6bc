"""Batches of a split read by other processes, in order, through PyTorch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leanspike.data.split import Split
from leanspike.errors import LeanspikeError

AHEAD = 2  # batches that each process reads before they are asked for


@final
class _Batches(Dataset[tuple[Tensor, Tensor] | LeanspikeError]):
    """A batch of a split for each row of indices, or the LeanspikeError that reading it raised."""

    def __init__(self, split: Split, chunks: Sequence[Tensor]) -> None:
        self.split, self.chunks = split, chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor] | LeanspikeError:
        try:
            return self.split.batch(self.chunks[step])
        except LeanspikeError as error:
            return error


def read_in_processes(
    split: Split, chunks: Sequence[Tensor], workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches at ``chunks`` (each int64 [B]), in order, read by processes.

    ``workers`` is the number of processes. The batches are the same, bit for bit, as
    ``split.batch`` gives here. A failure arrives at its batch. Processes are started anew: they
    hold no thread and no lock of this one. A script that calls this needs
    ``if __name__ == "__main__":``.
    """
    if not chunks:
        return
    loader = DataLoader(
        _Batches(split, chunks),
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        prefetch_factor=AHEAD,
        multiprocessing_context="spawn",
    )
    for batch in loader:
        if isinstance(batch, LeanspikeError):
            raise batch
        yield batch
