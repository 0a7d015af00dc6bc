"""The description of a run's data for exported files, and images to compare them on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from leanspike.data import Loader, normalise
from leanspike.run.run import Run


def about_data(run: Run) -> dict[str, Any]:
    """Return the classes, and the constants of the network's input, (x / 255 − mean) / std.

    >>> from pathlib import Path
    >>> from rich.console import Console
    >>> from leanspike.recipes import load_recipe
    >>> from leanspike.train import Monitor
    >>> run = Run(load_recipe("digits"), Path("runs/none"), Monitor(Console(quiet=True)))
    >>> about_data(run)["classes"][:2], about_data(run)["data"]
    (['0', '1'], 'digits')
    """
    data = run.data
    return {
        "recipe": run.recipe.name,
        "data": data.name,
        "classes": list(data.classes),
        "mean": list(data.mean),
        "std": list(data.std),
        **({} if data.of_images else {"input": "(x - mean) / std, in the data's own units"}),
    }


def first_images(run: Run, count: int) -> Tensor:
    """Return the run's first test images, normalised: ``[N, C, H, W]``, frames ``[T, N, ...]``."""
    first = torch.arange(min(count, len(run.data.test)))
    pixels, _ = run.data.test.batch(first)
    return normalise(pixels, run.data.mean, run.data.std)


def labelled_tests(run: Run, limit: int | None = None) -> Loader:
    """Return the run's test images with their labels, or the first ``limit`` of them."""
    test = run.data.test
    if limit is not None and limit < len(test):
        test = test.select(torch.arange(limit))
    return Loader(
        test,
        batch_size=run.recipe.evaluate.batch_size,
        mean=run.data.mean,
        std=run.data.std,
        seed=run.recipe.seed,
        train=False,
        memory_format=run.memory_format,
        device=run.device,
    )
