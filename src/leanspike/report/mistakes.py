"""The report's figure of wrong answers of SNN and ANN."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanspike.evaluation.mistakes import Mistake, Picture
from leanspike.evaluation.result import Result
from leanspike.report import style
from leanspike.report.quantities import plural
from leanspike.report.text import head, sample_noun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6
ROW_PX = 205


def mistakes_figure(result: Result) -> str:
    """Draw some of the samples that only the SNN, only the ANN, or both answer wrongly.

    The figure is "" if no pictures were recorded.

    >>> from leanspike.evaluation.mistakes import Mistakes
    >>> dot = Picture(height=1, width=1, channels=1, pixels=base64.b64encode(b"7").decode())
    >>> wrong = Mistake(index=0, label=0, snn=1, ann=0, picture=dot)
    >>> mistakes = Mistakes(snn_only=9, ann_only=0, both=0, first=(wrong,))
    >>> mistakes_figure(Result.model_construct(
    ...     classes=("cat", "dog"), encode="direct", mistakes=mistakes))
    '<svg...label cat</text>...SNN dog</text>...ANN cat</text>...Only the SNN is wrong: 9 images...'
    """
    groups = _groups(result)
    if not groups:
        return ""
    rows = [math.ceil(len(found) / COLUMNS) for _, found in groups]

    def content(figure: Figure) -> None:
        parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=rows).flat
        for part, (title, found), height in zip(parts, groups, rows, strict=True):
            grid = part.subplots(height, COLUMNS, squeeze=False).flat
            for axes, mistake in zip(grid, found, strict=False):
                _draw(axes, result.classes, mistake)
            for axes in part.axes[len(found) :]:
                axes.set_axis_off()
            part.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")

    label = f"Pictures of {plural(sum(len(found) for _, found in groups), 'wrong answer')}"
    return style.draw("mistakes", label, ROW_PX * sum(rows), content)


def _groups(result: Result) -> list[tuple[str, list[Mistake]]]:
    """Return the mistakes with pictures by network, with a title that counts all."""
    found = result.mistakes
    if found is None:
        return []
    shown = [mistake for mistake in found.first if mistake.picture is not None]
    if found.both is None:
        kinds = [("The SNN is wrong", found.snn_only, (True, False))]
    else:
        kinds = [
            ("Only the SNN is wrong", found.snn_only, (True, False)),
            ("Only the ANN is wrong", found.ann_only or 0, (False, True)),
            ("Both are wrong", found.both, (True, True)),
        ]
    noun = sample_noun(result)
    groups = [
        (f"{title}: {plural(number, noun)}", [m for m in shown if _whose(m) == whose])
        for title, number, whose in kinds
    ]
    return [(title, those) for title, those in groups if those]


def _whose(mistake: Mistake) -> tuple[bool, bool]:
    """Return whether the SNN, and whether the ANN, answers wrongly."""
    return mistake.snn != mistake.label, mistake.ann not in (None, mistake.label)


def _draw(axes: Axes, classes: Sequence[str], mistake: Mistake) -> None:
    """Draw the picture, with the label and the answers beneath."""
    assert mistake.picture is not None
    axes.imshow(pixels_of(mistake.picture), "gray", vmin=0, vmax=255, interpolation="none")
    axes.grid(visible=False)
    axes.set_anchor("N")  # the rest of the height separates the kinds
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=style.MUTED, linewidth=0.5)
    answers = [("label", mistake.label), ("SNN", mistake.snn), ("ANN", mistake.ann)]
    words = [f"{who} {_name(classes, k)}" for who, k in answers if k is not None]
    axes.set_xlabel("\n".join(words), loc="left", fontsize=11, color=style.INK)


def _name(classes: Sequence[str], number: int) -> str:
    return head(classes[number], 13) if classes else str(number)


def pixels_of(picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the pixels, uint8 [H, W, 3], or [H, W] for a grey picture.

    >>> pixels_of(Picture(height=1, width=2, channels=1, pixels=base64.b64encode(b"AB").decode()))
    array([[65, 66]], dtype=uint8)
    """
    flat = np.frombuffer(base64.b64decode(picture.pixels), np.uint8)
    pixels = flat.reshape(picture.height, picture.width, picture.channels)
    return pixels[:, :, 0] if picture.channels == 1 else pixels
