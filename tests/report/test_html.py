"""The page: complete in itself, well formed, escaped, right in its numbers, and always whole."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import leanspike.report
from leanspike.errors import LeanspikeError
from leanspike.evaluation import picture_of
from leanspike.evaluation.exit_result import ClassExit, EarlyExit
from leanspike.evaluation.macs import Macs
from leanspike.evaluation.mistakes import Mistake, Mistakes
from leanspike.evaluation.result import Result
from leanspike.evaluation.rivals_result import Rivals
from leanspike.report import style, write_report

History = list[dict[str, object]]
PATHS = ["features.relu1", "features.relu2", "classifier.relu"]
VOID = {"meta", "br", "hr", "img", "input", "link"}
URLS = {"href", "xlink:href", "src", "srcset", "action", "data", "poster", "formaction"}


class Page(HTMLParser):
    """Parses a page, checks that its tags balance, and keeps what the tests ask for."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text with every space (also the unbreakable) as one blank."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are tested elsewhere and take most of the time."""
    monkeypatch.setattr(style, "draw", lambda *_, **__: "<svg></svg>")


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory,
    make_result: Callable[..., Result],
    make_history: Callable[[dict[str, int]], History],
) -> Page:
    history = make_history({"ann": 3, "snn T=5": 2})
    out = tmp_path_factory.mktemp("page") / "report.html"
    return Page(write_report(make_result(PATHS), history, out).read_text("utf-8"))


def test_page_needs_nothing_else(page: Page) -> None:
    targets = [value for name, value in page.attributes if name in URLS]
    assert targets  # the heat maps' pixels, and references within a figure
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    everything = " ".join([*page.texts, *(value for _, value in page.attributes)])
    assert "http:" not in everything
    assert "https:" not in everything
    assert "@import" not in everything
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("content", policy) in page.attributes


def test_ids_are_unique(page: Page) -> None:
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_every_figure_has_a_caption_and_a_label(page: Page) -> None:
    assert page.tags.count("figure") == page.tags.count("figcaption") == 6
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert len(labels) == 6
    assert "Accuracy of the SNN after each of 5 timesteps" in labels
    for caption in (
        "Accuracy against timesteps.",
        "From the pixels to the answer.",
        "Spike rate by layer and step.",
        "Threshold and leak by layer.",
        "Energy of the arithmetic for one image at T = 5.",
        "Training curves.",
    ):
        assert caption in page.text


@pytest.mark.usefixtures("no_figures")
def test_numbers(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    result = make_result(PATHS)
    energy = result.energy.model_copy(
        update={"ann_pj": 8.9e6, "snn_pj": 1.22e6, "ratio": 7.31, "formula_ratio": 9.06}
        | {"bntt_formula_ratio": 8.74}
    )
    result = result.model_copy(update={"energy": energy})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    assert (
        "At 5 timesteps the SNN answers 96.7 % of 360 test images correctly (ANN: 98.1 %) "
        "and spends 7.3× less energy on arithmetic than the ANN."
    ) in text
    for words in (
        "SNN: −1.4 points",
        "1.22 µJ instead of 8.90 µJ at T = 5",
        "Energy, DIET-SNN’s formula 9.1× less BNTT’s: 8.7× less; both at T = 5",
        "= 9.1× at T = 5",
        "= 8.7× at T = 5",
        "ISSCC 2014",
    ):
        assert words in text
    older = result.model_copy(
        update={"energy": energy.model_copy(update={"bntt_formula_ratio": None})}
    )
    text = Page(write_report(older, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "9.1× less BNTT’s: not recorded; both at T = 5" in text
    assert "= not recorded at T = 5" in text
    layer = result.neurons[0]
    assert f"{layer.readings_start['threshold']:.3f} → {layer.readings['threshold']:.3f}" in text
    assert "leanspike train digits --out runs/quickstart --fresh" in text
    assert "num_classes: 10" in text


@pytest.mark.usefixtures("no_figures")
def test_other_prices_do_not_cite_horowitz(
    tmp_path: Path, make_result: Callable[..., Result]
) -> None:
    result = make_result(PATHS)
    energy = result.energy.model_copy(update={"mac_pj": 3.2})
    result = result.model_copy(update={"energy": energy})
    assert "Horowitz" not in write_report(result, [], tmp_path / "r.html").read_text("utf-8")


@pytest.mark.usefixtures("no_figures")
def test_more_energy_is_called_more(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    result = make_result(PATHS)
    energy = result.energy.model_copy(update={"ratio": 0.5})
    result = result.model_copy(update={"energy": energy})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "and spends 2.0× more energy on arithmetic than the ANN." in text
    assert "Energy, counted 2.0× more" in text


def test_strings_are_escaped(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    evil = "<script>alert('x')</script>\"&$x_2$"
    result = make_result([evil, "relu"], classes=(evil, evil + "!"))
    provenance = result.provenance.model_copy(
        update={"command": evil, "recipe": {evil: evil}, "hardware": evil, "commit": evil}
    )
    result = result.model_copy(update={"name": evil, "data": evil, "provenance": provenance})
    history: History = [
        {
            "event": "epoch",
            "stage": evil,
            "epoch": 1,
            "train_loss": 1.0,
            "train_accuracy": 0.5,
            "val_accuracy": 0.5,
        }
    ]
    source = write_report(result, history, tmp_path / "r.html").read_text("utf-8")
    page = Page(source)
    assert "script" not in page.tags
    assert "<script" not in source.lower()
    assert page.text.count(evil) >= 8  # shown as written, `$x_2$` not set as a formula


def test_equal_input_gives_equal_bytes(
    tmp_path: Path,
    make_result: Callable[..., Result],
    make_history: Callable[[dict[str, int]], History],
) -> None:
    pages = [
        write_report(make_result(["relu"]), make_history({"ann": 2}), tmp_path / name).read_bytes()
        for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("timesteps", [1, 30])
def test_survives_what_may_be_missing(
    tmp_path: Path, make_result: Callable[..., Result], timesteps: int
) -> None:
    result = make_result(["relu"], timesteps=timesteps)
    plain = {"readings_start": {}}
    neurons = tuple(layer.model_copy(update=plain) for layer in result.neurons)
    provenance = result.provenance.model_copy(
        update={"commit": None, "versions": {}, "seconds": {}, "recipe": {}}
    )
    update = {"ann_accuracy": None, "example": None, "neurons": neurons, "provenance": provenance}
    result = result.model_copy(update=update)
    page = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8"))
    assert page.tags.count("figure") == 4  # no training, no example
    assert "than the same network as an ANN." in page.text
    assert "before training" not in page.text
    assert "Thresholds and leaks" in page.text
    assert "Dashed: the ANN" not in page.text


@pytest.mark.usefixtures("no_figures")
def test_the_page_says_what_computed(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"])
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "Backend native, avx512; train snn T=5: bfloat16, native, avx512 Versions" in text
    assert "Seed 0 Data digits, 360 test images of 10 classes Split test Hardware" in text
    assert "Computed" not in text  # of before
    macs = {"train ann": Macs(forward=4 * 10**9), "train snn": Macs(teacher=10**9)}
    origin = result.provenance.model_copy(update={"macs": macs})
    result = result.model_copy(update={"provenance": origin})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "Computed training: 5.00 G multiply-accumulates (train ann 4.00 G, " in text


@pytest.mark.usefixtures("no_figures")
def test_what_nobody_told_is_not_given(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    unknown = {"seed": None, "command": None, "backend": None, "instructions": None, "backends": {}}
    result = make_result(["relu"])
    origin = result.provenance.model_copy(update=unknown)
    update = {"data": None, "split": None, "classes": (), "example": None, "provenance": origin}
    result = result.model_copy(update=update)
    source = write_report(result, [], tmp_path / "r.html").read_text("utf-8")
    text = Page(source).text
    for words in (
        "Command not given Created",
        "Seed not given Data not given, 360 images Split not given Hardware",
        "Backend not recorded Versions",
        "answers 96.7 % of 360 images correctly",
    ):
        assert words in text
    assert "None" not in source
    assert "test image" not in text


def test_large_results_stay_small(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    paths = [f"features.denseblock{i // 30}.denselayer{i % 30}.relu" for i in range(120)]
    classes = tuple(f"class {k}" for k in range(1000))
    result = make_result(paths, timesteps=30, classes=classes, n=50_000, side=32, channels=3)
    assert write_report(result, [], tmp_path / "r.html").stat().st_size < 1_500_000


@pytest.mark.usefixtures("no_figures")
def test_folders_on_the_way_are_made(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    out = tmp_path / "runs" / "one" / "report.html"
    assert write_report(make_result(["relu"]), [], out) == out
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


@pytest.mark.usefixtures("no_figures")
def test_a_failure_leaves_the_previous_report(
    tmp_path: Path, make_result: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    out.write_text("previous")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(LeanspikeError, match=r"cannot write .*report.html \(No space left"):
        write_report(make_result(["relu"]), [], out)
    assert out.read_text() == "previous"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.usefixtures("no_figures")
def test_a_folder_or_a_file_in_the_way_is_one_line(
    tmp_path: Path, make_result: Callable[..., Result]
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "report.html"):
        with pytest.raises(LeanspikeError, match="make room or give another place") as error:
            write_report(make_result(["relu"]), [], out)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_package_is_one_line(
    tmp_path: Path,
    make_result: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"^{package}.* is not installed; pip install 'leanspike\[report\]'$"
    with pytest.raises(LeanspikeError, match=message):
        write_report(make_result(["relu"]), [], tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_no_module_imports_either_package_at_its_top() -> None:
    for path in Path(leanspike.report.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not {name.split(".")[0] for name in names} & {"matplotlib", "jinja2"}


@pytest.mark.usefixtures("no_figures")
def test_times_stand_beside_energy(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    result = make_result(PATHS, timed=True)
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    for words in (
        "less energy on arithmetic than the ANN. The SNN takes 3.0× as long on this CPU (batch 64)",
        "Time, one image 6.0× as long 2.40 ms instead of 0.400 ms on this CPU",
        "Time, 64 images 3.0× as long 19.5 ms instead of 6.50 ms on this CPU",
        "Time of 64 images, measured 6.50 ms 19.5 ms 3.0× as long (2.7–3.6)",
        "Times: on Example CPU, 2 cores, 2 threads, float32; medians of 15 rounds",
        "Energy: arithmetic only: no memory traffic, no static power; no chip was measured.",
        "The ratio to quote is the counted one, with its T.",
    ):
        assert words in text
    older = Page(write_report(make_result(PATHS), [], tmp_path / "r.html").read_text("utf-8")).text
    assert "Times were not measured; leanspike evaluate RUN measures them." in older
    assert "no chip was measured" in older
    assert "× as long" not in older


@pytest.mark.usefixtures("unrendered")
def test_at_chance_no_ratio_is_quoted(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    early = EarlyExit(
        by="margin", threshold=0.5, max_drop=0.01, validation_n=100, validation_accuracy=0.1,
        validation_full_accuracy=0.1, validation_mean_steps=2.0, curve=((1.0, 0.1),), n=360,
        accuracy=0.1, full_accuracy=0.1, mean_steps=2.0, leaving=(0.2,) * 5, classes=(
            ClassExit(name="0", n=9, accuracy=0.1, mean_steps=2.0, leaving=(0.2,) * 5),),
        snn_pj=3e6, full_snn_pj=9e6, seconds=1.0, full_seconds=2.0,
    )  # fmt: skip
    good = make_result(PATHS, timed=True).model_copy(update={"early_exit": (early,)})
    good_text = Page(write_report(good, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "3.00 µJ, -67 %" in good_text
    assert good_text.count("× less") >= 4
    result = good.model_copy(update={"accuracy": (0.1,) * 5})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "Energy – says nothing: the accuracy is at chance" in text
    assert "× less" not in text
    assert "-67 %" not in text
    assert text.count("= – at T = 5") == 2


def test_rivals_are_a_table_of_five_networks(
    tmp_path: Path, make_result: Callable[..., Result], rivals: Rivals
) -> None:
    result = make_result(["relu"]).model_copy(update={"rivals": rivals})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    for words in (
        "ANN float32 ANN int8 SNN float32 ANN 3-bit SNN int8",
        "Memory: membranes – – 2.00 µJ – 2.00 µJ",
        "Both 7.00 µJ 3.00 µJ 6.00 µJ 1.90 µJ 3.00 µJ",
        "Break-even, both 12.5 % none fires 8.0 % none fires 8.0 %",
        "Memory: 10 pJ for each 64 bits read or written, nothing reused;",
        "0.3 pJ for a product of 8 bits added to a sum of 32. No chip was measured",
    ):
        assert words in text


def wrong(index: int, label: int, snn: int, ann: int | None, picture: bool = True) -> Mistake:
    drawn = picture_of(torch.full((1, 4, 4), index, dtype=torch.uint8)) if picture else None
    return Mistake(index=index, label=label, snn=snn, ann=ann, picture=drawn)


def test_what_they_get_wrong_is_shown(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    first = (wrong(3, 9, 5, 9), wrong(8, 7, 7, 1), wrong(4, 2, 3, 3))
    found = Mistakes(snn_only=8, ann_only=1, both=1_002, first=first)
    result = make_result(["relu"]).model_copy(update={"mistakes": found})
    page = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8"))
    for words in (
        "What they get wrong",
        "Only the SNN is wrong: 8 images",
        "label 9 SNN 5 ANN 9",
        "Only the ANN is wrong: 1 image",
        "label 7 SNN 7 ANN 1",
        "Both are wrong: 1,002 images",
        "Of 360 test images the SNN alone answers 8 wrongly, the ANN alone 1, both 1,002.",
        "They disagree in whether an answer is right on 2.5 %.",
        "The first images of each kind are shown, in the order of the data set",
    ):
        assert words in page.text
    alone = Mistakes(snn_only=12, ann_only=None, both=None, first=(wrong(3, 9, 5, None),))
    result = result.model_copy(update={"mistakes": alone, "ann_accuracy": None, "classes": ()})
    result = result.model_copy(update={"example": None, "encode": "frames"})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    for words in (
        "What it gets wrong",
        "The SNN is wrong: 12 samples",
        "label 9 SNN 5",
        "The SNN answers 12 of 360 test samples wrongly.",
        "all events of a recording stand in one picture",
    ):
        assert words in text
    assert "ANN 9" not in text


@pytest.mark.usefixtures("no_figures")
def test_without_pictures_the_wrong_answers_are_counted(
    tmp_path: Path, make_result: Callable[..., Result]
) -> None:
    found = Mistakes(snn_only=8, ann_only=0, both=0, first=(wrong(3, 9, 5, 9, picture=False),))
    result = make_result(["relu"]).model_copy(update={"mistakes": found})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "the SNN alone answers 8 wrongly, the ANN alone 0, both 0." in text
    assert "No pictures of them are kept in this result." in text
    none = found.model_copy(update={"snn_only": 0, "first": ()})
    result = result.model_copy(update={"mistakes": none})
    text = Page(write_report(result, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "No pictures" not in text
    older = result.model_copy(update={"mistakes": None})
    text = Page(write_report(older, [], tmp_path / "r.html").read_text("utf-8")).text
    assert "get wrong" not in text
