"""The pages can be understood at the first reading: short sentences, one term for one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from leanspike.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *ROOT.glob("*.md"),
        *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
        *(ROOT / "benchmarks").rglob("*.md"),
        ROOT / "results/README.md",
    )
)
MOST_WORDS = 25
"""Of a sentence, on average over a page."""
FIRST_READ = ("README.md", "docs/index.md", "docs/glossary.md", "docs/peers.md", "docs/stable.md")
LONGEST = 35
"""Words of any sentence on the pages that are read first."""
BANNED = (
    *(r"\baimed (at|for)\b", r"\bhoped for\b", r"\bevery aim\b", r"\baims? (was|were|is|are) "),
    *(r"\bfolds? (of|for) (the )?(data|recordings|cross)", r"\b(\d+|two|three|five|ten) folds\b"),
    *(r"\bfolded (in|into|over)? ?(the )?(batch|time)\b", r"\btime (is |be )?folded\b"),
)
"""What was aimed at is not said, and of the words for other things "fold" is the one misused."""


def plain(text: str) -> str:
    """The text without code, comments and the targets of links."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^``` *$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"(\{[\w:]+\})?`[^`]*`", "code", text)


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs and items of lists, without headings and tables."""
    lines: list[str] = []
    for line in [*plain(text).splitlines(), ""]:
        item = re.match(r"\s*(?:[-*]|\d+\.) ", line)
        other = not line.strip() or line.lstrip().startswith(("|", "#"))
        if (item or other) and lines:
            yield " ".join(lines)
            lines = []
        if not other:
            lines.append(line[item.end() if item else 0 :].strip())


def lengths(text: str) -> list[int]:
    """The words of each sentence."""
    ends = r"(?<=[.?!])[)\"*_]*\s+(?=[A-Z0-9*_\"(]|code)"
    sentences = [sentence for p in paragraphs(text) for sentence in re.split(ends, p)]
    counts = [len(re.findall(r"[^\W_][\w'.,%×/·−-]*", sentence)) for sentence in sentences]
    return [count for count in counts if count > 0]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def synonyms() -> list[str]:
    """What the glossary says is not said."""
    table = read("docs/glossary.md").partition("## Words that are not used")[2]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    assert rows[0] == "not"
    return [word for row in rows[1:] for word in row.split(", ")]


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page: str) -> None:
    counts = lengths(read(page))
    if counts:
        assert sum(counts) / len(counts) < MOST_WORDS


@pytest.mark.parametrize("page", FIRST_READ)
def test_no_sentence_is_long_where_a_reader_begins(page: str) -> None:
    text = plain(read(page))
    assert max(lengths(read(page))) <= LONGEST, text


@pytest.mark.parametrize("page", PAGES)
def test_one_term_for_one_thing(page: str) -> None:
    text = read(page).partition("## Words that are not used")[0]
    text = " ".join(plain(text).split())
    found = [match[0] for word in BANNED if (match := re.search(word, text, re.IGNORECASE))]
    found += [word for word in synonyms() if re.search(rf"\b{word}s?\b", text, re.IGNORECASE)]
    assert found == []


def test_help_is_short() -> None:
    """The text of each command, without its examples."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    inner = [c for group in commands.values() for c in getattr(group, "commands", {}).values()]
    assert len(inner) >= 2
    for command in (*commands.values(), *inner):
        counts = lengths((command.help or "").partition("Examples:")[0])
        assert counts, command.name
        assert sum(counts) / len(counts) < MOST_WORDS, command.name


def test_the_glossary_has_each_term_once_and_is_linked() -> None:
    text = read("docs/glossary.md").partition("## Words that are not used")[0]
    terms = [term.lower() for term in re.findall(r"^- \*\*(.+?)\*\*", text, re.MULTILINE)]
    assert len(terms) > 40
    assert [term for term in terms if terms.count(term) > 1] == []
    for page, link in (("README.md", "docs/glossary.md"), ("docs/index.md", "glossary.md")):
        assert f"]({link}" in read(page)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("One fact. And `a b c` another?\n\n| a | table |\n|---|---|\n", [2, 3]),
        ("# Heading\n- an item\n- the next one\n  goes on.\n", [2, 5]),
        ("```sh\nfour words of code\n```\nSee [the page](a/b.md), at T = 2.5 here.", [7]),
    ],
)
def test_words_are_counted(text: str, counts: list[int]) -> None:
    assert lengths(text) == counts


def test_what_is_not_said_is_noticed() -> None:
    said = ("87 was aimed at", "every aim is met", "the five folds are tested", "the folded batch")
    for text in said:
        assert any(re.search(word, text) for word in BANNED), text
    for text in ("norms are folded", "the factor folds into the weights", "it claimed at most"):
        assert not any(re.search(word, text) for word in BANNED), text
    assert {"firing rate", "time step", "snapshot"} <= set(synonyms())
