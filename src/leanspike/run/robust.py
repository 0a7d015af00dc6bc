"""Robustness of runs: the ANN or teacher, the SNN, and other runs' SNNs, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from leanspike.data import Split
from leanspike.data.cifar_c import cifar_c_names, read_cifar_c
from leanspike.data.images import data_root
from leanspike.errors import LeanspikeError
from leanspike.evaluate import Robustness, measure_robustness, provenance
from leanspike.evaluate.robustness import Attack
from leanspike.files import write_text
from leanspike.report.html import write_robustness
from leanspike.run.folder import ROBUSTNESS, ROBUSTNESS_PAGE
from leanspike.run.run import Run
from leanspike.surgery import SpikingNetwork

EPSILONS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
CIFAR_C = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}


def compare_robustness(
    run: Run,
    others: Sequence[Run] = (),
    limit: int | None = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """``robustness.json`` and ``robustness.html`` of a run, beside other runs on the same data.

    The networks are the teacher that the recipe names, or the run's ANN, then each run's SNN.
    CIFAR-10-C takes part if it lies beside the data set. Where pixels are drawn as spikes, no
    gradient reaches them and nothing is attacked.

    Raises:
        LeanspikeError: for runs on other data, or with another normalisation.
    """
    networks: dict[str, nn.Module] = {}
    if run.recipe.teacher is not None:
        networks["teacher"] = run.teacher().network
    elif (run.folder / "ann").exists():
        networks["ANN"] = run.load("ann")
    for other in (run, *others):
        _check_same_data(run, other)
        networks[_free_name(other.folder.name, networks)] = other.load("snn")
    attacks: dict[Attack, Sequence[float]] = {"fgsm": EPSILONS, "pgd": EPSILONS[-1:]}
    found = measure_robustness(
        networks,
        run.data.test,
        mean=run.data.mean,
        std=run.data.std,
        more=_published(run),
        attacks={} if any(map(_draws_spikes, networks.values())) else attacks,
        limit=limit,
        seed=run.recipe.seed,
        data=run.data.name,
        origin=provenance(
            command="leanspike evaluate --robustness",
            seed=run.recipe.seed,
            recipe=run.recipe.model_dump(mode="json"),
            seconds={},
            device=run.device,
        ),
        progress=progress,
    )
    write_text(run.folder / ROBUSTNESS, found.model_dump_json(indent=1))
    write_robustness(found, run.folder / ROBUSTNESS_PAGE)
    return found


def _check_same_data(run: Run, other: Run) -> None:
    ours, theirs = run.data, other.data
    if (ours.name, ours.mean, ours.std) != (theirs.name, theirs.mean, theirs.std):
        raise LeanspikeError(
            f"{other.folder} is on {theirs.name} with mean {theirs.mean}, {run.folder} on "
            f"{ours.name} with mean {ours.mean}; compare runs on the same data"
        )
    if ours.frames is not None:
        raise LeanspikeError(f"{ours.name} has sequences; robustness is measured on images")


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free


def _draws_spikes(network: nn.Module) -> bool:
    return isinstance(network, SpikingNetwork) and network.plan.encoder.emits == "spike"


def _published(run: Run) -> dict[str, Callable[[int], Split]]:
    """The corruptions of CIFAR-10-C, where the user has it."""
    root = run.recipe.data.root
    folder = Path(root).expanduser() if root else data_root()
    folder = folder / CIFAR_C.get(run.data.name, "nothing")
    if not folder.is_dir():
        return {}
    return {f"{name} (C)": partial(read_cifar_c, folder, name) for name in cifar_c_names(folder)}
