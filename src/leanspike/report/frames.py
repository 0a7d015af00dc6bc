"""The report's figure of an event-driven network's input: the frames of one recording."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanspike.errors import LeanspikeError
from leanspike.report import style
from leanspike.report.quantities import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
OFF, ON = style.ACCENT, style.SNN
FAINTEST = 0.35  # the strength of a colour for a single event, which is visible in print


def frames_figure(frames: ArrayLike, most: int = 12) -> str:
    """Draw a contact sheet of (at most ``most``) timesteps of one recording, on white.

    ``frames`` are counts of events, [T, 2, H, W]. Channel 0 (OFF, darker) is orange, and channel 1
    (ON, brighter) is blue. Both together are a mixture. More events have a stronger colour.

    Raises LeanspikeError for frames of another form.

    >>> frames_figure(np.eye(8, dtype=np.uint8).reshape(4, 2, 2, 4))
    '<svg...step 1</text>...step 4</text>...brighter...darker...</svg>'
    """
    counts = np.asarray(frames)
    if counts.ndim != 4 or counts.shape[1] != 2 or not counts.size:
        raise LeanspikeError(f"frames have shape {list(counts.shape)}; give [T, 2, H, W]")
    steps = style.thin(len(counts), most)
    pictures = _colored(counts)[steps]
    rows = math.ceil(len(steps) / COLUMNS)
    height, width = counts.shape[2:]

    def content(figure: Figure) -> None:
        grid = figure.subplots(rows, COLUMNS, squeeze=False).flat
        for axes in grid:
            axes.set_axis_off()
        for color, label in ((ON, "ON: brighter"), (OFF, "OFF: darker")):
            figure.axes[0].plot([], [], "s", color=color, label=label)
        for axes, step, picture in zip(figure.axes, steps, pictures, strict=False):
            axes.set_axis_on()
            axes.imshow(picture, interpolation="none")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=style.MUTED, linewidth=0.5)
            axes.set_title(f"step {step + 1}", fontsize=11, fontweight="normal", pad=4)
        figure.legend(loc="outside lower right", ncols=2)

    cell = style.WIDTH / COLUMNS * height / width
    label = f"Events of one recording in {plural(len(counts), 'timestep')}"
    return style.draw("frames", label, rows * (cell + 24) + 40, content)


def _colored(counts: NDArray[Any]) -> NDArray[np.uint8]:
    """Return [T, 2, H, W] as colours on white, uint8 [T, H, W, 3], mixed by subtraction."""
    shown = counts[counts > 0]
    top = max(1.0, float(np.percentile(shown, 99))) if shown.size else 1.0
    strength = np.minimum(counts / top, 1) * (1 - FAINTEST) + FAINTEST * (counts > 0)
    light = np.ones((len(counts), *counts.shape[2:], 3))
    for channel, color in enumerate((OFF, ON)):
        taken = 1 - np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        light *= 1 - strength[:, channel, :, :, None] * taken
    return np.round(255 * light).astype(np.uint8)
