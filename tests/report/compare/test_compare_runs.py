"""What a comparison is made of: names that tell runs apart, and what keeps figures apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from leanspike.errors import LeanspikeError
from leanspike.evaluation.result import Result
from leanspike.report.compare import Compared, compare, differences
from leanspike.report.compare.runs import recipe_changes

Make = Callable[..., Result]


def pair(first: Result, second: Result) -> list[Compared]:
    return compare([(Path("a"), first, []), (Path("b"), second, [])])


def of_origin(result: Result, **update: object) -> Result:
    """The result with something else in its provenance."""
    return result.model_copy(update={"provenance": result.provenance.model_copy(update=update)})


def test_names_are_no_longer_than_it_takes(make_result: Make) -> None:
    folders = ["x/one/digits", "x/two/digits", "y/two/digits", "x/short"]
    runs = compare([(Path(folder), make_result(["relu"]), []) for folder in folders])
    assert [run.name for run in runs] == ["one/digits", "x/two/digits", "y/two/digits", "short"]


@pytest.mark.parametrize("again", ["a", "a/", "b/../a"])
def test_a_run_given_twice_is_one_line(make_result: Make, again: str) -> None:
    result = make_result(["relu"])
    with pytest.raises(LeanspikeError, match=r"^.*a is given twice; name each run once$"):
        compare([(Path("a"), result, []), (Path(again), result, [])])


def test_another_seed_is_no_difference(make_result: Make) -> None:
    first, second = make_result(["relu"]), of_origin(make_result(["relu"], seed=1), seed=1)
    assert differences(pair(first, second)) == []


def test_other_data_or_fewer_of_them_are_named(make_result: Make) -> None:
    first = make_result(["relu"])
    for other in (
        first.model_copy(update={"data": "mnist"}),
        first.model_copy(update={"n": 100}),
        first.model_copy(update={"split": "validation"}),
    ):
        [sentence] = differences(pair(first, other))
        assert sentence == (
            f"Different data: digits (360 test images); {other.data} ({other.n} {other.split} "
            "images). Their accuracies cannot be compared."
        )


def test_other_networks_are_named_by_size_or_options(make_result: Make) -> None:
    first = make_result(["relu"])
    [sentence] = differences(pair(first, make_result(["relu1", "relu2"])))
    assert sentence.startswith("Different networks: vgg6 (")
    model = {"name": "vgg6", "options": {"pool": "max"}}
    [sentence] = differences(pair(first, of_origin(first, recipe={"model": model})))
    assert "MACs) with different options." in sentence


def test_prices_and_machines_are_named(make_result: Make) -> None:
    first = make_result(["relu"])
    dear = first.model_copy(update={"energy": first.energy.model_copy(update={"mac_pj": 9.0})})
    [sentence] = differences(pair(first, dear))
    assert sentence.startswith("Different prices: 4.6 pJ a MAC and 0.9 pJ an AC; 9.0 pJ a MAC")
    [sentence] = differences(pair(first, of_origin(first, threads=8)))
    assert "Example CPU, 2 cores, 2 threads; Example CPU, 2 cores, 8 threads" in sentence


def test_machines_do_not_matter_where_nothing_was_trained(make_result: Make) -> None:
    first = of_origin(make_result(["relu"]), seconds={"calibrate": 7.0})
    runs = pair(first, of_origin(first, threads=8))
    assert differences(runs) == []
    assert runs[0].training_seconds is None


def test_seconds_are_those_of_training(make_result: Make) -> None:
    [run] = compare([(Path("a"), make_result(["relu"]), [])])
    assert run.training_seconds == 42.8  # not those of the evaluation


def test_a_result_without_a_recipe_has_an_unknown_network(make_result: Make) -> None:
    for recipe in ({}, {"model": "mine"}):
        [run] = compare([(Path("a"), of_origin(make_result(["relu"]), recipe=recipe), [])])
        assert run.network == "–"


def test_changes_of_recipes_by_dotted_key(make_result: Make) -> None:
    result = make_result(["relu"])
    first = of_origin(result, recipe={"snn": [{"epochs": 1}], "ann": None, "layers": [1, "A"]})
    second = of_origin(result, recipe={"snn": [], "ann": {"epochs": 2}, "layers": [1, "A"]})
    assert recipe_changes(pair(first, second)) == {
        "snn.0.epochs": ["1", ""],
        "ann": ["null", ""],
        "snn": ["", "[]"],
        "ann.epochs": ["", "2"],
    }


def test_times_of_other_machines_or_batches_are_named(make_result: Make) -> None:
    timed = make_result(["relu"], timed=True)
    assert differences(pair(timed, timed)) == []
    untrained = of_origin(timed, seconds={})
    [sentence] = differences(pair(untrained, of_origin(untrained, hardware="another")))
    assert sentence.endswith("Times depend on them.")
    assert timed.times is not None
    single = timed.times.model_copy(update={"batches": timed.times.batches[:1]})
    [sentence] = differences(pair(timed, timed.model_copy(update={"times": single})))
    assert sentence == "Different batches: times of 64; 1 samples. Time ratios depend on them."
