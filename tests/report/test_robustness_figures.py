"""Robustness to show: every curve, every severity, a table that fits the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from leanspike.data import CORRUPTIONS
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Curve, Robustness
from leanspike.evaluation.origin import provenance
from leanspike.evaluation.robustness_result import OWN, CleanSample
from leanspike.report.html import write_robustness
from leanspike.report.robustness import contact_sheet, render_robustness, robustness_figure


def build(
    networks: tuple[str, ...] = ("teacher", "without", "distilled"),
    corruptions: tuple[str, ...] = tuple(CORRUPTIONS),
    attacks: tuple[str, ...] = ("fgsm", "pgd"),
    more: dict[str, tuple[str, ...]] | None = None,
    side: int = 8,
    channels: int = 3,
) -> Robustness:
    """A measurement that never took place: accuracy falls by a tenth with each strength."""

    def curve(name: str, strengths: tuple[float, ...]) -> Curve:
        right = tuple(0.9 - 0.1 * (index + 1) for index in range(len(strengths)))
        return Curve(name=name, strengths=strengths, accuracy=dict.fromkeys(networks, right))

    row = tuple(((7 * j) % 256,) * channels for j in range(side))
    return Robustness(
        data="digits",
        n=360,
        seed=0,
        networks=networks,
        clean=dict.fromkeys(networks, 0.9),
        corruptions={
            family: tuple(curve(name, (1, 2, 3, 4, 5)) for name in names)
            for family, names in {OWN: corruptions, **(more or {})}.items()
            if names
        },
        attacks=tuple(curve(name, (2 / 255, 8 / 255)) for name in attacks),
        silent=dict.fromkeys(networks, 0.0),
        sample=CleanSample(position=3, pixels=(row,) * side),
        provenance=provenance(command="", seed=0, recipe={}, seconds={}),
    )


def words(svg: str) -> list[str]:
    """The texts of a figure, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def printed(robustness: Robustness) -> str:
    file = io.StringIO()
    Console(file=file, width=80).print(render_robustness(robustness))
    return file.getvalue()


def test_every_corruption_and_attack_has_a_panel() -> None:
    shown = words(robustness_figure(build()))
    assert {name.replace("_", " ") for name in CORRUPTIONS} <= set(shown)
    assert {"FGSM", "PGD", "teacher", "without", "distilled"} <= set(shown)
    assert shown.count("severity") == 10
    assert shown.count("ε · 255") == 2


@pytest.mark.parametrize("number", [1, 4, 13])
def test_few_and_many_panels_and_networks(number: int) -> None:
    networks = tuple(f"network {index} with a very long name" for index in range(number % 8))
    names = tuple(f"corruption_{index}" for index in range(number))
    svg = robustness_figure(build(networks, names, attacks=()))
    height = float(svg.split('viewBox="')[1].split('"')[0].split()[3])
    assert height == 185 * -(-number // 4) + 40
    assert f"corruption {number - 1}" in words(svg)


def test_the_contact_sheet_has_a_row_for_each_corruption_and_a_column_for_each_severity() -> None:
    svg = contact_sheet(build())
    shown = words(svg)
    assert shown == ["clean", "1", "2", "3", "4", "5", *(n.replace("_", " ") for n in CORRUPTIONS)]
    assert svg.count("<image") == 1
    assert svg == contact_sheet(build())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_sheet_of_grey_or_other_images_leaves_out_what_others_corrupted(channels: int) -> None:
    found = build(corruptions=("blur",), more={"common": ("contrast",)}, channels=channels)
    assert words(contact_sheet(found))[-1] == "blur"


def test_nothing_to_show() -> None:
    assert contact_sheet(build(corruptions=(), more={"common": ("contrast",)})) == ""
    assert contact_sheet(build().model_copy(update={"sample": None})) == ""
    with pytest.raises(LeanspikeError, match=r"^only clean images were measured; measure a corr"):
        robustness_figure(build(corruptions=(), attacks=()))


def test_the_table_fits_the_terminal_and_has_the_means() -> None:
    text = printed(build())
    assert max(map(len, text.splitlines())) <= 80
    lines = {" ".join(line.split()[:-3]): line.split()[-3:] for line in text.splitlines() if line}
    assert lines["clean"] == ["90.0"] * 3
    assert lines["salt and pepper"] == ["60.0"] * 3
    assert lines["mean corruption error"] == ["40.0"] * 3
    assert lines["relative to the first"] == ["1.0×"] * 3
    assert lines["fgsm, ε = 2/255"] == ["80.0"] * 3
    assert lines["pgd, ε = 8/255"] == ["70.0"] * 3
    assert lines["no gradient at the pixels"] == ["0.0"] * 3


def test_each_family_has_a_mean_of_its_own() -> None:
    found = build(more={"CIFAR-10-C": ("fog", "contrast"), "common": ("fog",)})
    lines = [line.split() for line in printed(found).splitlines()]
    headings = [line for line in lines if line[-1:] in (["corruptions"], ["corruption"])]
    counts = [("leanspike:", "10"), ("CIFAR-10-C:", "2"), ("common:", "1")]
    assert [tuple(line[:2]) for line in headings] == counts
    assert [line[:3] for line in lines].count(["mean", "corruption", "error"]) == 3
    shown = words(robustness_figure(found))
    assert [shown.count(f"severity, {family}") for family in ("CIFAR-10-C", "common")] == [2, 1]


@pytest.mark.usefixtures("unrendered")
def test_the_page_has_a_mean_for_each_family(tmp_path: Path) -> None:
    found = build(more={"CIFAR-10-C": ("fog", "contrast")})
    page = write_robustness(found, tmp_path / "robustness.html").read_text()
    assert re.findall(r"Mean corruption error, ([^<]*)", page) == [
        "leanspike (10)",
        "CIFAR-10-C (2)",
    ]
    assert re.findall(r'rowgroup"[^>]*>([^<]*)', page) == [
        *("Corruptions: leanspike", "Corruptions: CIFAR-10-C", "Attacks")
    ]


@pytest.mark.usefixtures("unrendered")
def test_what_nobody_told_is_not_given(tmp_path: Path) -> None:
    found = build().model_copy(update={"data": None, "split": None, "provenance": provenance()})
    source = write_robustness(found, tmp_path / "robustness.html").read_text()
    assert "None" not in source
    for words in (
        "On 360 images, as they are",
        "One image.",
        "<dt>Command</dt><dd>not given</dd>",
        "<dt>Seed</dt><dd>not given; of what is drawn here: 0</dd>",
        "<dt>Data</dt><dd>not given</dd>",
        "<dt>Split</dt><dd>not given</dd>",
        "<dt>Backend</dt><dd>not recorded</dd>",
    ):
        assert words in source
    assert printed(found).startswith("Robustness: accuracy in % of 360 images\n")


@pytest.mark.usefixtures("unrendered")
def test_a_split_that_was_told_is_named(tmp_path: Path) -> None:
    origin = provenance(seed=3).model_copy(update={"backend": "reference"})
    found = build().model_copy(update={"split": "validation", "provenance": origin})
    source = write_robustness(found, tmp_path / "robustness.html").read_text()
    for words in ("On 360 validation images", "One validation image.", "<dd>reference</dd>"):
        assert words in source
    assert "<dt>Seed</dt><dd>3; of what is drawn here: 0</dd>" in source
    assert "360 validation images of digits" in printed(found)


def test_the_table_without_attacks_or_corruptions() -> None:
    assert "pgd" not in printed(build(attacks=()))
    assert "no gradient" not in printed(build(attacks=()))
    assert "mean corruption error" not in printed(build(corruptions=()))
