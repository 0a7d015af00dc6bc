import pytest

from leanspike.errors import LeanspikeError
from leanspike.train import read_log, write_log


def test_a_log_reads_as_it_was_written(tmp_path):
    rows = [{"event": "epoch", "epoch": 1}, {"event": "epoch", "epoch": 2}]
    write_log(tmp_path / "log.jsonl", rows)
    assert read_log(tmp_path / "log.jsonl") == rows
    assert read_log(tmp_path / "nothing.jsonl") == []


@pytest.mark.parametrize("damage", [b'{"event": "ep', b"[1]", b"\xff\xfe"])
def test_a_damaged_log_says_where(tmp_path, damage):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + damage)
    with pytest.raises(LeanspikeError, match=r"log\.jsonl, line 2 is"):
        read_log(path)
