import gzip

import numpy as np
import pytest

from leanspike.data.files import checked_labels, read_exactly
from leanspike.errors import DataError


def test_a_file_is_read_plain_or_gzipped(tmp_path):
    (tmp_path / "plain").write_bytes(b"abc")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"abc"))
    for name in ("plain", "packed"):
        assert read_exactly(tmp_path / name, 3, "").tobytes() == b"abc"


@pytest.mark.parametrize("found", [2, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_another_size_is_damage(tmp_path, found, packed):
    content = bytes(found)
    (tmp_path / ("x.gz" if packed else "x")).write_bytes(
        gzip.compress(content) if packed else content
    )
    with pytest.raises(DataError, match=rf"x has {found} bytes instead of 3: damaged; unpack it$"):
        read_exactly(tmp_path / "x", 3, "unpack it")


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(bytes(1000), mtime=0)[:-12], b"\x1f\x8b\x08"]
)
def test_a_broken_archive_is_one_line(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x cannot be read \(.*\); unpack it$"):
        read_exactly(tmp_path / "x", 1000, "unpack it")


def test_a_huge_archive_is_not_unpacked(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(DataError, match="x has 4 bytes instead of 3"):  # 4: it stopped there
        read_exactly(tmp_path / "x", 3, "")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"no file .*; unpack it$"):
        read_exactly(tmp_path, 3, "unpack it")


def test_a_label_out_of_range_is_named(tmp_path):
    labels = np.array([0, 9, 10, 200], dtype=np.uint8)
    with pytest.raises(DataError, match=r"x: label 10 of image 2 is not in 0\.\.9: damaged; mend"):
        checked_labels(labels, 10, tmp_path / "x", "mend")
