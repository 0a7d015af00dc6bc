"""Kinds of files of data: images, and recordings of events in every format that is read."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from benchmarks.breaking import mutations as change
from benchmarks.breaking.kinds import Example, Kind, Runs
from leanspike.data import FolderSplit, FrameOptions, read_events, to_frames

EVENTS = [(n * 7 % 34, n * 5 % 34, 50 * n, n % 2) for n in range(60)]
"""x, y, t and polarity of each."""


def real(name: str) -> list[Example]:
    """A real recording, where LEANSPIKE_DATA has one."""
    path = Path(os.environ.get("LEANSPIKE_DATA", ".")) / "event-samples" / name
    return [(f"a{path.suffix}", path.read_bytes())] if path.is_file() else []


def idx() -> Kind:
    from leanspike.data.mnist import MNIST, read_mnist

    small = replace(MNIST, folder=".", train=20, test=10)
    files = {}
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = struct.pack(">4I", 0x803, count, 28, 28) + bytes(count * 784)
        files[f"raw/{part}-images-idx3-ubyte"] = pixels
        labels = struct.pack(">2I", 0x801, count) + bytes(n % 10 for n in range(count))
        files[f"raw/{part}-labels-idx1-ubyte"] = labels
    examples = [*files.items()]

    def packed(content: bytes, draw: Random) -> bytes:
        return change.damaged(content, draw)

    return Kind(examples, lambda path: read_mnist(path.parents[1], small), packed, beside=files)


def idx_packed() -> Kind:
    kind = idx()
    files = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in kind.examples}

    def repacked(content: bytes, draw: Random) -> bytes:
        if draw.random() < 0.5:
            return change.damaged(content, draw)
        inside = change.damaged(gzip.decompress(content), draw)
        return gzip.compress(inside + bytes(draw.choice((0, 0, 10**7))), mtime=0)

    return Kind([*files.items()], kind.read, repacked, beside=files)


def cifar_binary() -> Kind:
    from leanspike.data.cifar import CIFAR10, read_cifar

    small = replace(CIFAR10, train_images=20, test_images=4)
    counts = {**dict.fromkeys(small.train, 4), "test_batch.bin": 4}
    record = bytes([3]) + bytes(3072)
    files = {f"{small.binary}/{name}": record * count for name, count in counts.items()}
    return Kind([*files.items()], lambda path: read_cifar(path.parents[1], small), beside=files)


def cifar_pickles() -> Kind:
    from leanspike.data.cifar import CIFAR10, read_cifar

    batch = {"data": np.zeros((4, 3072), np.uint8), "labels": [0, 1, 2, 3]}
    name = f"{CIFAR10.pickled}/data_batch_1"
    hostile = [(name, pickle.dumps(Runs())), (name, pickle.dumps({"data": Runs()}))]
    return Kind(
        [(name, pickle.dumps(batch))],
        lambda path: read_cifar(path.parents[1], CIFAR10),
        hostile=hostile,
        official=True,
    )


def images() -> Kind:
    from PIL import Image

    from leanspike.data.survey import survey

    ramp = np.arange(48 * 40 * 3, dtype=np.uint32).reshape(48, 40, 3)
    whole = Image.fromarray((ramp % 251).astype(np.uint8))
    forms: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("BMP", "RGB", {}),
        ("PPM", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGBA", {"compression": "tiff_deflate"}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {}),
    ]
    examples = []
    for form, mode, options in forms:
        file = io.BytesIO()
        image = whole.convert("L").convert("I;16") if mode == "I;16" else whole.convert(mode)
        image.save(file, form, **options)
        examples.append((f"a.{form.lower()}", file.getvalue()))

    def read(path: Path) -> object:
        survey([str(path)], None, None)
        split = FolderSplit([str(path)], torch.tensor([0]), image_size=16, keep=False)
        return split.batch(torch.tensor([0]))

    return Kind(examples, read, change.in_png, [huge_png()])


def huge_png() -> Example:
    """Few bytes that claim 9,000 x 9,000 pixels."""
    import zlib

    header = struct.pack(">2I5B", 9000, 9000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    written = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return "a.png", b"\x89PNG\r\n\x1a\n" + b"".join(written)


def read_recording(path: Path) -> object:
    """Events, and the frames that a network sees."""
    return to_frames(read_events(path, sort=True), FrameOptions(timesteps=4), (8, 8))


def recordings(*examples: Example, change: Any = change.damaged, hostile: Any = ()) -> Kind:
    return Kind(examples, read_recording, change, hostile)


def nmnist() -> Kind:
    words = [(x << 32 | y << 24 | on << 23 | t).to_bytes(5, "big") for x, y, t, on in EVENTS]
    return recordings(("a.bin", b"".join(words)))


def dat() -> Kind:
    header = b"% Version 2\n% Width 640\n% Height 480\n" + bytes([12, 8])
    words = [struct.pack("<II", t, on << 28 | y << 14 | x) for x, y, t, on in EVENTS]
    return recordings(("a.dat", header + b"".join(words)), *real("tonic_sample_ncars.dat"))


def raw() -> Kind:
    from tests.data.event_files import evt2_bytes, evt3_bytes, evt3_words

    return recordings(("a.raw", evt2_bytes(EVENTS)), ("a.raw", evt3_bytes(evt3_words(EVENTS))))


def aedat() -> Kind:
    from tests.data.event_files import aedat2_bytes, aedat3_bytes, aedat3_packet

    third = aedat3_bytes(aedat3_packet(EVENTS[:30]), aedat3_packet(EVENTS[30:]))
    return recordings(("a.aedat", aedat2_bytes(EVENTS)), ("a.aedat", third))


def aedat4() -> Kind:
    from tests.data.event_files import AEDAT4, aedat4_packet

    found = real("tonic_sample.aedat4")  # nobody writes a whole one here
    return Kind(
        found or [("a.aedat4", AEDAT4 + aedat4_packet())], read_recording, official=not found
    )


def mat() -> Kind:
    import scipy.io

    train = np.zeros((101, 40))
    train[-1] = np.arange(40) / 1000
    train[5, ::3], train[17, ::2] = 1, -1
    examples = []
    for compressed in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(file, {"spiketrain": train}, do_compression=compressed)
        header = b"MATLAB 5.0 MAT-file".ljust(116)  # in which the date stands
        examples.append(("a.mat", header + file.getvalue()[116:]))
    file = io.BytesIO()
    scipy.io.savemat(file, {"spiketrain": train[:, :9]}, format="4")
    return recordings(*examples, ("a.mat", file.getvalue()), *real("tonic_sample_stmnist.mat"))


def _structured() -> Any:
    return np.array(EVENTS, dtype=[("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])


def npy() -> Kind:
    return recordings(
        ("a.npy", _written(np.save, _structured())),
        hostile=[("a.npy", _written(np.save, np.array([Runs()] * 4, dtype=object)))],
    )


def npz() -> Kind:
    columns = {name: _structured()[name] for name in "xytp"}
    return recordings(
        ("a.npz", _written(np.savez, **columns)),
        ("a.npz", _written(np.savez_compressed, **columns)),
        ("a.npz", _written(np.savez_compressed, _structured())),
        change=change.in_zip(),
        hostile=[("a.npz", _written(np.savez, x=np.array([Runs()], dtype=object)))],
    )


def hdf5() -> Kind:
    import h5py

    examples = []
    for options in ({}, {"compression": "gzip", "chunks": (20,)}):
        file = io.BytesIO()
        with h5py.File(file, "w") as target:
            group = target.create_group("events")
            for name in "xytp":
                group.create_dataset(name, data=_structured()[name], **options)
        examples.append(("a.h5", file.getvalue()))
    return recordings(*examples)


def gestures() -> Kind:
    from leanspike.data.event_sets import read_dvs128_gesture

    table = b"class,startTime_usec,endTime_usec\n1,0,1000\n2,1000,2900\n"
    (_, recording) = aedat().examples[1]
    names = {"train": b"a.aedat\n", "test": b"b.aedat\n"}
    files = {f"DvsGesture/trials_to_{part}.txt": content for part, content in names.items()}
    files |= {f"DvsGesture/{name}_labels.csv": table for name in "ab"}
    beside = {**files, **{f"DvsGesture/{name}.aedat": recording for name in "ab"}}

    def read(path: Path) -> object:
        found = read_dvs128_gesture(path.parents[1], None, FrameOptions(timesteps=2))
        return found.train.batch(torch.arange(min(2, len(found.train))))

    return Kind([*files.items()], read, beside=beside)


def _written(write: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    write(file, *arrays, **named)
    return file.getvalue()


KINDS: dict[str, Callable[[], Kind]] = {
    "IDX": idx,
    "IDX, gzipped": idx_packed,
    "CIFAR, binary": cifar_binary,
    "CIFAR, pickles": cifar_pickles,
    "images (6 formats)": images,
    "N-MNIST": nmnist,
    "DAT": dat,
    "raw (EVT 2 and 3)": raw,
    "AEDAT 2 and 3": aedat,
    "AEDAT 4": aedat4,
    "MAT": mat,
    "NPY": npy,
    "NPZ": npz,
    "HDF5": hdf5,
    "tables of gestures": gestures,
}
