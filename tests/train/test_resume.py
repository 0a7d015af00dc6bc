"""A run that is killed, at any moment and any number of times, ends with the same bits."""

from __future__ import annotations

import json
import random
import shutil
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import forked
from leanspike.errors import LeanspikeError
from leanspike.models import create_model
from leanspike.recipes import load_recipe
from leanspike.run import check_free
from leanspike.run.workspace import claim

# With everything in it that draws random numbers or learns besides the network.
TERMS = "objective: {cross_entropy: {}, response: {}, feature: {weight: 0.1}, spike_rate: {}}"
COMMAND = [
    *("train", "digits"),
    *("model.options.layers=[8, A, 16, A]", "model.options.head=[32]"),
    *("model.options.batch_norm=true", "spike.norm=bntt", "spike.norm_options.bias=true"),
    *("spike.encode=poisson", "spike.timesteps=3"),
    "teacher={model: {name: cifar_resnet20, options: {width: 0.25}, weights: teacher.pt}}",
    "ann.epochs=2",
    f"snn=[{{epochs: 1, timesteps: 2}}, {{epochs: 1, {TERMS}}}, "
    f"{{epochs: 1, weights: int6, {TERMS}}}]",
    "checkpoint_minutes=0.0001",
]


def start(folder: Path) -> ForkServerProcess:
    return forked.start([*COMMAND, "--out", str(folder)], folder.parent)


def finish(folder: Path) -> str:
    return forked.finish(start(folder), folder.parent)


def test_killed_at_random_moments_it_resumes_to_identical_weights(
    tmp_path: Path, new_seed: int
) -> None:
    teacher = create_model("cifar_resnet20", 10, in_channels=1, image_size=8, width=0.25)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    forked.finish(forked.start(["recipes"], tmp_path), tmp_path)  # there is a server now
    begun = time.monotonic()
    finish(tmp_path / "whole")
    duration = time.monotonic() - begun
    moments = random.Random(new_seed)
    kills = 0
    for _ in range(4):
        moment = duration * moments.uniform(0.4, 0.9)
        begun = time.monotonic()
        process = start(tmp_path / "killed")
        process.join(moment)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
            print(f"killed after {moment:.3f} s")
        elif not kills:  # the machine was busier before: again, with what it takes now
            duration = time.monotonic() - begun
            shutil.rmtree(tmp_path / "killed")
    last = json.loads(finish(tmp_path / "killed").splitlines()[-1])

    assert kills > 0, "no kill came in time"
    for model in ("ann", "start", "snn"):
        whole = load_file(tmp_path / "whole" / model / "model.safetensors")
        killed = load_file(tmp_path / "killed" / model / "model.safetensors")
        assert whole.keys() == killed.keys()
        for key in whole:
            assert whole[key].equal(killed[key]), f"{model} {key} differs"
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert last["snn_accuracy"] == result["accuracy"][-1]
    log = (tmp_path / "killed" / "log.jsonl").read_text().splitlines()
    epochs = [(row["stage"], row["epoch"]) for row in map(json.loads, log)]
    snn = [("snn T=2", 1), ("snn T=3", 1), ("snn T=3 (2)", 1)]
    assert epochs == [("ann", 1), ("ann", 2), *snn]

    # Killed after the last stage, before its weights were saved: they come from the checkpoint.
    shutil.rmtree(tmp_path / "killed" / "snn")
    (tmp_path / "killed" / "result.json").unlink()
    finish(tmp_path / "killed")
    again = load_file(tmp_path / "killed" / "snn" / "model.safetensors")
    assert all(again[key].equal(value) for key, value in whole.items())


def test_a_folder_with_another_recipe_is_not_touched(tmp_path: Path) -> None:
    claim(tmp_path / "run", load_recipe("digits"))
    with pytest.raises(LeanspikeError, match=r"seed is 0 there and 1 here.*--fresh"):
        check_free(tmp_path / "run", load_recipe("digits", ["seed=1"]))


def test_a_folder_that_is_no_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(LeanspikeError, match="not empty, but not a run"):
        check_free(tmp_path, load_recipe("digits"))
