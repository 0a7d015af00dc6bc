"""The figures of the network: the right numbers, and no crash at either end of the scale."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from leanspike.evaluation.result import Result
from leanspike.report import energy, figures


def words(svg: str) -> list[str]:
    """The texts of a figure, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_accuracy_names_every_step_and_the_ann(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timesteps=3)
    shown = words(figures.accuracy_figure(result))
    for accuracy in result.accuracy:
        assert f"{100 * accuracy:.1f}" in shown
    assert "ANN 98.1 %" in shown


def test_accuracy_over_many_steps_names_the_ends_only(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timesteps=30)
    shown = words(figures.accuracy_figure(result))
    assert f"{100 * result.accuracy[0]:.1f}" in shown
    assert "96.7" in shown
    assert f"{100 * result.accuracy[1]:.1f}" not in shown


def test_one_timestep_has_one_tick(make_result: Callable[..., Result]) -> None:
    shown = words(figures.accuracy_figure(make_result(["relu"], timesteps=1)))
    assert "1" in shown
    assert "0.8" not in shown


def test_spike_rates_are_in_the_cells(make_result: Callable[..., Result]) -> None:
    neurons = make_result(["a", "b"]).neurons
    shown = words(figures.spikes_figure(neurons))
    for layer in neurons:
        assert f"{layer.spikes_per_neuron:.2f}" in shown
        assert all(f"{rate:.2f}" in shown for rate in layer.spikes_per_step)


def test_silence_and_a_start_known_for_some_layers_only(make_result: Callable[..., Result]) -> None:
    first, second = make_result(["a", "b"]).neurons
    silent = first.model_copy(update={"spikes_per_step": (0.0,) * 5})
    fresh = second.model_copy(update={"readings_start": {}})
    assert "0.00" in words(figures.spikes_figure([silent, silent]))
    assert "before training" in words(figures.neurons_figure([silent, fresh]))


def test_thresholds_of_very_different_size_get_a_log_axis(
    make_result: Callable[..., Result],
) -> None:
    first, second = make_result(["a", "b"]).neurons
    small = first.model_copy(
        update={"readings": {"threshold": 0.01, "leak": 1.0}, "readings_start": {"leak": 1.0}}
    )
    large = second.model_copy(
        update={"readings": {"threshold": 100.0, "leak": 1.0}, "readings_start": {"leak": 1.0}}
    )
    shown = words(figures.neurons_figure([small, large]))
    assert {"0.01", "0.1", "1", "10", "100"} <= set(shown)


def test_energy_names_sums_and_factors(make_result: Callable[..., Result]) -> None:
    result = make_result(["a", "b", "c"])
    shown = words(energy.energy_figure(result.operations, result.energy))
    assert any(word.endswith("× less") for word in shown)
    for layer in result.operations:
        assert f"{layer.ann_pj / layer.snn_pj:.1f}×" in shown


def test_a_layer_without_energy_stands_at_the_end(make_result: Callable[..., Result]) -> None:
    result = make_result(["a", "b"])
    dead = result.operations[1].model_copy(update={"snn_acs": 0.0, "snn_pj": 0.0})
    operations = (result.operations[0], dead)
    assert "∞" in words(energy.energy_figure(operations, result.energy))
    nothing = dead.model_copy(update={"ann_pj": 0.0})
    assert "1.0×" in words(energy.energy_figure([nothing], result.energy))


@pytest.mark.parametrize("layers", [1, 150])
def test_few_and_many_layers(make_result: Callable[..., Result], layers: int) -> None:
    paths = [f"blocks.{index}.{'very_' * 9}long_name" for index in range(layers)]
    result = make_result(paths, timesteps=12)
    for svg in (
        figures.spikes_figure(result.neurons),
        figures.neurons_figure(result.neurons),
        energy.energy_figure(result.operations, result.energy),
    ):
        height = float(svg.split('viewBox="')[1].split('"')[0].split()[3])
        assert 100 < height < 1500
        assert any(word.endswith("long_name") for word in words(svg))
