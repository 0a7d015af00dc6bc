"""The tables of the terminal: 80 columns, no colour needed, no markup taken from names."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from leanspike.evaluation.exit_result import EarlyExit
from leanspike.evaluation.layers import Uncounted
from leanspike.evaluation.macs import Macs
from leanspike.evaluation.result import Result
from leanspike.evaluation.rivals_result import Rivals
from leanspike.report import render_tables, write_report
from leanspike.report.cost import ARITHMETIC, cost_table


def printed(result: Result, width: int = 80) -> list[str]:
    """The lines of the tables on a plain terminal."""
    console = Console(file=StringIO(), width=width, no_color=True)
    console.print(render_tables(result))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_small_result_word_for_word(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timesteps=2)
    neuron = result.neurons[0].model_copy(
        update={"spikes_per_step": (0.25, 0.5), "neurons": 32768}
        | {"readings": {"threshold": 0.8, "leak": 0.87}}
        | {"readings_start": {"threshold": 2.1, "leak": 1.0}}
    )
    energy = result.energy.model_copy(
        update={"ratio": 7.31, "formula_ratio": 9.06, "bntt_formula_ratio": 8.74}
        | {"spikes_per_neuron": 0.75}
    )
    result = result.model_copy(
        update={"neurons": (neuron,), "energy": energy, "accuracy": (0.887, 0.967)}
    )
    lines = printed(result)
    assert lines[:3] == [
        "digits-diet (digits)",
        "At 2 timesteps the SNN answers 96.7 % of 360 test images correctly (ANN: 98.1 %)",
        "and spends 7.3× less energy on arithmetic than the ANN.",
    ]
    table = [line.split() for line in lines]
    assert ["SNN", "88.7", "96.7"] in table
    assert ["ANN", "98.1"] in table
    assert ["relu", "32.8", "k", "0.75", "2.10", "→", "0.80", "1.00", "→", "0.87"] in table
    assert "Operations and energy of one image, T = 2" in lines
    assert lines[-1] == ARITHMETIC
    assert [line.split() for line in lines[-3:-1]] == [
        ["by", "DIET-SNN's", "formula", "9.1×"],
        ["by", "BNTT's", "formula", "8.7×"],
    ]
    assert table[-4][-1] == "7.3×"


def test_what_the_training_computed_is_the_last_line_if_it_was_counted(
    make_result: Callable[..., Result],
) -> None:
    result = make_result(["relu"])
    macs = {"train ann": Macs(forward=4 * 10**14), "train snn": Macs(backward=3 * 10**14)}
    for counted in ({}, {"train ann": macs["train ann"]}):  # of before, or in part
        origin = result.provenance.model_copy(update={"macs": counted})
        lines = printed(result.model_copy(update={"provenance": origin}))
        assert lines == printed(result)
    origin = result.provenance.model_copy(update={"macs": macs})
    lines = printed(result.model_copy(update={"provenance": origin}), width=100)
    assert lines[-1] == "training: 700 T multiply-accumulates (train ann 400 T, train snn 300 T)"


def test_a_formula_that_was_not_recorded_is_said_to_be(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"])
    energy = result.energy.model_copy(update={"bntt_formula_ratio": None})
    lines = printed(result.model_copy(update={"energy": energy}))
    assert lines[-3].startswith("by DIET-SNN's formula")
    assert lines[-2] == "by BNTT's formula: not recorded when this was evaluated"


@pytest.mark.parametrize("timesteps", [1, 10, 30])
def test_every_step_is_printed_whole(make_result: Callable[..., Result], timesteps: int) -> None:
    result = make_result(["relu"], timesteps=timesteps, n=50_000)
    text = " ".join(printed(result))
    assert all(f" {100 * accuracy:.2f}" in text for accuracy in result.accuracy)


def test_long_tables_are_cut_in_the_middle(make_result: Callable[..., Result]) -> None:
    paths = [f"features.denseblock{i // 30}.denselayer{i % 30}.relu{i}" for i in range(120)]
    lines = printed(make_result(paths, timesteps=30, n=50_000))
    assert max(map(len, lines)) <= 80
    assert len(lines) < 80
    assert "… 96 more layers" in lines
    assert "… 97 more layers" in lines
    assert any("relu0 " in line for line in lines)
    assert any("relu119 " in line for line in lines)
    # Only names are shortened, at their beginning; no number is.
    assert all(line.startswith("…") for line in lines if "…" in line)


def test_tables_of_24_layers_are_whole(make_result: Callable[..., Result]) -> None:
    lines = printed(make_result([f"relu{index}" for index in range(23)]))
    assert not any("…" in line for line in lines)


def test_names_are_not_markup(make_result: Callable[..., Result]) -> None:
    result = make_result(["[bold]relu[/bold]"]).model_copy(update={"name": "[red]x[/red]"})
    text = "\n".join(printed(result))
    assert "[bold]relu[/bold]" in text
    assert "[red]x[/red]" in text


def test_without_an_ann_or_training(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"])
    neuron = result.neurons[0].model_copy(update={"readings_start": {}})
    result = result.model_copy(update={"ann_accuracy": None, "neurons": (neuron,)})
    lines = printed(result)
    assert not any(line.startswith("ANN") for line in lines)
    assert "Neurons: spikes per neuron over all steps" in lines
    row = next(line for line in lines if line.startswith("relu"))
    assert "→" not in row
    assert row.endswith(f"{neuron.readings['threshold']:.2f}  {neuron.readings['leak']:.2f}")


def test_times_stand_beside_energy_and_accuracy(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timed=True)
    lines = printed(result)
    assert "The SNN takes 3.0× as long on this CPU (batch 64)." in " ".join(lines[1:4])
    start = lines.index("What it costs and brings, T = 5")
    assert lines[start + 1].split() == ["ANN", "SNN", "SNN", "beside", "ANN"]
    assert [" ".join(line.split()) for line in lines[start + 2 : start + 5]] == [
        "accuracy 98.1 % 96.7 % −1.4 points",
        "time of one image, measured 0.400 ms 2.40 ms 6.0× as long (5.4–7.2)",
        "time of 64 images, measured 6.50 ms 19.5 ms 3.0× as long (2.7–3.6)",
    ]
    assert lines[start + 5].startswith("energy of one image, counted ")
    words = " ".join(lines[start + 6 : start + 8])
    assert words.startswith("times: on Example CPU, 2 cores, 2 threads, float32; medians of 15 ")
    assert words.endswith("another CPU or load gives others")
    assert max(map(len, lines)) <= 80
    assert not any("as long" in line for line in printed(make_result(["relu"])))


def test_times_without_an_ann_are_the_snns(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timed=True)
    assert result.times is not None
    rows = [row.model_copy(update={"ann_ms": None, "ratio": None}) for row in result.times.batches]
    alone = result.times.model_copy(update={"batches": tuple(rows)})
    lines = printed(result.model_copy(update={"times": alone, "encode": "frames"}))
    assert ["time", "of", "one", "sample,", "measured", "–", "2.40", "ms"] in map(str.split, lines)
    assert "the ANN sees one frame" in " ".join(lines)


def test_at_chance_no_ratio_is_quoted(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timed=True)
    early = EarlyExit.model_construct(
        by="margin", threshold=0.5, latest=None, accuracy=0.1, n=360, mean_steps=2.0,
        snn_pj=3e6, full_snn_pj=9e6, seconds=1.0, full_seconds=2.0,
    )  # fmt: skip
    result = result.model_copy(update={"early_exit": (early,)})
    assert "3.00 µJ" in "\n".join(printed(result))
    guessing = printed(result.model_copy(update={"accuracy": (0.1,) * 5}))
    text = "\n".join(guessing)
    assert "which is at chance" in text
    assert "less" not in text
    assert "3.00 µJ" not in text
    for start in ("all ", "by DIET-SNN's formula", "by BNTT's formula"):
        row = [line for line in guessing if line.startswith(start)][-1]
        assert row.endswith(" –")
    assert next(line for line in guessing if line.startswith("energy of one")).endswith("at chance")


def test_what_is_in_no_number_is_named_in_terminal_and_page(
    make_result: Callable[..., Result], tmp_path: Path
) -> None:
    result = make_result(["relu"])
    words = "not counted: body (Recurrent), which holds 25.0 % of the weights"
    assert words not in " ".join(printed(result))
    left = (Uncounted(path="body", kind="Recurrent", share=0.25),)
    result = result.model_copy(update={"uncounted": left})
    assert words in " ".join(" ".join(printed(result)).split())
    page = write_report(result, [], tmp_path / "r.html").read_text("utf-8")
    assert f"N{words[1:]}" in page


def test_rivals_stand_with_memory_and_break_even_rates(
    make_result: Callable[..., Result], rivals: Rivals
) -> None:
    result = make_result(["relu"], timed=True)
    assert not any("memory, beside" in line for line in printed(result))
    result = result.model_copy(update={"rivals": rivals})
    lines = printed(result)
    start = lines.index("Energy with memory, and beside ANNs of fewer bits, T = 5")
    assert [" ".join(line.split()) for line in lines[start + 1 : start + 7]] == [
        "ANN float32 ANN int8 SNN float32 ANN 3-bit SNN int8",
        "arithmetic 4.00 µJ 1.00 µJ 2.00 µJ 700 nJ 500 nJ",
        "memory 3.00 µJ 2.00 µJ 4.00 µJ 1.20 µJ 2.50 µJ",
        "both 7.00 µJ 3.00 µJ 6.00 µJ 1.90 µJ 3.00 µJ",
        "break-even, arithmetic any 5.0 % fires 8.0 % 11.2 % fires 8.0 %",
        "break-even, both 12.5 % none fires 8.0 % none fires 8.0 %",
    ]
    words = " ".join(lines[start + 7 :])
    assert words.startswith("memory: 10 pJ for each 64 bits read or written, nothing reused; ")
    assert "values of 3, as many as 5 steps can tell" in words
    assert max(map(len, lines)) <= 80
    guessing = "\n".join(printed(result.model_copy(update={"accuracy": (0.1,) * 5})))
    assert "12.5 %" not in guessing
    assert "break-even, both" not in guessing
    (line,) = (line for line in guessing.splitlines() if line.startswith("break-even"))
    assert line.count("–: at chance") == 3


def test_rivals_of_older_results_are_those_that_they_have(
    make_result: Callable[..., Result], rivals: Rivals
) -> None:
    older = rivals.model_copy(update={"quantised": None})
    result = make_result(["relu"], timed=True).model_copy(update={"rivals": older})
    lines = [" ".join(line.split()) for line in printed(result)]
    assert "ANN float32 ANN int8 SNN float32" in lines
    assert "break-even, both 12.5 % none fires 8.0 %" in lines
    assert not any("3-bit" in line for line in lines)


def test_the_top_5_accuracy_stands_beside_the_other(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timesteps=2)
    update = {"accuracy": (0.5, 0.6), "top5": (0.701, 0.812), "ann_top5": 0.934}
    result = result.model_copy(update=update)
    lines = printed(result)
    at = next(n for n, line in enumerate(lines) if line.startswith("Top-5 accuracy in %"))
    assert [line.split() for line in lines[at + 2 : at + 4]] == [
        ["SNN", "70.1", "81.2"],
        ["ANN", "93.4"],
    ]
    rows = [tuple(row) for row in cost_table(result)]
    assert ("accuracy, top 5", "93.4 %", "81.2 %", "−12.2 points") in rows
