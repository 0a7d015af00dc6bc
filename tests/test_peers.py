"""The page for users of other libraries: each pair of its blocks computes the same spikes."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import pytest

from leanspike.optional import installed
from test_docs import Block, assert_alike, blocks, read

PAGE = "docs/peers.md"
PEERS = {"SpikingJelly": "spikingjelly", "snnTorch": "snntorch", "Norse": "norse"}


def line_of(heading: str) -> int:
    text = read(PAGE)
    return text[: text.index(f"\n## {heading}\n")].count("\n")


def of_section(heading: str) -> list[Block]:
    """The page's blocks from this heading to the next one of its kind."""
    after = [line_of(name) for name in re.findall(r"^## (.*)$", read(PAGE), re.MULTILINE)]
    begin = line_of(heading)
    end = min([line for line in after if line > begin], default=10**6)
    return [block for block in blocks(PAGE) if begin < block.line < end]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.filterwarnings("default")  # theirs: they use what PyTorch calls deprecated
def test_the_pairs_of_a_library_compute_the_same(
    peer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec(PEERS[peer]) is None:
        pytest.skip(f"{peer} is not installed: pip install '.[peers]'")
    namespace: dict[str, Any] = {"__name__": "document"}
    [inputs] = of_section("What is different")
    pairs = of_section(peer)
    assert [block.language for block in pairs] == ["python", "text"] * (len(pairs) // 2)
    assert len(pairs) >= 4
    for block in (inputs, *pairs):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, PAGE, "exec"), namespace)
        else:
            printed = capsys.readouterr().out
            assert_alike(printed, block.text)
            differing = re.findall(r": (\d+) \d+$", printed, re.MULTILINE)
            assert set(differing) <= {"0"}, printed  # no spike, also within the tolerance above


def test_the_page_names_the_versions_that_it_was_run_with() -> None:
    for peer, package in PEERS.items():
        named = re.search(rf"{peer} (\d+\.\d+)\.\d+", read(PAGE))
        assert named is not None
        if version := installed(package):
            assert version.startswith(named[1]), (peer, version)
