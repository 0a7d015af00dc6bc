"""Robustness of several networks side by side: what is measured, on what, and its way to disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike.data import CORRUPTIONS, CorruptedSplit, Loader, Split, TensorSplit, synthetic
from leanspike.errors import LeanspikeError
from leanspike.evaluation import (
    Curve,
    Robustness,
    accuracy,
    load_robustness,
    measure_robustness,
)
from leanspike.evaluation.origin import provenance
from leanspike.evaluation.robustness_arguments import Attack
from leanspike.evaluation.robustness_result import OWN

MEAN, STD = (0.5,), (0.25,)
ORIGIN = provenance(command="test", seed=0, recipe={}, seconds={})


@cache
def trained() -> tuple[dict[str, nn.Module], TensorSplit]:
    """An ANN and its SNN that have learnt random patterns, and test images."""
    parts = synthetic((1, 8, 8), classes=4, train=240, test=100)
    loader = Loader(
        parts.train, batch_size=60, mean=MEAN, std=STD, seed=0, train=True, augment=None
    )
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 4))
    optimizer = torch.optim.Adam(ann.parameters(), lr=3e-3)
    for epoch in range(10):
        for x, labels in loader.epoch(epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(ann(x), labels).backward()
            optimizer.step()
    snn = ls.spike(ann.eval(), example_input=torch.zeros(1, 1, 8, 8), timesteps=4)
    ls.calibrate(snn, next(loader.epoch(0))[0], percentile=99.7, scale=0.6)
    assert isinstance(parts.test, TensorSplit)
    return {"ann": ann, "snn": snn.eval()}, parts.test


def measure(**options: object) -> Robustness:
    networks, split = trained()
    arguments = {"mean": MEAN, "std": STD, "origin": ORIGIN} | options
    return measure_robustness(
        arguments.pop("networks", networks),  # type: ignore[arg-type]
        arguments.pop("split", split),  # type: ignore[arg-type]
        **arguments,  # type: ignore[arg-type]
    )


def accuracy_on(network: nn.Module, split: Split) -> float:
    loader = Loader(split, batch_size=100, mean=MEAN, std=STD, seed=0, train=False)
    return accuracy(network, loader.epoch(0))[-1]


def test_it_is_the_accuracy_on_the_corrupted_split() -> None:
    networks, split = trained()
    found = measure(corruptions=["gaussian", "blur"], severities=[2, 5], seed=3)
    assert found.networks == ("ann", "snn")
    assert [curve.name for curve in found.corruptions[OWN]] == ["gaussian", "blur"]
    for name, network in networks.items():
        assert found.clean[name] == pytest.approx(accuracy_on(network, split))
        for curve in found.corruptions[OWN]:
            assert curve.strengths == (2, 5)
            for severity, right in zip((2, 5), curve.accuracy[name], strict=True):
                corrupted = CorruptedSplit(split, curve.name, severity, seed=3)
                assert right == pytest.approx(accuracy_on(network, corrupted))


def test_all_corruptions_by_default_and_accuracy_falls() -> None:
    found = measure()
    assert [curve.name for curve in found.corruptions[OWN]] == list(CORRUPTIONS)
    for name in found.networks:
        assert found.clean[name] > 0.95
        falls = [found.clean[name] - curve.accuracy[name][-1] for curve in found.corruptions[OWN]]
        assert max(falls) > 0.3
        assert min(falls) > -0.05
    noise = found.corruptions[OWN][0].accuracy["snn"]
    assert noise[0] >= noise[-1]
    assert found.attacks == ()
    assert found.silent == {}


def test_attacks_hurt_more_the_stronger_they_are() -> None:
    epsilons = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
    found = measure(corruptions=[], attacks={"fgsm": epsilons, "pgd": epsilons}, pgd_steps=5)
    for name in found.networks:
        for curve in found.attacks:
            right = curve.accuracy[name]
            assert right[0] == found.clean[name]
            noise = 2 / found.n**0.5 / 2  # two standard errors
            assert all(b <= a + noise for a, b in pairwise(right))
            assert right[-1] < 0.3
        assert found.silent[name] < 0.05
    assert found.mean_corruption_error == {}
    assert found.relative_corruption_error == {}


@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    options = {"corruptions": ["salt_and_pepper", "occlusion"], "limit": 30, "pgd_steps": 2}
    attacks = {"pgd": (0.05,)}
    expected = measure(**options, attacks=attacks, batch_size=30)
    assert measure(**options, attacks=attacks, batch_size=batch_size) == expected


def test_a_limit_keeps_the_classes_and_the_positions() -> None:
    networks, split = trained()
    found = measure(corruptions=["gaussian"], severities=[5], limit=20)
    chosen = [i for i in range(100) if i in set(_chosen(split, 20))]
    part = CorruptedSplit(split, "gaussian", 5).select(torch.tensor(chosen))
    assert part.labels.bincount().tolist() == [5] * 4
    assert found.n == 20
    assert found.corruptions[OWN][0].accuracy["ann"] == (accuracy_on(networks["ann"], part),)
    assert found.sample.position == chosen[0]
    pixels = torch.tensor(found.sample.pixels, dtype=torch.uint8).permute(2, 0, 1)
    assert torch.equal(pixels, split.images[chosen[0]])
    assert measure(corruptions=[], limit=1000).n == 100


def _chosen(split: Split, limit: int) -> list[int]:
    from leanspike.data.split import stratified

    return stratified(split.labels, limit)[1].tolist()


def test_images_that_others_have_corrupted() -> None:
    networks, split = trained()

    def inverted(severity: int) -> Split:
        return TensorSplit(255 - split.images if severity > 1 else split.images, split.labels)

    more = {"theirs": {"blur": inverted}, "none": {}}
    found = measure(corruptions=["blur"], severities=[1, 2], more=more)
    assert list(found.corruptions) == [OWN, "theirs"]
    first, second = found.corruptions["theirs"][0].accuracy["ann"]
    assert first == found.clean["ann"]
    assert second == pytest.approx(accuracy_on(networks["ann"], inverted(2)))
    assert found.summary["corruptions"] == {OWN: 1, "theirs": 1}
    errors = {family: errors["ann"] for family, errors in found.mean_corruption_error.items()}
    assert errors["theirs"] == pytest.approx(1 - (first + second) / 2)
    assert (
        errors[OWN]
        == measure(corruptions=["blur"], severities=[1, 2]).mean_corruption_error[OWN]["ann"]
    )


def _unreadable(severity: int) -> Split:
    raise LeanspikeError(f"severity {severity} lies nowhere")


def _part(indices: Tensor) -> Callable[[int], Split]:
    return lambda _: trained()[1].select(indices)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (_unreadable, "severity 2 lies nowhere"),
        (_part(torch.arange(50)), "the corrupted images (50) are not the 100 of the split in the"),
        (_part(torch.arange(100).flip(0)), "the corrupted images (100) are not the 100 of the"),
    ],
)
def test_a_source_is_opened_before_anything_is_measured(
    source: Callable[[int], Split], message: str
) -> None:
    told: list[int] = []
    with pytest.raises(LeanspikeError) as error:
        measure(
            severities=[2],
            more={"theirs": {"first": lambda _: trained()[1], "second": source}},
            progress=lambda done, _: told.append(done),
        )
    assert str(error.value).startswith(message)
    assert told == []


def test_a_corruption_is_tried_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    told: list[int] = []
    with pytest.raises(LeanspikeError, match=r"pip install 'leanspike\[vision\]'$"):
        measure(progress=lambda done, _: told.append(done))
    assert told == []


def test_the_corruption_error_by_hand() -> None:
    found = measure(corruptions=["rotation", "translation"], severities=[3, 5])
    errors = {
        name: sum(1 - right for curve in found.corruptions[OWN] for right in curve.accuracy[name])
        / 4
        for name in found.networks
    }
    assert found.mean_corruption_error[OWN] == pytest.approx(errors)
    relative = {name: error / errors["ann"] for name, error in errors.items()}
    assert found.relative_corruption_error[OWN] == pytest.approx(relative)
    summary: Any = found.summary
    assert summary["mean_corruption_error"][OWN] == pytest.approx(errors, abs=1e-4)
    perfect = Curve(name="x", strengths=(1,), accuracy={"ann": (1.0,), "snn": (0.5,)})
    changed = found.model_copy(update={"corruptions": {OWN: (perfect,)}})
    assert changed.relative_corruption_error == {OWN: {}}


def test_progress_runs_to_its_end() -> None:
    told: list[tuple[int, int]] = []
    measure(
        corruptions=["blur"],
        severities=[1, 4],
        attacks={"fgsm": (0.1,)},
        batch_size=40,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (500, 500)  # clean, two severities, one ε, the gradient
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0] == (40, 500)


def test_the_networks_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout()
    net = nn.Sequential(*layers, nn.Linear(144, 4)).train()
    net[1].eval()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    options = {"corruptions": ["blur"], "severities": [1], "attacks": {"pgd": (0.1,)}, "limit": 8}
    first = measure(networks={"net": net}, **options)
    assert [module.training for module in net][:2] == [True, False]
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert measure(networks={"net": net}, **options) == first  # no dropout


def test_it_reads_back_equal_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    found = measure(corruptions=["blur"], attacks={"fgsm": (8 / 255,)}, limit=8)
    path = tmp_path / "robustness.json"
    path.write_text(found.model_dump_json())
    assert load_robustness(path) == found
    older = path.read_text().replace('"schema_version":2', '"schema_version":1')
    for text in ("{}", "no json", path.read_text()[:-9], older):
        path.write_text(text)
        with pytest.raises(LeanspikeError, match=r"robustness\.json holds no robustness") as error:
            load_robustness(path)
        assert "\n" not in str(error.value)


def _poisson() -> dict[str, nn.Module]:
    ann = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    return {"snn": ls.spike(ann, example_input=torch.zeros(1, 1, 8, 8), encode="poisson")}


EMPTY = TensorSplit(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": {}}, "no networks to measure the robustness with; give 1 or more"),
        ({"split": EMPTY}, "no images to measure the robustness with; give 1 or more"),
        ({"severities": []}, "no severities to measure the robustness with; give 1 or more"),
        ({"severities": [1, 6]}, "severity is 6; give 1, 2, 3, 4 or 5"),
        ({"corruptions": ["fog"]}, "no corruption 'fog'; did you mean"),
        ({"more": {OWN: {"blur": lambda _: EMPTY}}}, "a family in more is named 'leanspike'; give"),
        ({"attacks": {"cw": (0.1,)}}, "no attack 'cw'; choose one of fgsm, pgd"),
        ({"attacks": {"fgsm": ()}}, "fgsm has no epsilon; give it one or more, such as 8/255"),
        ({"attacks": {"pgd": (8,)}}, "epsilon is 8; give a number in [0, 1], such as 8/255"),
        ({"limit": 0}, "limit is 0; give 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"pgd_steps": 0}, "pgd_steps is 0; give 1 or more"),
        ({"mean": (0.5, 0.5)}, "mean (0.5, 0.5) and std (0.25,) do not fit images of 1 channels"),
    ],
)
def test_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(LeanspikeError) as error:
        measure(**options)
    assert str(error.value).startswith(message)


def test_an_input_drawn_as_spikes_is_measured_but_not_attacked() -> None:
    networks = _poisson()
    attacks: dict[Attack, tuple[float, ...]] = {"fgsm": (0.1,)}
    assert measure(networks=networks, corruptions=["blur"], severities=[1], limit=4).n == 4
    calls: list[int] = []
    report: Callable[[int, int], None] = lambda done, _: calls.append(done)  # noqa: E731
    with pytest.raises(LeanspikeError, match="drawn as spikes"):
        measure(networks=networks, attacks=attacks, progress=report)
    assert calls == []  # refused before anything is measured


def test_images_in_another_form_than_a_split_are_refused_and_the_advice_works() -> None:
    x, y = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6) % 3
    ann = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    options: dict[str, Any] = {"mean": (0.5,), "std": (0.5,), "corruptions": ["blur"]}
    message = r"split is a tuple; .*, as leanspike\.data\.TensorSplit\(images, labels\)"
    with pytest.raises(LeanspikeError, match=message):
        measure_robustness({"ann": ann}, (x, y), **options)
    assert measure_robustness({"ann": ann}, TensorSplit(x, y), **options).n == 6
    rows = TensorSplit(x, torch.ones(6, 3))
    with pytest.raises(LeanspikeError, match=r"of one answer for each sample: give whole numbers"):
        measure_robustness({"ann": ann}, rows, **options)
    yes = TensorSplit(x, (y > 0).long())
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    found = measure_robustness({"ann": one}, yes, **options, attacks={"fgsm": (0.1,)})
    assert found.clean["ann"] in (2 / 6, 4 / 6)
