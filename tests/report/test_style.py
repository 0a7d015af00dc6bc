"""What every figure relies on: inline SVG, and matplotlib left as it was found."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import matplotlib
import pytest

from leanspike.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def test_the_users_matplotlib_is_neither_changed_nor_obeyed() -> None:
    def content(figure: Figure) -> None:
        figure.subplots().plot([0, 1])

    plain = style.draw("x", "x", 100, content)
    with matplotlib.rc_context({"axes.facecolor": "#123456", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        assert style.draw("x", "x", 100, content) == plain
        assert dict(matplotlib.rcParams) == before


def test_two_figures_share_no_id() -> None:
    def content(figure: Figure) -> None:
        figure.subplots().plot([0, 1], "o")

    ids = [
        {part.split('"')[0] for part in style.draw(name, "", 100, content).split(' id="')[1:]}
        for name in ("a", "b")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_label_cannot_leave_its_attribute() -> None:
    assert 'aria-label="&quot; onload=&quot;x"' in style.draw(
        "x", '" onload="x', 99, lambda _: None
    )


def test_a_script_matplotlib_has_no_glyphs_for_is_left_to_the_page() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = style.draw("x", "x", 100, lambda figure: figure.subplots().set_title("猫"))
    assert "猫</text>" in svg


@pytest.mark.parametrize("layers", [1, 3, 24, 50, 120, 1000])
def test_rows_fit_the_page_and_their_names_do_not_touch(layers: int) -> None:
    assert layers * style.row_height(layers) <= 1200 + 1e-9

    def content(figure: Figure) -> None:
        axes = figure.subplots()
        style.label_rows(axes, [f"layer{index}" for index in range(layers)])
        ticks = axes.get_yticks()
        assert len(ticks) == 1 or (ticks[1] - ticks[0]) * style.row_height(layers) >= 12.5
        assert axes.get_ylim() == (layers - 0.5, -0.5)  # from the input down

    style.draw("rows", "rows", 300, content)


def test_shades_darken_evenly() -> None:
    colors = style.shades()([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    luminance = colors[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (luminance[1:] - luminance[:-1] < -0.08).all()


@pytest.mark.parametrize(("total", "most"), [(1, 5), (5, 5), (6, 5), (120, 10)])
def test_thin_keeps_both_ends(total: int, most: int) -> None:
    shown = style.thin(total, most)
    assert len(shown) == len(set(shown)) == min(total, most)
    assert (shown[0], shown[-1]) == (0, total - 1)
