"""The report's figures of the training, and of one image on its way through the network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from leanspike.errors import LeanspikeError
from leanspike.evaluation.result import Example, Raster, Result
from leanspike.report import style
from leanspike.report.quantities import plural
from leanspike.report.text import head, tail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Epoch(BaseModel):
    """An epoch in a run's log. ``val_accuracy`` is None if nothing was held out.

    Both accuracies are None if the targets were no labels.

    >>> Epoch(stage="ann", epoch=1, train_loss=2.3, train_accuracy=0.1, val_accuracy=None).epoch
    1
    """

    model_config = ConfigDict(defer_build=True, frozen=True)

    stage: str
    epoch: int
    train_loss: float
    train_accuracy: float | None
    val_accuracy: float | None


def read_epochs(history: Sequence[dict[str, object]]) -> dict[str, list[Epoch]]:
    """Return the epochs of a log by stage, in order. If an epoch occurs twice, the last counts.

    >>> entry = {"event": "epoch", "stage": "ann", "epoch": 1, "train_loss": 2.3,
    ...          "train_accuracy": 0.1, "val_accuracy": None}
    >>> [epoch.train_loss for epoch in read_epochs([{"event": "start"}, entry])["ann"]]
    [2.3]
    """
    stages: dict[str, dict[int, Epoch]] = {}
    for number, entry in enumerate(history, start=1):
        if entry.get("event") != "epoch":
            continue
        try:
            epoch = Epoch.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            raise LeanspikeError(
                f"entry {number} of the history: {first['loc'][0]}: {first['msg'].lower()}; "
                "an epoch has stage, epoch, train_loss, train_accuracy and val_accuracy"
            ) from None
        stages.setdefault(epoch.stage, {})[epoch.epoch] = epoch
    return {stage: [epochs[key] for key in sorted(epochs)] for stage, epochs in stages.items()}


def training_figure(stages: dict[str, list[Epoch]]) -> str:
    """Draw loss (above) and accuracy (below) over the epochs, in a column for each stage.

    >>> epoch = Epoch(stage="ann", epoch=1, train_loss=2.3, train_accuracy=0.1, val_accuracy=None)
    >>> training_figure({"ann": [epoch]})
    '<svg...ANN</text>...</svg>'
    """

    def content(figure: Figure) -> None:
        lengths = [len(epochs) for epochs in stages.values()]
        widths = [max(length, max(lengths) / 4) for length in lengths]
        grid = figure.subplots(
            2, len(stages), sharex="col", sharey="row", squeeze=False, width_ratios=widths
        )
        for (upper, lower), stage, width in zip(grid.T, stages, widths, strict=True):
            title = re.sub(r"\b[as]nn\b", lambda word: word[0].upper(), stage)
            upper.set_title(head(title, max(6, int(90 * width / sum(widths)))))
            _curves(upper, lower, stages[stage])
        _loss_axis(grid[0, 0], [e.train_loss for epochs in stages.values() for e in epochs])
        grid[1, 0].set_ylabel("accuracy")
        grid[1, 0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
        handles, labels = grid[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=2)

    epochs = plural(sum(len(epochs) for epochs in stages.values()), "epoch")
    label = f"Loss and accuracy over {epochs} of {plural(len(stages), 'stage')}"
    return style.draw("training", label, 380, content)


def _loss_axis(axes: Axes, losses: Sequence[float]) -> None:
    """Make the axis logarithmic if the loss spans more than a factor of ten."""
    axes.set_ylabel("training loss")
    if min(losses) > 0 and max(losses) > 10 * min(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.locator_params(axis="y", subs=(1, 3))


def _curves(upper: Axes, lower: Axes, epochs: Sequence[Epoch]) -> None:
    """Draw a stage: its loss, and its accuracy on training and on held-out data."""
    at = [epoch.epoch for epoch in epochs]
    marker = "o" if len(at) <= 12 else ""
    held_out = [(e.epoch, e.val_accuracy) for e in epochs if e.val_accuracy is not None]
    upper.plot(at, [e.train_loss for e in epochs], color=style.ANN, marker=marker, markersize=4)
    seen = [(e.epoch, e.train_accuracy) for e in epochs if e.train_accuracy is not None]
    lower.plot(
        *(zip(*seen, strict=True) if seen else ((), ())),
        color=style.ANN,
        marker=marker,
        markersize=4,
        label="training data",
    )
    if held_out:
        lower.plot(
            *zip(*held_out, strict=True),
            color=style.SNN,
            marker=marker,
            markersize=4,
            label="held-out data",
        )
    for axes in (upper, lower):
        axes.grid(axis="y")
        axes.grid(visible=False, axis="x")
    lower.set_xlim(0.5, at[-1] + 0.5)
    lower.locator_params(axis="x", integer=True, min_n_ticks=1)
    lower.set_xlabel("epoch")


def example_figure(result: Result, example: Example, most: int = 10) -> str:
    """Draw an image, the spikes of (at most ``most``) layers, and the answer after every step.

    >>> raster = Raster(path="relu", neurons=4, shown=2, spikes=((0, 1), (1, 0)))
    >>> image = Example(pixels=(((0,), (255,)),), label=1, probabilities=((0.5, 0.5), (0.1, 0.9)),
    ...                 rasters=(raster,))
    >>> result = Result.model_construct(classes=("cat", "dog"), timesteps=2)
    >>> example_figure(result, image)
    '<svg...Label: dog</text>...relu</text>...✓ dog</text>...90 %</text>...</svg>'
    """
    rasters = [example.rasters[index] for index in style.thin(len(example.rasters), most)]
    answers = _top_classes(example, 5)
    band = max(44.0, min(80.0, 440 / max(len(rasters), 1)))

    def content(figure: Figure) -> None:
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 3.2)).flat
        _picture(left.subplots(), result, example)
        heights = [*[band] * len(rasters), 24.0 * len(answers)]
        *bands, last = right.subplots(len(heights), squeeze=False, height_ratios=heights).flat
        for axes, raster in zip(bands, rasters, strict=True):
            _raster(axes, raster, result.timesteps, band)
        right.axes[0].set_title("Spikes")
        _answers(last, result, example, answers)
        last.set_title("Probability of the likeliest classes")

    height = (band + 8) * len(rasters) + 24 * len(answers) + 100
    label = f"Spikes of {plural(len(rasters), 'layer')} for one image, and the answer per step"
    return style.draw("example", label, max(height, 260), content, gap=5)


def _top_classes(example: Example, most: int) -> list[int]:
    """Return the likeliest classes at the last step, best first, always with the right one."""
    last = example.probabilities[-1]
    best = sorted(range(len(last)), key=lambda k: -last[k])[:most]
    return best if example.label in best else [*best[:-1], example.label]


def _picture(axes: Axes, result: Result, example: Example) -> None:
    pixels = np.asarray(example.pixels, dtype=np.uint8)
    colored = pixels if pixels.shape[-1] == 3 else pixels.mean(axis=-1)
    axes.imshow(colored, "gray", vmin=0, vmax=255, interpolation="none")
    axes.set_axis_off()
    axes.set_anchor("N")
    axes.set_title(head(f"Label: {result.classes[example.label]}", 24))


def _raster(axes: Axes, raster: Raster, timesteps: int, height: float) -> None:
    """Draw a layer: a dash for each spike, steps from left to right, neurons downwards."""
    spikes = np.array(raster.spikes, dtype=float).reshape(-1, 2)
    gap = np.full(len(spikes), np.nan)
    step, neuron = spikes.T
    x = np.stack([step - 0.42, step + 0.42, gap], axis=1).ravel()
    y = np.stack([neuron, neuron, gap], axis=1).ravel()
    thickness = 0.85 * height / raster.shown
    axes.plot(x, y, color=style.SNN, linewidth=thickness, solid_capstyle="butt")
    axes.set_xlim(-0.5, timesteps - 0.5)
    axes.set_ylim(raster.shown - 0.5, -0.5)
    axes.set_facecolor("#f5f7fa")
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([(raster.shown - 1) / 2], [tail(raster.path, 22)])
    axes.spines[:].set_visible(False)


def _answers(axes: Axes, result: Result, example: Example, classes: Sequence[int]) -> None:
    """Draw the probability of some classes after every step, as a heat map below the rasters."""
    steps = len(example.probabilities)
    chances = np.array(example.probabilities)[:, list(classes)].T
    axes.imshow(chances, style.shades(), aspect="auto", vmin=0, vmax=1, interpolation="none")
    if steps <= 12:
        style.write_cells(axes, chances, [f"{100 * p:.0f} %" for p in chances.flat], 1.0)
    mark = {True: "✓ ", False: ""}
    names = [mark[k == example.label] + head(result.classes[k], 20) for k in classes]
    axes.set_yticks(range(len(classes)), names)
    style.label_steps(axes, steps)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
