"""A data set that changed since its run began."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from leanspike.data import Dataset, TensorSplit, load_dataset
from leanspike.errors import LeanspikeError
from leanspike.run.seen import check_seen, keep_seen


def changed(data: Dataset) -> Dataset:
    """The same but for one grey level of one training image."""
    pixels, labels = data.train.batch(torch.arange(len(data.train)))
    pixels[7, 0, 3, 3] = (int(pixels[7, 0, 3, 3]) + 1) % 256
    return replace(data, train=TensorSplit(pixels, labels))


def test_one_other_pixel_is_noticed(tmp_path: Path) -> None:
    data = load_dataset("digits")
    keep_seen(tmp_path, data)
    check_seen(tmp_path, data)
    with pytest.raises(
        LeanspikeError,
        match=r"digits has changed since .* began: training images of other contents or order "
        r"\(all 1294 compared\); bring those images back",
    ):
        check_seen(tmp_path, changed(data))


def test_a_record_of_before_tells_no_contents(tmp_path: Path) -> None:
    data = load_dataset("digits")
    keep_seen(tmp_path, data)
    path = tmp_path / "data.json"
    before = json.loads(path.read_text())
    del before["digests"]
    path.write_text(json.dumps(before))
    check_seen(tmp_path, changed(data))


@pytest.mark.parametrize("digest", ["", "../../x", "whole:1294", "whole:1:ab:cd", "all:3:ab"])
def test_a_record_whose_digest_is_none_is_refused(digest: str, tmp_path: Path) -> None:
    data = load_dataset("digits")
    keep_seen(tmp_path, data)
    path = tmp_path / "data.json"
    record = json.loads(path.read_text())
    record["digests"][0] = digest
    path.write_text(json.dumps(record))
    with pytest.raises(LeanspikeError, match=r"data\.json is damaged") as caught:
        check_seen(tmp_path, data)
    assert "\n" not in str(caught.value)
