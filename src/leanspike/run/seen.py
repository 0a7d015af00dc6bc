"""The record of a run's data in its folder, by which images that change later are noticed."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from leanspike.data import Dataset
from leanspike.data.digest import digest_of
from leanspike.errors import LeanspikeError
from leanspike.files import checked_json, write_text

DATA = "data.json"
GREY_LEVEL = 1 / 255
"""Constants that differ by less may come from another decoder of the same images."""


Digest = Annotated[str, StringConstraints(pattern=r"^(whole:\d+|sampled:\d+ of \d+):[0-9a-f]+$")]
"""A digest, behind a note of what it was computed from."""


class Seen(BaseModel):
    """The record of a data set: the images' shape and classes, the sizes of splits, mean and std.

    ``digests`` are those of training, validation and test images, see ``leanspike.data.digest``.
    Runs of earlier versions have none.

    >>> from leanspike.data import load_dataset
    >>> Seen.of(load_dataset("digits")).test
    359
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    train: int
    val: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digests: tuple[Digest, Digest, Digest] | None = None

    @classmethod
    def of(cls, data: Dataset) -> Seen:
        """Return the record of a data set."""
        return cls(
            shape=data.shape,
            classes=data.classes,
            train=len(data.train),
            val=len(data.val),
            test=len(data.test),
            mean=data.mean,
            std=data.std,
            digests=(digest_of(data.train), digest_of(data.val), digest_of(data.test)),
        )

    def _contents(self, now: Seen) -> Iterator[str]:
        """Yield the splits that hold as many images as before, but other ones."""
        if self.digests is None or now.digests is None or self.shape != now.shape:
            return
        names = ("training", "validation", "test")
        for name, was, is_now in zip(names, self.digests, now.digests, strict=True):
            if was != is_now and was.split(":")[1] == is_now.split(":")[1]:
                yield f"{name} images of other contents or order ({_compared(was)})"

    def changes(self, now: Seen) -> Iterator[str]:
        """Yield in words what has changed.

        >>> then = Seen(shape=(1, 8, 8), classes=("cat", "dog"), train=8, val=1, test=2,
        ...             mean=(0.5,), std=(0.2,))
        >>> list(then.changes(then.model_copy(update={"shape": (1, 9, 9), "classes": ("cat", "eel"),
        ...                                           "test": 3})))
        ['images of 1x8x8, now 1x9x9', 'class 1 dog, now eel', '2 test images, now 3']
        """
        if self.shape != now.shape:
            then, new = ("x".join(map(str, seen.shape)) for seen in (self, now))
            yield f"images of {then}, now {new}"
        if len(self.classes) != len(now.classes):
            yield f"{len(self.classes)} classes, now {len(now.classes)}"
        for number, (old, new) in enumerate(zip(self.classes, now.classes, strict=False)):
            if old != new:
                yield f"class {number} {old}, now {new}"
                break
        for part, count in (("train", "training"), ("val", "validation"), ("test", "test")):
            was, is_now = getattr(self, part), getattr(now, part)
            if was != is_now:
                yield f"{was:,} {count} images, now {is_now:,}"
        yield from self._contents(now)
        for name, was, is_now in (("mean", self.mean, now.mean), ("std", self.std, now.std)):
            pairs = zip(was, is_now, strict=False)
            if not all(isclose(a, b, rel_tol=0, abs_tol=GREY_LEVEL) for a, b in pairs):
                yield f"{name} {', '.join(map(str, was))}, now {', '.join(map(str, is_now))}"


def _compared(digest: str) -> str:
    """Return in words what a digest was computed from.

    >>> _compared("whole:80:12ab"), _compared("sampled:256 of 60000:12ab")
    ('all 80 compared', 'names, sizes and 256 of 60000 compared')
    """
    how, count, _ = digest.split(":")
    return f"all {count} compared" if how == "whole" else f"names, sizes and {count} compared"


def keep_seen(folder: Path, data: Dataset) -> None:
    """Write the record of a run's data, unless it was written before."""
    if not (folder / DATA).is_file():
        write_text(folder / DATA, Seen.of(data).model_dump_json(indent=1))


def check_seen(folder: Path, data: Dataset) -> None:
    """Raise LeanspikeError if the data are not those with which the run in the folder began.

    A split of other images may hold some that were trained on, and other constants are another
    scale of the pixels. So such data are neither measured nor trained on.
    """
    changes = changes_since(folder, data)
    if changes:
        raise LeanspikeError(
            f"{data.name} has changed since {folder} began: {changes}; bring those images back, or "
            "begin another run (train with another --out)"
        )


def changes_since(folder: Path, data: Dataset) -> str:
    """Return in words how the data differ from those of the folder's run, or ""."""
    path = folder / DATA
    if not path.is_file():
        return ""
    try:
        then = Seen.model_validate_json(checked_json(path.read_text(errors="replace")))
    except ValueError:  # ValidationError among them
        raise LeanspikeError(
            f"{path} is damaged; remove it (the record of the first data is lost)"
        ) from None
    return "; ".join(then.changes(Seen.of(data)))
