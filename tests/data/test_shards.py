import io
import json
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch

from leanspike.data import load_dataset, shard_index
from leanspike.data.digest import digest_of
from leanspike.data.folder import read_image_folder
from leanspike.data.loader import Loader
from leanspike.data.members import Member
from leanspike.data.shards import read_shards
from leanspike.errors import DataError

Image = pytest.importorskip("PIL.Image")
CONSTANTS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def samples(numbers, classes=2):
    """Members of samples whose image and class are functions of their number."""
    for number in numbers:
        yield f"{number:04}.png", png(number)
        yield f"{number:04}.cls", str(number % classes).encode()


@pytest.fixture
def tree(tmp_path):
    """Nine training images in two tar files, and two to validate."""
    write_tar(tmp_path / "train" / "000000.tar", samples(range(5)))
    write_tar(tmp_path / "train" / "000001.tar", samples(range(5, 9)))
    write_tar(tmp_path / "val" / "000000.tar", samples(range(9, 11)))
    return tmp_path


def folder_of(root, numbers=range(9), held=range(9, 11)):
    """The same images as files."""
    for part, its in (("train", numbers), ("val", held)):
        for number in its:
            path = root / part / str(number % 2) / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number))
    return root


def everything(split):
    return split.batch(torch.arange(len(split)))


def test_images_and_labels_are_those_of_the_samples(tree):
    parts = read_shards(tree, None)
    assert parts.classes == ("0", "1")
    assert (len(parts.train), len(parts.test), parts.val) == (9, 2, None)
    assert parts.train.labels.tolist() == [n % 2 for n in range(9)]
    found, _ = parts.train.batch(torch.tensor([7, 0, 7]))
    for row, number in zip(found, (7, 0, 7), strict=True):
        expected = np.asarray(Image.open(io.BytesIO(png(number)))).transpose(2, 0, 1)
        assert np.array_equal(row, expected)
    part = parts.train.select(torch.tensor([8, 1]))
    assert torch.equal(part.batch(torch.tensor([1]))[0], parts.train.batch(torch.tensor([1]))[0])


def test_an_epoch_is_the_folders_where_the_order_of_the_images_is(tmp_path):
    """The same permutation: of image n in either layout, whatever the shards are."""
    ordered = sorted(range(8), key=lambda number: (number % 2, number))  # as folders list them
    write_tar(tmp_path / "tars" / "train" / "0.tar", samples(ordered[:3]))
    write_tar(tmp_path / "tars" / "train" / "1.tar", samples(ordered[3:]))
    write_tar(tmp_path / "tars" / "val" / "0.tar", samples([8, 9]))
    folder = read_image_folder(folder_of(tmp_path / "files", range(8), [8, 9]), 8).train
    tars = read_shards(tmp_path / "tars", 8).train
    how = {"batch_size": 3, **CONSTANTS, "seed": 5, "train": True}
    for epoch in (0, 1):
        one, two = (list(Loader(split, **how).epoch(epoch)) for split in (folder, tars))
        assert all(
            torch.equal(a, b)
            for x, y in zip(one, two, strict=True)
            for a, b in zip(x, y, strict=True)
        )


def test_an_epoch_goes_on_at_any_step_bit_for_bit(tree):
    loader = Loader(read_shards(tree, 8).train, batch_size=2, **CONSTANTS, seed=1, train=True)
    whole = list(loader.epoch(2))
    for start in range(len(loader) + 1):
        rest = list(loader.epoch(2, start))
        assert len(rest) == len(whole) - start
        for (x, y), (a, b) in zip(rest, whole[start:], strict=True):
            assert torch.equal(x, a)
            assert torch.equal(y, b)


def test_names_of_classes_come_from_labels_or_a_file(tree):
    (tree / "classes.txt").write_text("cat\ndog\n")
    assert read_shards(tree, 8).classes == ("cat", "dog")
    write_tar(tree / "val" / "000000.tar", [("a/x.png", png(0)), ("a/x.cls", b"2\n")])
    with pytest.raises(
        DataError, match=r"val/000000.tar: a/x.png is of class '2', and .* has 2 cl"
    ):
        read_shards(tree, 8)
    (tree / "classes.txt").write_text("cat\ndog\neel\n")  # as advised
    assert read_shards(tree, 8).test.labels.tolist() == [2]
    (tree / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match=r"classes.txt must name each class once"):
        read_shards(tree, 8)


@pytest.mark.parametrize("key", ["label", "cls"])
def test_labels_may_be_names_and_stand_in_json(tmp_path, key):
    def said(number, label):
        return [
            (f"{number}.jpg", png(number)),
            (f"{number}.json", json.dumps({key: label, "more": [1]}).encode()),
            (f"{number}.txt", b"passed over"),
        ]

    members = [*said(0, "dog"), *said(1, "cat"), *said(2, "dog")]
    write_tar(tmp_path / "images-train-0.tar", members)
    write_tar(tmp_path / "images-val-0.tar", said(3, "cat"))
    parts = read_shards(tmp_path, 8)
    assert parts.classes == ("cat", "dog")
    assert parts.train.labels.tolist() == [1, 0, 1]
    assert parts.test.labels.tolist() == [0]


def test_tar_files_without_parts_give_a_fifth_to_the_test(tmp_path):
    write_tar(tmp_path / "0.tar", samples(range(10)))
    parts = read_shards(tmp_path, None)
    assert (len(parts.train), len(parts.test)) == (8, 2)
    assert parts.notes == (
        f"{tmp_path} has no tar files to test or validate: a fixed fifth of each class tests",
    )


def test_the_index_is_read_once_and_again_when_a_file_changes(tree, monkeypatch):
    before = everything(read_shards(tree, 8).train)[0]
    kept = list(tree.glob(".leanspike-*.npz"))
    assert len(kept) == 1
    read, original = [], shard_index.read_shard
    monkeypatch.setattr(shard_index, "read_shard", lambda path: read.append(path) or original(path))
    assert torch.equal(everything(read_shards(tree, 8).train)[0], before)
    assert read == []
    kept[0].write_bytes(kept[0].read_bytes()[:50])  # damaged: read again
    assert torch.equal(everything(read_shards(tree, 8).train)[0], before)
    assert len(read) == 3
    write_tar(tree / "train" / "000001.tar", samples(range(20, 25)))
    assert len(read_shards(tree, 8).train) == 10
    assert len(read) == 6


def test_the_index_is_kept_in_the_cache_or_not_at_all(tree, monkeypatch, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LEANSPIKE_CACHE", str(cache))
    read_shards(tree, 8).train.batch(torch.tensor([0]))
    assert not list(tree.glob(".leanspike-*"))
    assert len(list(cache.glob(".leanspike-*.npz"))) == 1
    (cache / "file").write_text("")
    monkeypatch.setenv("LEANSPIKE_CACHE", str(cache / "file"))  # which no folder can be
    assert len(read_shards(tree, 8, 3).train) == 9


def test_decoded_images_are_kept_in_the_cache(tree, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("LEANSPIKE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("leanspike.data.folder.KEEP_BYTES", 0)
    before = everything(read_shards(tree, 8).train)[0]
    monkeypatch.setattr("leanspike.data.folder.decode", None)
    assert torch.equal(everything(read_shards(tree, 8).train)[0], before)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.png", b"")], r"0.tar: 1 has an image and no label; put 1.cls beside it"),
        ([("1.cls", b"0"), ("2.png", b"")], r"0.tar: 2 has an image and no label"),
        ([("1.png", b""), ("1.cls", b" ")], r"0.tar: 1.cls is no label; put the number or name"),
        ([("1.png", b""), ("1.cls", b"\xff")], r"0.tar: 1.cls is no label"),
        ([("1.png", b""), ("1.json", b'{"a": 1}')], r"0.tar: 1 has an image and no label"),
        ([("1.png", b""), ("1.json", b"[" * 5000)], r"0.tar: 1 has an image and no label"),
        ([("1.png", b""), ("1.jpg", b"")], r"0.tar: 1 has two images, the second is 1.jpg"),
        ([("1\n.png", b"")], r"0.tar: 1\? has an image and no label; put 1\?.cls beside it"),
        ([("1.txt", b"")], r"no images in \S+0.tar; put some there \(.bmp, "),
        ([("1.png", b""), ("1.cls", b"0")], r"has one class only, 0; two or more"),
        ([("1.png", b""), ("1.cls", b"5000")], r"go up to 5000; number classes from 0 on"),
    ],
)
def test_samples_that_are_none_are_refused_by_name(tmp_path, members, message):
    write_tar(tmp_path / "0.tar", members)
    with pytest.raises(DataError, match=message) as error:
        read_shards(tmp_path, 8, 3)
    assert "\n" not in str(error.value)


def test_damaged_and_packed_tar_files_are_named(tree):
    path = tree / "train" / "000001.tar"
    whole = path.read_bytes()
    for length in (0, 100, 600, 1024, len(whole) // 2, 1536):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"000001.tar is damaged; copy it again \(.*\)$"):
            read_shards(tree, 8)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    with pytest.raises(DataError, match=r"is damaged or packed; unpack it \(gunzip\), or copy it"):
        read_shards(tree, 8)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"000001.tar cannot be read \(Is a directory\)"):
        read_shards(tree, 8)


def test_a_missing_root_and_one_without_tar_files_say_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"no tar files in \S+; expected \S+/train/000000.tar with"):
        read_shards(tmp_path, 8)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"unpack 0.tar.gz and the like \(gunzip\)"):
        read_shards(tmp_path, 8)
    write_tar(tmp_path / "val" / "0.tar", samples([0]))
    with pytest.raises(DataError, match=r"no tar files of the training images in"):
        read_shards(tmp_path, 8)


def test_bad_images_are_refused_by_name_or_skipped_where_asked(tree):
    write_tar(tree / "train" / "000001.tar", [*samples([5]), ("6.png", b"no"), ("6.cls", b"0")])
    with pytest.raises(
        DataError, match=r"000001.tar: 6.png \(Unidentified.*data.options.skip_bad=true$"
    ):
        everything(read_shards(tree, 8, 3).train)
    parts = read_shards(tree, None, None, True)
    assert len(parts.train) == 6
    assert len(everything(parts.train)[0]) == 6
    note = next(note for note in parts.notes if "bad" in note)
    assert note.startswith(f"1 of 9 images are bad and left out: {tree}/train/000001.tar: 6.png (U")


def test_a_tar_file_that_became_shorter_is_an_error_of_one_line(tree):
    split = read_shards(tree, 8, 3).train
    path = tree / "train" / "000001.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"000001.tar: .* \(OSError: the file ends after"):
        split.batch(torch.tensor([8]))


def test_the_data_set_is_called_webdataset(tree):
    data = load_dataset("webdataset", tree, validation=2, options={"image_size": 4})
    assert data.shape == (3, 4, 4)
    assert (len(data.train), len(data.val), len(data.test)) == (7, 2, 2)
    with pytest.raises(DataError, match="data set digits has no option 'skip_bad'; it has none"):
        load_dataset("digits", options={"skip_bad": True})


def test_long_names_are_told_as_they_are(tmp_path):
    name = "folder/" * 20 + "x.png"
    write_tar(
        tmp_path / "0.tar", [(name, b"no"), (name.replace("png", "cls"), b"1"), *samples([0])]
    )
    [_, second] = [
        Member(str(tmp_path / "0.tar"), o, n)
        for o, n, _ in shard_index.read_shard(str(tmp_path / "0.tar"))
    ]
    assert str(second).endswith("0.tar: 0000.png")


def test_an_image_in_a_tar_of_more_pixels_than_it_can_hold_is_refused_and_skipped(tree):
    image = png(9)
    start = image.index(b"IHDR")
    part = b"IHDR" + struct.pack(">2I", 9000, 9000) + image[start + 12 : start + 17]
    huge = image[:start] + part + struct.pack(">I", zlib.crc32(part)) + image[start + 21 :]
    write_tar(tree / "train" / "000002.tar", [("9.png", huge), ("9.cls", b"1")])
    split = read_shards(tree, 8, 3).train
    with pytest.raises(DataError, match="9000x9000 pixels are more than such a file can hold"):
        split.batch(torch.tensor([len(split) - 1]))
    parts = read_shards(tree, 8, 3, True)
    assert len(parts.train) == 9
    assert "9000x9000 pixels are more than such a file can hold" in parts.notes[-1]


def test_contents_and_sizes_of_images_in_tar_files_count_in_the_digest(tree):
    then = digest_of(read_shards(tree, 8, 3).train)
    assert then.startswith("sampled:9 of 9:")
    path = tree / "train" / "000000.tar"
    content = path.read_bytes()
    place = content.index(png(3)) + len(png(3)) - 5
    path.write_bytes(content[:place] + b"x" + content[place + 1 :])
    assert digest_of(read_shards(tree, 8, 3).train) != then


def test_a_sample_is_named_by_its_tar_file(tree):
    loader = Loader(read_shards(tree, 8, 3).train, batch_size=2, seed=0, train=False, **CONSTANTS)
    assert loader.name_of(0, step=3, place=0) == f"6 ({tree}/train/000001.tar: 0006.png)"
