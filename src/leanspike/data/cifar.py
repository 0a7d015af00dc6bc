"""CIFAR-10 and CIFAR-100 in the two official layouts (https://www.cs.toronto.edu/~kriz/cifar.html).

- Binary: records of one label byte (CIFAR-100: coarse, then fine) and 3x32x32 pixel bytes.
- Python: pickles. A pickle can run any code. So torchvision reads these: it compares each file's
  MD5 with the official one before it opens the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from leanspike.data.files import checked_labels, read_exactly
from leanspike.data.split import Parts, TensorSplit
from leanspike.errors import DataError
from leanspike.optional import import_optional


@dataclass(frozen=True)
class Cifar:
    """One data set: its folders, and the files and number of images of its binary layout.

    ``label_bytes`` precede the pixels of a record; the last of them is the label. ``pickled`` is
    the folder of the Python layout, and ``reader`` is the class of ``torchvision.datasets`` for it.
    """

    binary: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    train_images: int
    test_images: int
    label_bytes: int
    pickled: str
    reader: str
    classes: tuple[str, ...]
    url: str


CIFAR10 = Cifar(
    binary="cifar-10-batches-bin",
    train=tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
    test=("test_batch.bin",),
    train_images=50000,
    test_images=10000,
    label_bytes=1,
    pickled="cifar-10-batches-py",
    reader="CIFAR10",
    classes=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)
_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = Cifar(
    binary="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    train_images=50000,
    test_images=10000,
    label_bytes=2,
    pickled="cifar-100-python",
    reader="CIFAR100",
    classes=tuple(_CIFAR100_CLASSES.split()),
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
)


def read_cifar(root: Path, cifar: Cifar) -> Parts:
    """Read all images of ``cifar`` under ``root``, uint8 [N, 3, 32, 32].

    The binary layout goes first: it needs neither pickle nor torchvision.

    Raises:
        DataError: if no layout is there, or its files are damaged.

    >>> read_cifar(Path("nowhere"), CIFAR10)
    Traceback (most recent call last):
    leanspike.errors.DataError: neither cifar-10-batches-bin nor cifar-10-batches-py in nowhere; ...
    """
    if (root / cifar.binary).is_dir():
        return Parts(
            cifar.classes,
            train=_read_binary(root, cifar.train, cifar.train_images, cifar),
            test=_read_binary(root, cifar.test, cifar.test_images, cifar),
        )
    if (root / cifar.pickled).is_dir():
        return Parts(
            cifar.classes,
            train=_read_pickled(root, cifar, train=True),
            test=_read_pickled(root, cifar, train=False),
        )
    raise DataError(f"neither {cifar.binary} nor {cifar.pickled} in {root}; {_remedy(root, cifar)}")


def _read_binary(root: Path, names: tuple[str, ...], images: int, cifar: Cifar) -> TensorSplit:
    remedy = _remedy(root, cifar)
    record = cifar.label_bytes + 3 * 32 * 32
    records, labels = [], []
    for name in names:
        path = root / cifar.binary / name
        content = read_exactly(path, images // len(names) * record, remedy).reshape(-1, record)
        column = content[:, cifar.label_bytes - 1]
        labels.append(checked_labels(column, len(cifar.classes), path, remedy))
        records.append(content[:, cifar.label_bytes :])
    pixels = np.concatenate(records).reshape(images, 3, 32, 32)
    return TensorSplit(torch.from_numpy(pixels), torch.cat(labels))


def _read_pickled(root: Path, cifar: Cifar, *, train: bool) -> TensorSplit:
    reader = getattr(import_optional("torchvision.datasets", "vision"), cifar.reader)
    try:
        found = reader(root, train=train, download=False)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{root / cifar.pickled} is incomplete or damaged (a file's MD5 is not the official "
            f"one); {_remedy(root, cifar)}"
        ) from error
    pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return TensorSplit(pixels, torch.tensor(found.targets))


def _remedy(root: Path, cifar: Cifar) -> str:
    return f"unpack {cifar.url} in {root}, or set LEANSPIKE_DATA to where it is"
