"""Data sets, augmentation, and batches that are a function of (seed, epoch, step).

Images in files become a split that decodes them when a batch asks for them:

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> import torch
>>> from PIL import Image
>>> with TemporaryDirectory() as folder:
...     path = Path(folder, "red.png")
...     Image.new("RGB", (4, 2), "red").save(path)
...     split = FolderSplit([str(path)], torch.tensor([0]), image_size=2, keep=False)
...     images, labels = split.batch(torch.tensor([0]))
>>> images.shape, images[0, :, 0, 0].tolist(), labels.tolist()
(torch.Size([1, 3, 2, 2]), [255, 0, 0], [0])

A recording of an event camera becomes frames, one for each timestep:

>>> with TemporaryDirectory() as folder:
...     path = Path(folder, "0.bin")
...     _ = path.write_bytes(bytes([3, 5, 0x80, 0, 7, 3, 5, 0, 0, 9]))  # ON at 7 µs, OFF at 9 µs
...     events = read_events(path)
>>> events.t.tolist(), events.polarity.tolist()
([7, 9], [True, False])
>>> to_frames(events, FrameOptions(timesteps=2)).shape
(2, 2, 34, 34)
"""

from leanspike.data.augment import Augment
from leanspike.data.cifar_c import cifar_c_names, read_cifar_c
from leanspike.data.common_corruptions import COMMON_CORRUPTIONS, CommonCorruptedSplit
from leanspike.data.corrupted import CorruptedSplit
from leanspike.data.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt
from leanspike.data.event_augment import EventAugment
from leanspike.data.events import Events, read_events
from leanspike.data.folder import FolderSplit
from leanspike.data.frames import FrameOptions, to_frames
from leanspike.data.images import Dataset, describe, load_dataset
from leanspike.data.loader import Loader, generator_for, normalise
from leanspike.data.named import DATASETS, Source, datasets
from leanspike.data.small import synthetic
from leanspike.data.split import Parts, Split, TensorSplit, stratified

__all__ = [
    "COMMON_CORRUPTIONS",
    "CORRUPTIONS",
    "DATASETS",
    "SEVERITIES",
    "Augment",
    "CommonCorruptedSplit",
    "CorruptedSplit",
    "Corruption",
    "Dataset",
    "EventAugment",
    "Events",
    "FolderSplit",
    "FrameOptions",
    "Loader",
    "Parts",
    "Source",
    "Split",
    "TensorSplit",
    "cifar_c_names",
    "corrupt",
    "datasets",
    "describe",
    "generator_for",
    "load_dataset",
    "normalise",
    "read_cifar_c",
    "read_events",
    "stratified",
    "synthetic",
    "to_frames",
]
