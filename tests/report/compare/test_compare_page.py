"""The comparison's page and table: complete, escaped, and never in the place of something else."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from leanspike.errors import LeanspikeError
from leanspike.evaluation.result import Result
from leanspike.report import style
from leanspike.report.compare import Compared, compare, render_comparison, write_comparison
from leanspike.report.compare.table import cells

Make = Callable[..., Result]
MakeHistory = Callable[[dict[str, int]], list[dict[str, object]]]


class Page(HTMLParser):
    """The tags and the text of a page; tags must balance."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.ids: list[str | None] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src"):
                assert value is not None
                assert value.startswith("#")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are tested elsewhere and take most of the time."""
    monkeypatch.setattr(style, "draw", lambda *_, **__: "<svg></svg>")


def two(make_result: Make) -> list[Compared]:
    first = make_result(["relu"])
    other = make_result(["relu1", "relu2"], timesteps=2).model_copy(update={"data": "mnist"})
    return compare([(Path("runs/first"), first, []), (Path("runs/second"), other, [])])


def test_the_page_needs_nothing_else_and_holds_it_all(
    tmp_path: Path, make_result: Make, make_history: MakeHistory
) -> None:
    first, second = two(make_result)
    dirty = {"commit": f"{first.result.provenance.commit}-dirty"}
    origin = first.result.provenance.model_copy(update=dirty)
    changed = first.result.model_copy(update={"provenance": origin})
    logged = Compared(0, "first", changed, make_history({"ann": 3, "snn T=5": 2}))
    source = write_comparison([logged, second], tmp_path / "c.html").read_text("utf-8")
    page = Page(source)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert "default-src 'none'" in source
    assert len(page.ids) == len(set(page.ids)) > 0
    assert page.tags.count("svg") == page.tags.count("figcaption") == 5  # neurons of two kinds
    for words in (
        "0123456789-dirty Example CPU",
        "Different data: digits (360 test images); mnist (360 test images).",
        "Different networks: vgg6",
        "Accuracy against timesteps.",
        "No curve, because there is no log or nothing was trained or held out: second",
        "Energy of the arithmetic for one sample,",
        "Threshold and leak by layer.",
        "Example CPU, 2 cores, 2 threads native, avx512; train snn T=5: bfloat16, native, avx512",
    ):
        assert words in page.text


@pytest.mark.usefixtures("no_figures")
def test_alike_runs_without_logs(tmp_path: Path, make_result: Make) -> None:
    result = make_result(["relu"])
    runs = compare([(Path(name), result, []) for name in "ab"])
    page = Page(write_comparison(runs, tmp_path / "c.html").read_text("utf-8"))
    assert page.tags.count("svg") == 3
    assert "Different" not in page.text
    assert "How they were trained" not in page.text
    assert "In what the recipes differ" not in page.text


@pytest.mark.usefixtures("no_figures")
def test_what_nobody_told_is_not_given(tmp_path: Path, make_result: Make) -> None:
    result = make_result(["relu"])
    unknown = {"seed": None, "command": None, "backend": None, "instructions": None, "backends": {}}
    origin = result.provenance.model_copy(update=unknown)
    result = result.model_copy(update={"data": None, "split": None, "provenance": origin})
    runs = compare([(Path(name), result, []) for name in "ab"])
    source = write_comparison(runs, tmp_path / "c.html").read_text("utf-8")
    assert "None" not in source
    text = Page(source).text
    assert "not given 2026-01-02T03:04:05+00:00" in text
    assert "not recorded leanspike 0.1.0" in text
    console = Console(file=StringIO(), width=80, no_color=True)
    console.print(render_comparison(runs))
    assert isinstance(console.file, StringIO)
    first, second = console.file.getvalue().splitlines()[1:3]
    assert (first.split()[-1], second.strip()) == ("–", "–, vgg6")
    assert runs[0].summary["seed"] is None
    assert runs[0].data_in_words == "360 images"


@pytest.mark.usefixtures("no_figures")
def test_strings_are_escaped(tmp_path: Path, make_result: Make) -> None:
    evil = "<script>alert('x')</script>&"
    result = make_result([evil])
    origin = result.provenance.model_copy(
        update={"command": evil, "hardware": evil, "recipe": {evil: evil}}
    )
    result = result.model_copy(update={"data": evil, "provenance": origin})
    runs = [Compared(0, evil, result, []), Compared(1, "b", make_result(["relu"]), [])]
    page = Page(write_comparison(runs, tmp_path / "c.html").read_text("utf-8"))
    assert "script" not in page.tags
    assert page.text.count(evil) >= 6


@pytest.mark.usefixtures("no_figures")
def test_only_a_comparison_is_replaced(tmp_path: Path, make_result: Make) -> None:
    runs, out = two(make_result), tmp_path / "c.html"
    write_comparison(runs, out)
    written = out.read_text("utf-8")
    assert write_comparison(runs, out).read_text("utf-8") == written
    out.write_bytes(b"\xff precious")
    with pytest.raises(
        LeanspikeError, match=r"c\.html is not a comparison of runs; choose .*"
    ) as e:
        write_comparison(runs, out)
    assert "\n" not in str(e.value)
    assert out.read_bytes() == b"\xff precious"
    assert write_comparison(runs, out, fresh=True).read_text("utf-8") == written


@pytest.mark.usefixtures("no_figures")
def test_a_folder_in_the_way_is_one_line(tmp_path: Path, make_result: Make) -> None:
    with pytest.raises(LeanspikeError, match="make room or give another place"):
        write_comparison(two(make_result), tmp_path)


def test_the_table_holds_at_80_columns(make_result: Make) -> None:
    console = Console(file=StringIO(), width=80, no_color=True)
    console.print(render_comparison(two(make_result)))
    assert isinstance(console.file, StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[0].split() == [
        "run",
        "ANN",
        "SNN",
        "T",
        "counted",
        "DIET",
        "BNTT",
        "time",
        "spikes",
        "seconds",
        "seed",
    ]
    assert lines[1].split()[:4] == ["first", "98.1", "96.7", "5"]
    assert lines[2] == "digits, vgg6"
    assert lines[4] == "mnist, vgg6"
    assert any(line.startswith("Different data: digits") for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_long_names_are_broken_not_cut(make_result: Make) -> None:
    name = "[bold]" + "a-very-long-name-of-a-run" * 3
    console = Console(file=StringIO(), width=80, no_color=True)
    console.print(render_comparison([Compared(0, name, make_result(["relu"]), [])]))
    assert isinstance(console.file, StringIO)
    first = [line.split(" ")[0] for line in console.file.getvalue().splitlines()[1:]]
    assert "".join(first).startswith(name)


@pytest.mark.usefixtures("no_figures")
def test_times_stand_beside_energy(tmp_path: Path, make_result: Make) -> None:
    timed, older = make_result(["relu"], timed=True), make_result(["relu"])
    runs = compare([(Path("a"), timed, []), (Path("b"), older, [])])
    assert [cells(run)[9] for run in runs] == ["3.0×", "–"]
    assert (runs[0].summary["time_ratio_batch_1"], runs[0].summary["time_ratio_batch_64"]) == (6, 3)
    text = Page(write_comparison(runs, tmp_path / "c.html").read_text("utf-8")).text
    assert "Time ratio, measured" in text
    assert "no memory traffic, no static power; no chip was measured" in text


def test_at_chance_no_ratio_is_quoted(tmp_path: Path, make_result: Make) -> None:
    good = make_result(["relu"])
    guessing = good.model_copy(update={"accuracy": (0.1,) * 5})
    runs = compare([(Path("a"), good, []), (Path("b"), guessing, [])])
    assert [cell for cell in cells(runs[0])[6:9] if "×" in cell] == cells(runs[0])[6:9]
    assert cells(runs[1])[6:9] == ["–", "–", "–"]
    page = Page(write_comparison(runs, tmp_path / "c.html").read_text("utf-8"))
    assert page.text.count("× less") == 1  # in the figure
    sentence = "At chance: b, 10.0 %. Its energy means nothing."
    assert sentence in page.text
    console = Console(file=StringIO(), width=80, no_color=True)
    console.print(render_comparison(runs))
    assert isinstance(console.file, StringIO)
    assert sentence in console.file.getvalue()
    assert runs[1].summary["at_chance"]
