"""The robustness of runs: the ANN or teacher, the SNN, and other runs' SNNs, side by side."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from leanspike.data import COMMON_CORRUPTIONS, CORRUPTIONS, CommonCorruptedSplit
from leanspike.data.cifar_c import cifar_c_names, read_cifar_c
from leanspike.data.images import data_root
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Robustness, measure_robustness, provenance
from leanspike.evaluation.robustness_arguments import Attack, Family
from leanspike.execute import SpikingNetwork
from leanspike.files import write_text
from leanspike.report.html import write_robustness
from leanspike.run.clock import read_backends
from leanspike.run.run import Run
from leanspike.run.workspace import ROBUSTNESS, ROBUSTNESS_PAGE

EPSILONS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
CIFAR_C = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}


def compare_robustness(
    run: Run,
    others: Sequence[Run] = (),
    limit: int | None = 1000,
    progress: Callable[[int, int], None] | None = None,
    common: bool = False,
    corruptions: Sequence[str] = (),
) -> Robustness:
    """Write ``robustness.json`` and ``robustness.html`` of a run, beside runs on the same data.

    The networks are the teacher that the recipe names, or the run's ANN, then each run's SNN.
    CIFAR-10-C takes part if it lies beside the data set. It is left out, with a note, if
    ``data.cross_validation`` has chosen other test images. With ``common`` the corruptions of
    ImageNet-C take part, by the package that the extra ``corruptions`` installs. ``corruptions``
    names some of leanspike's own or of another package's; the default is all of leanspike's. If
    pixels are drawn as spikes, no gradient reaches them and nothing is attacked.

    Raises:
        LeanspikeError: for runs on other test images or with another normalisation, and for images
            that ``common`` does not fit.
    """
    networks: dict[str, nn.Module] = {}
    if run.recipe.teacher is not None:
        networks["teacher"] = run.teacher().network
    elif (run.folder / "ann").exists():
        networks["ANN"] = run.load("ann")
    for other in (run, *others):
        _check_same_data(run, other)
        networks[_free_name(other.folder.name, networks)] = other.load("snn")
    command = ["leanspike", "robustness", str(run.folder)]
    command += [word for other in others for word in ("--beside", str(other.folder))]
    command += ["--limit", str(limit or len(run.data.test)), *(["--common"] if common else [])]
    command += [word for name in corruptions for word in ("--corruption", name)]
    attacks: dict[Attack, Sequence[float]] = {"fgsm": EPSILONS, "pgd": EPSILONS[-1:]}
    drawn = any(map(_draws_spikes, networks.values()))
    if drawn:
        run.monitor.console.print("no attacks: pixels that are drawn as spikes have no gradient")
    found = measure_robustness(
        networks,
        run.data.test,
        mean=run.data.mean,
        std=run.data.std,
        corruptions=tuple(corruptions) or tuple(CORRUPTIONS),
        more=_published(run) | (_common(run) if common else {}),
        attacks={} if drawn else attacks,
        limit=limit,
        seed=run.recipe.seed,
        data=run.data.name,
        split_name="test",
        origin=provenance(
            command=shlex.join(command),
            seed=run.recipe.seed,
            recipe=run.recipe.model_dump(mode="json"),
            device=run.device,
            backends=read_backends(run.folder),
        ),
        progress=progress,
    )
    write_text(run.folder / ROBUSTNESS, found.model_dump_json(indent=1))
    write_robustness(found, run.folder / ROBUSTNESS_PAGE)
    return found


def _check_same_data(run: Run, other: Run) -> None:
    if run.data.frames is not None:
        raise LeanspikeError(f"{run.data.name} has sequences; give a run on images")
    if not run.data.of_images:
        raise LeanspikeError(f"{run.data.name} has tensors; give a run on images")
    theirs = _sees(other)
    for what, value in _sees(run).items():
        if theirs[what] != value:
            raise LeanspikeError(
                f"{other.folder} has {what} {theirs[what]}, but {run.folder} has {value}; compare "
                "runs on the same data"
            )


def _sees(run: Run) -> dict[str, object]:
    """Return all that determines the test images and a network's input for them."""
    data = run.data
    return {
        "data": data.name,
        "data.cross_validation": run.recipe.data.cross_validation,
        "images of": data.shape,
        "test images": len(data.test),
        "mean": data.mean,
        "std": data.std,
    }


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free


def _draws_spikes(network: nn.Module) -> bool:
    return isinstance(network, SpikingNetwork) and network.plan.encoder.emits == "spike"


def _published(run: Run) -> dict[str, Family]:
    """Return the corruptions of CIFAR-10-C, if the user has it and it fits the test images."""
    root, name = run.recipe.data.root, CIFAR_C.get(run.data.name, "nothing")
    folder = (Path(root).expanduser() if root else data_root()) / name
    if not folder.is_dir():
        return {}
    if run.recipe.data.cross_validation is not None:
        run.monitor.console.print(
            f"{name} is left out: data.cross_validation has chosen other test images"
        )
        return {}
    return {name: {kind: partial(read_cifar_c, folder, kind) for kind in cifar_c_names(folder)}}


def _common(run: Run) -> dict[str, Family]:
    """Return the corruptions of ImageNet-C, applied to the run's own test images."""
    corrupt = partial(CommonCorruptedSplit, run.data.test, seed=run.recipe.seed)
    return {"common": {kind: partial(corrupt, kind) for kind in COMMON_CORRUPTIONS}}
