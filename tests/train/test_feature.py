"""Distillation by features: which maps are paired, their distance, and what learns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import leanspike as ls
from leanspike.data import Loader, TensorSplit
from leanspike.models import create_model
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.run.build import build_objective
from leanspike.saved import save
from leanspike.surgery import SpikingNetwork
from leanspike.train import (
    Checkpoints,
    Feature,
    Monitor,
    Stage,
    Teacher,
    create_optimizer,
    create_schedule,
    find_pairs,
    fit,
)

X = torch.zeros(2, 3, 16, 16)
LABELS = torch.zeros(2).long()


def student(spiking: bool = True, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    drop = {"dropout_conv": 0.0, "dropout_linear": 0.0}
    ann = create_model("vgg6", 10, image_size=16, width=0.125, **drop, **options)
    if not spiking:
        return ann
    return ls.spike(ann, example_input=X[:1], timesteps=3, neuron=ls.LIF(threshold=0.2))


def teacher(name: str = "cifar_resnet20") -> nn.Module:
    torch.manual_seed(1)
    return create_model(name, 10)


def paths(pairs: Any) -> list[tuple[str, str]]:
    return [(pair.student, pair.teacher) for pair in pairs]


def test_maps_of_the_same_resolution_are_paired_the_last_of_each() -> None:
    found = find_pairs(student(), teacher(), X)
    assert paths(found) == [("features.relu1", "layer1"), ("features.relu3", "layer2")]
    assert found[0].student_shape == (8, 16, 16)
    assert found[0].teacher_shape == (16, 16, 16)


def test_an_ann_learns_from_features_too() -> None:
    assert paths(find_pairs(student(spiking=False), teacher(), X)) == [
        ("features.relu1", "layer1"),
        ("features.relu3", "layer2"),
        ("features", "layer3"),  # the pool's output, of which the whole is the last
    ]


def test_without_a_resolution_in_common_depth_decides() -> None:
    odd = nn.Sequential(
        *(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU()),
        *(nn.Conv2d(5, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10)),
    )  # 15, 7 and 6 pixels
    found = find_pairs(student(), odd, X)
    assert paths(found) == [("features.relu1", "1"), ("features.relu3", "5")]
    feature = Feature(odd, student(), X)
    snn = student()
    with feature.watch(snn):
        y_TNK = snn(torch.rand_like(X))
    assert torch.isfinite(feature(y_TNK, LABELS, torch.rand_like(X)))


def test_feature_is_the_distance_of_time_averaged_maps() -> None:
    snn, other = student(), teacher()
    x = torch.randn_like(X)
    feature = Feature(other, snn, x)
    spikes: dict[str, np.ndarray] = {}

    def observe(node: Any, _values: Any, value: Any) -> None:
        if node.meta.get("neuron"):
            spikes[str(node.target)] = value.detach().numpy().mean(0)

    snn.run(x, observer=observe)
    expected = []
    other.eval()
    maps: dict[str, np.ndarray] = {}
    for name in ("layer1", "layer2"):
        other.get_submodule(name).register_forward_hook(
            lambda _m, _a, out, name=name: maps.__setitem__(name, out.detach().numpy())
        )
    with torch.no_grad():
        other(x)
    for pair, adapter in zip(feature.pairs, feature.adapters, strict=True):
        weight = adapter.weight.detach().numpy()[:, :, 0, 0]
        ours = np.einsum("oc,nchw->nohw", weight, spikes[pair.student])
        expected.append(((ours - maps[pair.teacher]) ** 2).mean())
    with feature.watch(snn):
        y_TNK = snn(x)
    assert feature(y_TNK, LABELS, x).item() == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("channels", [8, 16])  # with an adapter, and without
def test_every_step_may_be_compared_by_its_average_so_far(channels: int) -> None:
    """The distance and its gradient at the spikes, against NumPy in float64."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4)
    other = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    ann = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Flatten())
    snn = ls.spike(ann, example_input=x[:1], timesteps=3, neuron=ls.LIF(threshold=0.2))
    feature = Feature(other, snn, x, {"1": "1"}, each_step=True)
    seen: list[torch.Tensor] = []

    def keep(_module: nn.Module, _args: Any, out: torch.Tensor) -> None:
        out.retain_grad()
        seen.append(out)

    with snn.get_submodule("1").register_forward_hook(keep), feature.watch(snn):
        y_TNK = snn(x)
    loss = feature(y_TNK, LABELS, x)
    loss.backward()
    (spikes,) = seen
    ours = spikes.detach().double().numpy()
    taught = other[1](other[0](x)).detach().double().numpy()
    weight = np.eye(16)
    if channels == 8:
        weight = feature.adapters[0].weight.detach().double().numpy()[:, :, 0, 0]
    distances, gradient = [], np.zeros_like(ours)
    for t in range(3):
        so_far = ours[: t + 1].mean(0).reshape(2, channels, 2, 2, 2, 2).mean((3, 5))
        error = np.einsum("oc,nchw->nohw", weight, so_far) - taught
        distances.append((error**2).mean())
        back = np.einsum("oc,nohw->nchw", weight, error) * 2 / error.size / 3 / 4 / (t + 1)
        gradient[: t + 1] += back.repeat(2, 2).repeat(2, 3)
    assert loss.item() == pytest.approx(np.mean(distances), rel=1e-5)
    assert spikes.grad is not None
    np.testing.assert_allclose(spikes.grad.numpy(), gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("each_step", [False, True])
def test_a_recipe_says_whether_every_step_is_compared(each_step: bool) -> None:
    terms = f"[{{feature: {{each_step: {each_step}}}}}]"
    section = load_recipe("digits", [f"snn.0.objective={terms}"]).snn[0]
    objective = build_objective(section, student(), lambda: Teacher(teacher()), X)
    (feature,) = objective.objectives
    assert feature.each_step == each_step


def test_an_anns_maps_are_of_one_step() -> None:
    network, x = student(spiking=False), torch.randn_like(X)
    losses = []
    for each_step in (False, True):
        torch.manual_seed(0)
        feature = Feature(teacher(), network, x, each_step=each_step)
        with feature.watch(network):
            y_NK = network(x)
        losses.append(feature(y_NK[None], LABELS, x).item())
    assert losses[0] == losses[1]


def test_student_and_adapters_learn_and_the_teacher_does_not() -> None:
    snn, other = student(), teacher()
    feature = Feature(other, snn, X)
    x = torch.randn_like(X)
    with feature.watch(snn):
        y_TNK = snn(x)
    feature(y_TNK, LABELS, x).backward()
    assert all(adapter.weight.grad.abs().sum() > 0 for adapter in feature.adapters)
    assert snn.get_submodule("features.conv1").weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in other.parameters())
    assert not any("teacher" in name for name in feature.state_dict())
    assert not snn.get_submodule("features.relu1")._forward_hooks  # nothing stays behind


def test_pairs_may_be_named_and_wrong_names_get_the_valid_ones() -> None:
    snn, other = student(), teacher()
    feature = Feature(other, snn, X, {"features.relu2": "layer2.0"})
    assert paths(feature.pairs) == [("features.relu2", "layer2.0")]
    with pytest.raises(ls.LeanspikeError, match=r"student .*'features\.relu9'; did you mean 'feat"):
        Feature(other, snn, X, {"features.relu9": "layer2"})
    with pytest.raises(ls.LeanspikeError, match=r"teacher has no feature map 'layer9'; did you"):
        Feature(other, snn, X, {"features.relu2": "layer9"})
    with pytest.raises(ls.LeanspikeError, match="the teacher has no feature maps"):
        Feature(nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), snn, X)


def test_a_teacher_of_another_kind_needs_no_code() -> None:
    torchvision = pytest.importorskip("torchvision")
    resnet = torchvision.models.resnet18(num_classes=10)
    found = find_pairs(student(), resnet, torch.zeros(1, 3, 64, 64)[:, :, :16, :16])
    assert len(found) >= 1


def test_neither_network_is_changed_by_being_watched() -> None:
    ann, other = student(spiking=False, batch_norm=True), teacher()
    frozen = next(m for m in ann.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    other.train()
    for _ in range(3):
        feature = Feature(other, ann, X)
        with feature.watch(ann):
            y_NK = ann(X)
        feature(y_NK[None], LABELS, X)
    assert not frozen.training
    assert ann.training
    modules = [*ann.modules(), *other.modules()]
    assert not any(module._forward_hooks for module in modules)
    torch.save([ann, other], io.BytesIO())


def test_maps_count_for_one_loss_and_of_one_network() -> None:
    network = student()
    feature = Feature(teacher(), network, X)
    with feature.watch(network):
        y_TNK = network(X)
    feature(y_TNK, LABELS, X)
    with pytest.raises(ls.LeanspikeError, match=r"run the student inside watch.* before each"):
        feature(network(X), LABELS, X)
    with (
        pytest.raises(ls.LeanspikeError, match="watch the network that the paths were named for"),
        feature.watch(nn.Identity()),
    ):
        pass
    with pytest.raises(ls.LeanspikeError, match="pairs is empty"):
        Feature(teacher(), network, X, {})


def test_a_map_that_is_overwritten_is_the_one_that_was_named() -> None:
    """Of a convolution before an in-place ReLU, in the student as in the teacher."""
    torch.manual_seed(0)
    x = torch.randn_like(X)
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    feature = Feature(nn.Sequential(*ann), ann, X, {"0": "0"})
    with feature.watch(ann):
        y_NK = ann(x)
    assert feature._seen["0"].min() < 0
    assert feature(y_NK[None], LABELS, x).item() == 0.0  # the teacher is the student
    assert feature.teacher.feature("0", x).min() < 0


def test_a_training_that_was_killed_resumes_with_its_adapters(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8)
    split = TensorSplit(images, torch.arange(32) % 10)
    train = Loader(split, batch_size=8, mean=(0.5,) * 3, std=(0.3,) * 3, seed=0, train=True)

    def learn(name: str, begin: int, killed_at: int | None = None) -> dict[str, torch.Tensor]:
        snn, other = student(), teacher()
        torch.manual_seed(begin)  # adapters begin anew, unless they come from the checkpoint
        feature = Feature(other, snn, X)
        constant = create_schedule("constant", 8)

        def schedule(step: int) -> float:
            if step == killed_at:
                raise RuntimeError("killed")
            return constant(step)

        both = nn.ModuleList([snn, feature])
        optimizer = create_optimizer(both, learning_rate=0.1)
        stage = Stage("snn", 1, 2, 3, train, None, feature, optimizer, schedule, seed=0)
        checkpoints = Checkpoints(tmp_path / name, minutes=1e-9)
        fit(snn, stage, [], checkpoints, Monitor(Console(quiet=True)))
        return both.state_dict()

    whole = learn("whole", begin=0)
    with pytest.raises(RuntimeError, match="killed"):
        learn("killed", begin=0, killed_at=6)
    resumed = learn("killed", begin=1)
    assert any("adapters" in name for name in whole)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


MAPS = "{feature: {weight: 0.1, each_step: true}}"
TERMS = f"[cross_entropy, {{response: {{weight: 0.5}}}}, {MAPS}, spike_rate]"


def test_a_recipe_names_terms_and_a_teacher(tmp_path: Path) -> None:
    torch.save(create_model("cifar_resnet20", 10, in_channels=1).state_dict(), tmp_path / "t.pt")
    recipe = load_recipe(
        "digits",
        [
            *("ann=null", "spike.calibrate=null", "model.options.width=0.25"),
            *("snn.0.epochs=1", f"snn.0.objective={TERMS}", "precision=float32"),
            f"teacher={{model: {{name: cifar_resnet20, weights: {tmp_path / 't.pt'}}}}}",
        ],
    )
    screen = io.StringIO()
    result = Run(recipe, tmp_path / "run", Monitor(Console(file=screen, width=120))).train()
    assert "features.relu" in screen.getvalue()
    assert "layer1" in screen.getvalue()
    assert result.timesteps == recipe.spike.timesteps


@pytest.mark.parametrize("spiking", [False, True])
def test_the_recipes_teacher_keeps_its_paths_and_its_kind(spiking: bool, tmp_path: Path) -> None:
    """With a normalisation of its own, too; and an SNN may teach."""
    network = create_model("cifar_resnet20", 10, in_channels=1, image_size=8).eval()
    if spiking:
        network = ls.spike(network, example_input=torch.zeros(1, 1, 8, 8), timesteps=2)
    folder = save(network, tmp_path / "teacher")
    weights = f"teacher={{model: {{name: cifar_resnet20, weights: {folder}}}, mean: [0.2]}}"
    recipe = load_recipe("digits", [weights, "device=cpu", "precision=float32"])
    run = Run(recipe, tmp_path / "run", Monitor(Console(quiet=True)))
    found, x = run.teacher(), torch.zeros(1, 1, 8, 8)
    assert isinstance(found.network, SpikingNetwork) == spiking
    pairs = find_pairs(found.network, network, x)
    assert all(pair.student == pair.teacher for pair in pairs)
    own = (x * run.data.std[0] + run.data.mean[0] - 0.2) / run.data.std[0]
    expected = network(own).detach()
    torch.testing.assert_close(found.logits(x), expected.mean(0) if spiking else expected)


def test_a_teacher_that_is_not_trained_yet_is_noticed_before_anything_is(tmp_path: Path) -> None:
    nowhere = tmp_path / "runs" / "teacher" / "ann"
    recipe = load_recipe(
        "digits", [f"teacher={{model: {{name: cifar_resnet20, weights: {nowhere}}}}}"]
    )
    run = Run(recipe, tmp_path / "run", Monitor(Console(quiet=True)))
    with pytest.raises(ls.LeanspikeError, match=r"no weights at .*ann; train that network first"):
        run.train()
    assert not run.folder.exists()
