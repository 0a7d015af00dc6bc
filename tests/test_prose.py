"""Prose can be understood at the first reading: short sentences, one term for one thing.

Pages are held to it, and the docstrings, comments and messages of the library.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
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
SOURCE = ROOT / "src/leanspike"
PARTS = sorted(
    path.name
    for path in SOURCE.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
)
"""The packages of the library, and the modules beside them."""
BANNED = (
    *(r"\baimed (at|for)\b", r"\bhoped for\b", r"\bevery aim\b", r"\baims? (was|were|is|are) "),
    *(r"\bfolds? (of|for) (the )?(data|recordings|cross)", r"\b(\d+|two|three|five|ten) folds\b"),
    *(r"\bfolded (in|into|over)? ?(the )?(batch|time)\b", r"\btime (is |be )?folded\b"),
)
"""What was aimed at is not said, and of the words for other things "fold" is the one misused."""
INVERTED = (
    r"^(Of|That of|Those of|The same of|As of|As for|By what|By which|To what|With what) ",
    r"\bso many\b",
    r"[;:] of (a|an|the|all|each|several|two|those|others|what|one|many|labels|files) \w+( \w+)? ",
)
"""Sentences that do not begin with their subject."""
NO_VERBS = {
    *("a", "an", "the", "this", "that", "these", "those", "its", "their", "it", "they", "one"),
    *("all", "each", "every", "both", "some", "any", "no", "none", "several", "two", "such"),
    *("what", "which", "who", "whether", "how", "where", "when", "why", "while", "if", "unless"),
    *("of", "by", "as", "in", "at", "on", "from", "to", "for", "with", "without", "around"),
    *("before", "after", "under", "between", "beside", "up", "also", "here", "there", "once"),
}
"""With these the first line of a function's docstring does not begin: it says what is done."""


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
    return [count for count in map(words_in, sentences(text)) if count > 0]


def prose_of(docstring: str) -> str:
    """A docstring without equations, tables and examples; each argument is an item of a list."""
    docstring = re.sub(r"^ *=+(?: +=+)+ *\n(?:.*\S.*\n)+", "", docstring, flags=re.MULTILINE)
    lines: list[str] = []
    left_out: int | None = None  # the indentation of what introduced equations
    example = False
    for line in inspect.cleandoc(docstring).splitlines():
        indent = len(line) - len(line.lstrip())
        if left_out is not None and line.strip() and indent <= left_out:
            left_out = None
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>> "))
        if left_out is not None or example:
            continue
        if re.fullmatch(r"(Args|Returns|Raises|Example|Attributes|Yields):", line.strip()):
            lines.append("")
            continue
        if line.endswith("::"):
            left_out = indent
        entry = re.match(r" {4}[\w*, ]+: ", line)
        lines.append(f"- {line[entry.end() :]}" if entry else line)
    return re.sub(r"``[^`]*``", "code", "\n".join(lines))


@cache
def sources(part: str) -> dict[str, ast.Module]:
    """The files of a part of the library, by their path in it."""
    source = SOURCE / part
    paths = sorted(source.rglob("*.py")) if source.is_dir() else [source]
    return {str(p.relative_to(SOURCE)): ast.parse(p.read_text(encoding="utf-8")) for p in paths}


def docstrings(part: str) -> Iterator[tuple[str, str]]:
    """Each docstring of a part, and of the values that it names, by file and line."""
    for path, tree in sources(part).items():
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield f"{path}:{text.lineno}", text.value


def comments(part: str) -> Iterator[tuple[str, str]]:
    """Each comment of a part, one of several lines as a whole, but for words to tools."""
    for path in sources(part):
        yield from (
            (f"{path}:{line}", text)
            for line, text in comments_of((SOURCE / path).read_text(encoding="utf-8"))
        )


def comments_of(source: str) -> Iterator[tuple[int, str]]:
    """Each comment of a file with its line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    last, begin, words = 0, 0, ""
    for token in (each for each in tokens if each.type == tokenize.COMMENT):
        line, alone = token.start[0], token.line.lstrip().startswith("#")
        text = re.sub(r"(noqa|type: ignore|fmt:|isort:|pragma:)[^#]*(#|$)", "", token.string)
        if words and alone and line == last + 1:
            words += " " + text.strip("# ")
        else:
            if words:
                yield begin, words
            begin, words = line, text.strip("# ")
        last = line if alone else 0
    if words:
        yield begin, words


def messages(part: str) -> Iterator[tuple[str, str]]:
    """The words of each error that a part raises."""
    for path, tree in sources(part).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                for argument in node.exc.args:
                    words = [
                        each.value
                        for each in ast.walk(argument)
                        if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    ]
                    yield f"{path}:{node.lineno}", " ".join(words)


def first_lines(part: str) -> Iterator[tuple[str, str, str]]:
    """Of functions and methods that are no properties: place, name, and first line."""
    for path, tree in sources(part).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                decorators = {ast.unparse(each) for each in node.decorator_list}
                if not decorators & {"property", "cached_property", "functools.cached_property"}:
                    yield f"{path}:{node.lineno}", node.name, text.splitlines()[0]


def sentences(text: str) -> list[str]:
    """Each sentence of a text."""
    ends = r"(?<=[.?!])[)\"*_]*\s+(?=[A-Z0-9*_\"(]|code)"
    return [sentence for p in paragraphs(text) for sentence in re.split(ends, p)]


def words_in(sentence: str) -> int:
    return len(re.findall(r"[^\W_][\w'.,%×/·−-]*", sentence))


def not_said(text: str) -> list[str]:
    """The words in a text that the glossary, or this file, replaces by others."""
    text = " ".join(text.split())
    found = [match[0] for word in BANNED if (match := re.search(word, text, re.IGNORECASE))]
    return found + [w for w in synonyms() if re.search(rf"\b{w}s?\b", text, re.IGNORECASE)]


@cache
def spoken(part: str) -> list[tuple[str, str]]:
    """All prose of a part: docstrings without equations and examples, and comments."""
    return [
        *((place, prose_of(text)) for place, text in docstrings(part)),
        *((place, re.sub(r"``[^`]*``", "code", text)) for place, text in comments(part)),
    ]


def long_sentences(part: str) -> list[object]:
    counts = {place: lengths(text) for place, text in spoken(part)}
    every = [count for found in counts.values() for count in found]
    on_average = sum(every) / max(1, len(every))
    long: list[object] = [
        place for place, found in counts.items() if max(found, default=0) > LONGEST
    ]
    return long if on_average < MOST_WORDS else [on_average, *long]


def other_terms(part: str) -> list[object]:
    texts = [*spoken(part), *messages(part)]
    return [(place, words) for place, text in texts if (words := not_said(plain(text)))]


def inversions(part: str) -> list[object]:
    return [
        (place, sentence)
        for place, text in spoken(part)
        for sentence in sentences(text)
        if any(re.search(inverted, sentence) for inverted in INVERTED)
    ]


def nouns_first(part: str) -> list[object]:
    """Functions that are not said by a verb; private ones may be questions, "Whether ..."."""
    return [
        (place, name, line)
        for place, name, line in first_lines(part)
        if not is_said_by_a_verb(line)
        and not (name.startswith("_") and line.startswith("Whether "))
    ]


def is_said_by_a_verb(line: str) -> bool:
    first = re.match(r"[A-Z][a-z]+\b", line)
    return bool(first) and first[0].lower() not in NO_VERBS


BROKEN: dict[str, Callable[[str], list[object]]] = {
    "short sentences": long_sentences,
    "one term for one thing": other_terms,
    "the subject first": inversions,
    "what a function does begins with a verb": nouns_first,
}
"""By rule: what in a part of the library breaks it."""


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
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


@pytest.mark.parametrize("rule", BROKEN)
@pytest.mark.parametrize("part", PARTS)
def test_the_library_keeps_the_rule(rule: str, part: str) -> None:
    assert BROKEN[rule](part) == []


@pytest.mark.parametrize("page", PAGES)
def test_one_term_for_one_thing(page: str) -> None:
    assert not_said(plain(read(page).partition("## Words that are not used")[0])) == []


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


def test_words_of_docstrings_are_counted() -> None:
    text = """What it is.

    The equation::

        u = a b c d e f g h

    Args:
        first: three words here. Two more, in ``code of four words``.
            They go on.
        second: x.

    >>> one two three four
    five six
    """
    assert lengths(prose_of(text)) == [3, 2, 3, 4, 3, 1]
    assert sum(1 for _ in docstrings("surrogate.py")) > 5


def test_comments_are_found() -> None:
    source = (
        "x = 1  # why it is so\n# one that goes\n# on here\ny = '#'  # noqa: E501\n"
        "z = 2  # noqa: A001  # other words\n"
    )
    assert list(comments_of(source)) == [
        (1, "why it is so"),
        (2, "one that goes on here"),
        (5, "other words"),
    ]
    assert sum(1 for part in PARTS for _ in comments(part)) > 100


def test_messages_and_first_lines_are_found() -> None:
    assert any("give 1 or more" in text for _, text in messages("temporal"))
    assert ("stack", "Return ``[T, N, ...]`` as ``[T*N, ...]``.") in {
        (name, line) for _, name, line in first_lines("temporal")
    }


def test_inversions_and_nouns_are_noticed() -> None:
    for sentence in ("Of each layer the rate counts.", "It is wide; of a GPU the memory is not."):
        assert any(re.search(inverted, sentence) for inverted in INVERTED), sentence
    for sentence in ("The rate of each layer counts.", "Often it is wide."):
        assert not any(re.search(inverted, sentence) for inverted in INVERTED), sentence
    assert not is_said_by_a_verb("The rates of all layers.")
    assert not is_said_by_a_verb("``[T, N]`` to ``[T*N]``.")
    assert is_said_by_a_verb("Return the rates of all layers.")


def test_what_is_not_said_is_noticed() -> None:
    said = ("87 was aimed at", "every aim is met", "the five folds are tested", "the folded batch")
    for text in said:
        assert any(re.search(word, text) for word in BANNED), text
    for text in ("norms are folded", "the factor folds into the weights", "it claimed at most"):
        assert not any(re.search(word, text) for word in BANNED), text
    assert {"firing rate", "time step", "snapshot"} <= set(synonyms())
