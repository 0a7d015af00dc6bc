"""Showing robustness: accuracy over severity, pictures of each severity, and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leanspike.data.corruptions import SEVERITIES, corrupt
from leanspike.errors import LeanspikeError
from leanspike.evaluation.robustness_result import OWN, CleanSample, Curve, Robustness
from leanspike.report import style
from leanspike.report.quantities import percent, plural, times
from leanspike.report.text import head, samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
LOOKS = (  # of the networks in order, which differ without colour, too
    (style.ANN, "o"),
    (style.SNN, "s"),
    (style.ACCENT, "^"),
    (style.SNN_DARK, "D"),
    (style.SNN_LIGHT, "v"),
)
CELL = 72
"""The side of a picture in the contact sheet, in px."""


def robustness_figure(robustness: Robustness) -> str:
    """Draw the accuracy over severity or ε, in a small panel for each corruption and attack.

    >>> blur = Curve(name="blur", strengths=(1, 2), accuracy={"ann": (0.8, 0.5)})
    >>> robustness_figure(Robustness.model_construct(
    ...     networks=("ann",), clean={"ann": 0.9}, corruptions={OWN: (blur,)}, attacks=()))
    '<svg...severity</text>...blur</text>...ann</text>...</svg>'
    """
    panels: list[tuple[Curve, str | None]] = [
        (curve, family) for family, curves in robustness.corruptions.items() for curve in curves
    ]
    panels += [(curve, None) for curve in robustness.attacks]
    if not panels:
        raise LeanspikeError("only clean images were measured; measure a corruption or an attack")
    rows = -(-len(panels) // COLUMNS)

    def content(figure: Figure) -> None:
        grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
        for axes, (curve, family) in zip(grid.flat, panels, strict=False):
            _panel(axes, robustness, curve, family)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=3)

    label = f"Accuracy of {plural(len(robustness.networks), 'network')} on changed images"
    return style.draw("robustness", label, 185 * rows + 40, content)


def _panel(axes: Axes, robustness: Robustness, curve: Curve, family: str | None) -> None:
    """Draw a corruption of that family, or an attack, from clean images on: a line per network."""
    attack = family is None
    axes.grid(visible=False, axis="x")
    axes.grid(visible=True, axis="y")
    at = [0.0, *(strength * 255 if attack else strength for strength in curve.strengths)]
    for number, network in enumerate(robustness.networks):
        color, marker = LOOKS[number % len(LOOKS)]
        right = [robustness.clean[network], *curve.accuracy[network]]
        axes.plot(at, right, color=color, marker=marker, markersize=4, label=head(network, 30))
    title = curve.name.upper() if attack else curve.name.replace("_", " ")
    axes.set_title(head(title, 22))
    severity = "severity" if family == OWN else f"severity, {family}"
    axes.set_xlabel("ε · 255" if attack else severity)
    axes.set_ylim(0, 1)
    axes.locator_params(axis="x", integer=True, nbins=6)


def contact_sheet(robustness: Robustness) -> str:
    """Draw an image, clean and at each severity of each of leanspike's own corruptions.

    The figure is "" if there is no image or no such corruption.

    >>> blur = Curve(name="blur", strengths=(1, 5), accuracy={"ann": (0.8, 0.5)})
    >>> image = CleanSample(position=0, pixels=(((0,), (255,)), ((255,), (0,))))
    >>> contact_sheet(
    ...     Robustness.model_construct(corruptions={OWN: (blur,)}, sample=image, seed=0))
    '<svg...clean</text>...5</text>...blur</text>...</svg>'
    """
    names = [curve.name for curve in robustness.corruptions.get(OWN, ())]
    if robustness.sample is None or not names:
        return ""
    sheet = _pictures(robustness.sample, robustness.seed, names)
    columns = 1 + len(SEVERITIES)

    def content(figure: Figure) -> None:
        axes = figure.subplots()
        colored = sheet if sheet.shape[2] == 3 else sheet.mean(axis=2)
        axes.imshow(colored, "gray", vmin=0, vmax=255, interpolation="none")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
        height, width = sheet.shape[0] / len(names), sheet.shape[1] / columns
        axes.set_xticks((np.arange(columns) + 0.5) * width, ["clean", *map(str, SEVERITIES)])
        axes.set_yticks(
            (np.arange(len(names)) + 0.5) * height, [name.replace("_", " ") for name in names]
        )

    label = f"One image under {plural(len(names), 'corruption')} at 5 severities"
    return style.draw("contact-sheet", label, CELL * len(names) + 50, content)


def _pictures(sample: CleanSample, seed: int, names: list[str]) -> NDArray[np.uint8]:
    """Return all pictures as one, ``[rows, columns, C]``, with white lines between them."""
    clean = torch.tensor(sample.pixels, dtype=torch.uint8).permute(2, 0, 1)[None]
    where = torch.tensor([sample.position])
    rows = []
    for name in names:
        images = [corrupt(clean, name, severity, seed, where) for severity in SEVERITIES]
        framed = torch.nn.functional.pad(torch.cat([clean, *images]), (1, 1, 1, 1), value=255)
        rows.append(torch.cat(framed.unbind(), dim=2))  # [C, H, columns]
    sheet: NDArray[np.uint8] = torch.cat(rows, dim=1).permute(1, 2, 0).numpy()
    return sheet


def render_robustness(robustness: Robustness) -> RenderableType:
    """Return a table for the terminal, with a row for each corruption and attack.

    >>> from rich.console import Console
    >>> blur = Curve(name="blur", strengths=(1, 2), accuracy={"ann": (0.75, 0.5)})
    >>> Console(width=80).print(render_robustness(Robustness.model_construct(
    ...     data="digits", split="test", n=360, networks=("ann",), clean={"ann": 0.9},
    ...     corruptions={"CIFAR-10-C": (blur,)}, attacks=(), silent={})))
    Robustness: accuracy in % of 360 test images of digits
    ...
    clean                       90.0
    CIFAR-10-C: 1 corruption
      blur                      62.5
      mean corruption error     37.5
    ...
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    for network in robustness.networks:
        table.add_column(head(network, 16), justify="right", no_wrap=True)
    for name, values in _rows(robustness):
        table.add_row(name, *[values.get(network, "") for network in robustness.networks])
    images = samples(robustness.n, "image", robustness.split)
    images += f" of {robustness.data}" if robustness.data else ""
    title = Text(f"Robustness: accuracy in % of {images}", style="bold")
    return Group(title, Text("A corruption's is the mean of its severities.", style="dim"), table)


def _rows(robustness: Robustness) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the table's rows: a name, and a text for each network."""

    def percents(fractions: Mapping[str, float]) -> dict[str, str]:
        return {k: percent(v, robustness.n).removesuffix(" %") for k, v in fractions.items()}

    yield "clean", percents(robustness.clean)
    for family, curves in robustness.corruptions.items():
        yield f"{family}: {plural(len(curves), 'corruption')}", {}
        for curve in curves:
            means = {network: 1 - curve.error(network) for network in robustness.networks}
            yield f"  {curve.name.replace('_', ' ')}", percents(means)
        yield "  mean corruption error", percents(robustness.mean_corruption_error[family])
        factors = robustness.relative_corruption_error[family]
        yield (
            "  relative to the first",
            {network: times(factor) for network, factor in factors.items()},
        )
    for curve in robustness.attacks:
        for index, epsilon in enumerate(curve.strengths):
            right = {network: values[index] for network, values in curve.accuracy.items()}
            yield f"{curve.name}, ε = {255 * epsilon:.3g}/255", percents(right)
    if robustness.attacks:
        yield "no gradient at the pixels", percents(robustness.silent)
