"""The words are true: code blocks run, command lines parse or run, links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

import leanspike
from leanspike.cli import app
from leanspike.recipes import load_recipe, recipes

ROOT = Path(__file__).parents[1]
RUNNABLE = (
    *("README.md", "docs/tutorial.md", "docs/scratch.md", "docs/convert.md", "docs/images.md"),
    *("docs/choose.md", "docs/where.md", "docs/cost.md", "docs/engine.md", "docs/ship.md"),
)
DOCUMENTS = (
    *(*RUNNABLE, "CHANGELOG.md", "benchmarks/README.md", "docs/design.md", "docs/log.md"),
    *("docs/index.md", "docs/methods.md", "docs/reference/index.md", "docs/stable.md"),
    *("docs/glossary.md", "docs/peers.md", "docs/survives.md"),
    *("docs/reference/recipes.md", "docs/install.md", "docs/commands.md", "docs/networks.md"),
    "docs/distributed.md",
    *("docs/results.md", "results/README.md", "benchmarks/gpu/README.md"),
    *("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"),
)
NUMBER = r"-?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Block:
    """A fenced block and the number of its first line, less one."""

    language: str
    line: int
    text: str


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str) -> list[Block]:
    text = read(document)
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], text[: m.start(2)].count("\n"), m[2]) for m in found]


@pytest.mark.parametrize("document", RUNNABLE)
def test_python_blocks_run_in_order_and_print_what_they_say(
    document: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a block of Python ``console`` is what it says on stderr, ``text`` what it prints."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", "leanspike")
    namespace: dict[str, Any] = {"__name__": "document"}
    nothing = Block("", 0, "")
    for block, *after in triples([*blocks(document), nothing, nothing]):
        if block.language == "python":
            caplog.clear()
            # Empty lines before it, so that a traceback names the document's line.
            exec(compile("\n" * block.line + block.text, document, "exec"), namespace)
            if after[0].language == "console":
                assert_alike("\n".join(caplog.messages), after.pop(0).text)
            expected = after[0].text if after[0].language == "text" else ""
            assert_alike(capsys.readouterr().out, expected)


def triples(found: list[Block]) -> Iterator[tuple[Block, Block, Block]]:
    return zip(found, found[1:], found[2:], strict=False)


def assert_alike(printed: str, expected: str) -> None:
    """The same words in the same places, and numbers as close as other hardware leaves them."""
    assert words(printed) == words(expected)
    numbers = [[float(n) for n in re.findall(NUMBER, text)] for text in (printed, expected)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.25, abs=0.05)


def words(text: str) -> list[str]:
    return re.sub(NUMBER, "#", text).split()


def test_numbers_that_differ_are_noticed() -> None:
    assert_alike("accuracy  0.961\n", "accuracy 0.972")
    with pytest.raises(AssertionError):
        assert_alike("accuracy 0.5", "accuracy 0.972")
    with pytest.raises(AssertionError):
        assert_alike("recall 0.97", "accuracy 0.97")


def command_lines(document: str) -> list[list[str]]:
    """The arguments of each ``leanspike`` in a block of shell commands."""
    lines = [line for b in blocks(document) if b.language == "sh" for line in b.text.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words[:1] == ["leanspike"]]


def mentions(document: str) -> Iterator[list[str]]:
    """The arguments of each ``leanspike COMMAND ...`` in running text."""
    for mention in re.findall(r"`leanspike ([^`]+)`", read(document)):
        yield shlex.split(mention)


def parse(arguments: list[str]) -> dict[str, Any]:
    """What the command line understands, without doing it."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    name, *rest = arguments
    parameters: dict[str, Any] = commands[name].make_context(name, rest).params
    return parameters


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_mentioned_in_the_text_are_commands(document: str) -> None:
    for arguments in mentions(document):
        parse(arguments)


def test_a_command_that_is_none_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["train", "digits", "--output", "runs/a"])


def test_the_command_lines_of_readme_and_docs_work_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    readme, page = command_lines("README.md"), command_lines("docs/commands.md")
    lines = readme + [line for line in page if line not in readme]
    assert {line[0] for line in lines} == {
        "train",
        "evaluate",
        "convert",
        "report",
        "recipes",
        "robustness",
        "bench",
        "compile",
        "study",
    }
    for line in lines:
        run_shortened(line)
        if line[0] == "train":  # this one's figures were rendered
            request.getfixturevalue("unrendered")
    monkeypatch.undo()
    check_figure(tmp_path / "runs/digits", tmp_path / "digits.svg")


@pytest.mark.usefixtures("unrendered")
def test_the_page_on_images_says_what_its_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = blocks("docs/images.md")
    exec(next(block.text for block in page if block.language == "python"), {})
    ((*line, out),) = command_lines("docs/images.md")
    shown = [block.text for block in page if block.language == "text"][-1]
    outcome = CliRunner().invoke(app, [*line, out, "ann.epochs=1", "snn.0.epochs=1"])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stderr.startswith(shown)


@pytest.mark.usefixtures("unrendered")
def test_the_commands_for_ones_own_network_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the network, the images and the recipe that the page itself gives."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for block in blocks("docs/choose.md"):
        if named := re.match(r"# (\w+\.\w+)\n", block.text):
            Path(named[1]).write_text(block.text)
        elif block.language == "python":
            exec(block.text, {})
    *lines, events = command_lines("docs/choose.md")
    assert len(lines) == 5
    for line in lines:
        stages = ["snn.0.epochs=1"] if line[0] == "train" else []
        ann = [] if "ann=null" in line else ["ann.epochs=1"]
        outcome = CliRunner().invoke(app, [*line, *ann, *stages])
        assert outcome.exit_code == 0, (line, outcome.output, outcome.exception)
    written = {path.name for path in Path("runs").iterdir()}
    assert written == {"mine", "first", "mine-converted", "tuned", "taught"}
    assert load_recipe(events[1], events[2:]).data.root == "~/data"
    monkeypatch.delitem(sys.modules, "mynet")


def test_the_page_on_recipes_has_each_of_them_with_its_timesteps() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+|–) \|", read("docs/choose.md"), re.MULTILINE))
    assert rows.keys() == recipes().keys()
    for name, steps in rows.items():
        recipe = load_recipe(name)
        assert steps == (str(recipe.spike.timesteps) if recipe.snn else "–"), name


def run_shortened(line: list[str]) -> None:
    """Run a command line, its trainings cut to an epoch.

    Of what would train for the second time, or on data that we lack, only the recipe is read.
    """
    line, into = (line[:-2], line[-1]) if ">" in line else (line, None)
    parameters = parse(line)
    if line[0] == "bench":  # tests/bench runs it, small
        return
    if line[0] in ("train", "convert"):
        recipe = load_recipe(parameters["recipe"], parameters["overrides"] or [])
        if recipe.data.name != "digits" or (line[0] == "train" and Path("runs").exists()):
            return
        line = [*line, "ann.epochs=1", "snn.0.epochs=1"]
    if line[0] == "robustness":
        line = [*line, "--limit", "10"]
    outcome = CliRunner().invoke(app, line)
    assert outcome.exit_code == 0, (line, outcome.output, outcome.exception)
    if into is not None:
        Path(into).write_text(outcome.stdout)


def check_figure(run: Path, out: Path) -> None:
    """The script that drew the figure still draws one, as small a file of plain SVG."""
    script = runpy.run_path(str(ROOT / "docs/make_figure.py"))
    script["main"](run, out)
    for figure in (out, ROOT / "docs/digits.svg"):
        assert ElementTree.parse(figure).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert figure.stat().st_size < 60_000


def test_make_has_the_readmes_targets() -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    named = set(
        re.findall(
            r"\bmake (?:\w+=\S+ )*([a-z-]+)",
            "\n".join(
                block.text
                for document in ("README.md", "docs/install.md")
                for block in blocks(document)
                if block.language == "sh"
            ),
        )
    )
    assert {"quickstart", "test"} <= named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(document)):
        if "://" not in target:
            assert (ROOT / document).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_said_to_be_where_it_is_not_yet(document: str) -> None:
    """leanspike is on no index, so it is installed from a checkout: ``.[all]``."""
    assert re.findall(r"(?:pip|uv pip|pipx) install\b[^`\n]*\bleanspike\b", read(document)) == []


def test_the_files_that_contributing_names_are_there() -> None:
    named = re.findall(r"`((?:src|tests|benchmarks)[\w/.]*)`", read("CONTRIBUTING.md"))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_functions_and_tests_are_where_they_are_said_to_be(document: str) -> None:
    for name, target in re.findall(r"\[`(\w+)`\]\((\S+\.py)\)", read(document)):
        source = (ROOT / document).parent.joinpath(target).read_text(encoding="utf-8")
        assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), (name, target)


def test_the_changelog_begins_with_this_version() -> None:
    latest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert latest is not None
    assert latest[1] == project["version"] == leanspike.__version__
