"""Batches of a split as network input, reproducible from any step of any epoch.

Shapes: B images of a batch, T frames of a sequence, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from typing import final

import numpy as np
import torch
from torch import Generator, Tensor

from leanspike.data.augment import Augment, Augmentation, ByNumber
from leanspike.data.device import send
from leanspike.data.digest import paths_of
from leanspike.data.event_augment import EventAugment
from leanspike.data.folder import FolderSplit
from leanspike.data.split import Split
from leanspike.data.workers import read_in_processes
from leanspike.distributed import ALONE, Group, Share, sharing, split_batch
from leanspike.errors import LeanspikeError


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn pixels into network input: (images / 255 − mean) / std, float32 [B, C, H, W].

    All input is normalised here and nowhere else. ``images`` is uint8 [B, C, H, W] in any memory
    format, which the result keeps. ``mean`` and ``std`` (positive) are per channel, in units of the
    full range, [0, 1]. Sequences of images, uint8 [B, T, C, H, W], become [T, B, C, H, W]. Other
    tensors, float32 [B, C, ...], become (tensors − mean) / std, in their own units.

    Raises:
        LeanspikeError: for other types and shapes, or constants that do not fit them.

    >>> normalise(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), mean=(0.5,), std=(0.25,))
    tensor([[[[2.]]]])
    """
    floats = images.dtype == torch.float32 and images.dim() > 1
    if not floats and (images.dtype != torch.uint8 or images.dim() not in (4, 5)):
        raise LeanspikeError(
            f"images are {images.dtype} {list(images.shape)}; give torch.uint8 [B, C, H, W], "
            "sequences [B, T, C, H, W], or torch.float32 [B, C, ...]"
        )
    if images.dim() == 5 and not floats:
        images = images.transpose(0, 1).contiguous()  # bytes are a quarter of the floats' size
    channels = images.shape[1] if floats else images.shape[-3]
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise LeanspikeError(
            f"mean {tuple(mean)} and std {tuple(std)} do not fit images of {channels} channels; "
            f"give {channels} numbers each, std positive"
        )
    after = images.dim() - 2 if floats else 2
    constants = send(torch.tensor([mean, std]), images.device).view(2, channels, *[1] * after)
    if floats:
        return (images - constants[0]).div_(constants[1])
    pixels = images.to(torch.float32)
    # 255 is a tensor: for a plain number CUDA multiplies by its reciprocal, which gives other bits.
    pixels = pixels.div_(pixels.new_full((), 255))
    return pixels.sub_(constants[0]).div_(constants[1])


def generator_for(seed: int, *key: int) -> Generator:
    """Return a CPU generator that depends on ``seed`` and ``key`` (both ≥ 0), and on nothing else.

    Keys such as (epoch,) and (epoch, step) give unrelated streams.

    >>> generator_for(0, 1).initial_seed() == generator_for(0, 1, 2).initial_seed()
    False
    """
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state[0]))


@final
@dataclass(frozen=True, eq=False)
class Loader:
    """Batches of ``split``, normalised, on ``device``.

    With ``train`` the batches are shuffled and augmented. An incomplete last batch is dropped,
    unless it is the only one. Without ``train`` all samples come in order, never augmented. The
    loader is then a list of batches that can be gone through as often as one likes.

    The order is a function of (seed, epoch), an augmentation of (seed, epoch, step). An alternating
    flip is one of (seed, image's number, epoch). So a run that is resumed at any step gets the
    batches of an uninterrupted one, bit for bit. ``mean`` and ``std`` are the data set's, or those
    that published weights were trained with.

    The next batch of a lazy split is read in the background while this one is used. A thread reads
    it, or ``workers`` processes (PyTorch's DataLoader) do, which changes no bit. No processes are
    started where samples stay in memory.

    Each process of a ``group`` gets its samples of every training batch, cut as
    :func:`leanspike.distributed.split_batch` says. Without ``train`` the processes get whole
    batches in turn. ``len`` and steps are those of all processes together.

    >>> from leanspike.data import load_dataset
    >>> data = load_dataset("digits")
    >>> loader = Loader(data.train, batch_size=64, mean=data.mean, std=data.std, seed=0, train=True,
    ...                 augment=Augment(crop=1))
    >>> images, labels = next(loader.epoch(0))
    >>> len(loader), images.shape, labels.shape
    (20, torch.Size([64, 1, 8, 8]), torch.Size([64]))
    """

    split: Split
    _: KW_ONLY
    batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    train: bool
    augment: Augment | EventAugment | None = None
    memory_format: torch.memory_format = torch.contiguous_format
    device: torch.device | str = "cpu"
    workers: int = 0
    group: Group = ALONE
    micro_batches: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise LeanspikeError(f"batch_size is {self.batch_size}; give 1 or more")
        if self.seed < 0:
            raise LeanspikeError(f"seed is {self.seed}; give 0 or more")
        if self.workers < 0:
            raise LeanspikeError(f"workers is {self.workers}; give 0 (threads) or more processes")

    def __len__(self) -> int:
        """Return the steps per epoch."""
        full, rest = divmod(len(self.split), self.batch_size)
        return full + bool(rest and not (self.train and full))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return all batches in order; LeanspikeError with ``train``, whose epochs differ."""
        if self.train:
            raise LeanspikeError(
                "a training loader has other batches in each epoch; say which: loader.epoch(0)"
            )
        return self.epoch(0)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of ``epoch`` (≥ 0) from ``start_step`` (0..len) on.

        A batch is images and labels. Images are float32 [B, C, H, W], sequences [T, B, C, H, W],
        other tensors [B, ...]. Labels are int64 [B], or as the split has them.
        """
        if epoch < 0:
            raise LeanspikeError(f"epoch is {epoch}; give 0 or more")
        if not 0 <= start_step <= len(self):
            raise LeanspikeError(f"start_step is {start_step}; an epoch has steps 0..{len(self)}")
        chunks = torch.split(self._order(epoch), self.batch_size)[start_step : len(self)]
        if not self.train:
            chunks = tuple(self.group.own(chunks))
        return self._batches(chunks, epoch, start_step)

    def _order(self, epoch: int) -> Tensor:
        order = torch.arange(len(self.split))
        if self.train:
            order = torch.randperm(len(order), generator=generator_for(self.seed, epoch))
        return order

    def name_of(self, epoch: int, step: int, place: int) -> str:
        """Return the name of the sample at a place of a batch, for messages.

        It is the sample's number in the split, and its file, if it has one.

        >>> from leanspike.data import load_dataset
        >>> data = load_dataset("digits")
        >>> Loader(data.test, batch_size=8, mean=data.mean, std=data.std, seed=0,
        ...        train=False).name_of(0, step=1, place=2)
        '10'
        """
        number = int(self._order(epoch)[step * self.batch_size + place])
        paths = self.split.paths if isinstance(self.split, FolderSplit) else paths_of(self.split)
        return str(number) if paths is None else f"{number} ({paths[number]})"

    def samples(self, step: int) -> int:
        """Return how many samples the batch of that step has, in all processes together."""
        return min(self.batch_size, len(self.split) - step * self.batch_size)

    def _batches(
        self, chunks: Sequence[Tensor], epoch: int, start_step: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        shares = [self._share(len(chunk)) for chunk in chunks]
        augment = self.augment if self.train else None
        whole = augment is not None and not augment.by_sample
        read = [
            chunk if share is None or whole else chunk[share.rows]
            for chunk, share in zip(chunks, shares, strict=True)
        ]
        for at, (images, labels) in enumerate(self._read(read)):
            images = send(images, self.device)  # bytes are small; the device does the rest
            if augment is not None:
                made = self._augmentation(augment, read[at], epoch)
                with sharing(None if whole else shares[at]):
                    images = made(images, generator_for(self.seed, epoch, start_step + at))
            share = shares[at]
            if share is not None and whole:
                images, labels = images[share.rows.to(images.device)], labels[share.rows]
            inputs = normalise(images, self.mean, self.std)
            yield self._in_format(inputs), send(labels, self.device)

    def _augmentation(
        self, augment: Augment | EventAugment, numbers: Tensor, epoch: int
    ) -> Augmentation:
        """Return the augmentation of a batch of images."""
        if isinstance(augment, ByNumber):
            return augment.for_images(numbers, epoch, self.seed)
        return augment

    def _in_format(self, inputs: Tensor) -> Tensor:
        """Return inputs in ``memory_format``.

        For a sequence the steps, stacked into the batch, are in that format.
        """
        if inputs.dim() == 4:
            return inputs.contiguous(memory_format=self.memory_format)
        if self.split.frames is None:
            return inputs.contiguous()
        stacked = inputs.flatten(0, 1).contiguous(memory_format=self.memory_format)
        return stacked.view(inputs.shape)

    def _share(self, samples: int) -> Share | None:
        """Return what this process has of a batch; None stands for all of it."""
        if not self.train or self.group.size == 1:
            return None
        parts = split_batch(samples, self.micro_batches, self.group)
        return Share(torch.cat([part.rows for part in parts]), samples, samples)

    def _read(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.split.lazy:
            yield from map(self.split.batch, chunks)
            return
        if self.workers and not self.split.in_memory:
            yield from read_in_processes(self.split, list(chunks), self.workers)
            return
        with ThreadPoolExecutor(max_workers=1) as background:
            reads = (background.submit(self.split.batch, chunk) for chunk in chunks)
            ahead = next(reads, None)
            while ahead is not None:
                current, ahead = ahead, next(reads, None)
                yield current.result()
