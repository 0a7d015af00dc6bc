"""The contact sheet of a recording: which steps, which colours, what it refuses."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from leanspike.errors import LeanspikeError
from leanspike.report import frames as frames_module
from leanspike.report.frames import frames_figure


def titles(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>(step \d+)</text>", svg)


def pictures(svg: str) -> list[NDArray[Any]]:
    image = pytest.importorskip("PIL.Image")
    found = re.findall(r'"data:image/png;base64,([^"]+)"', svg)
    return [
        np.asarray(image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")) for text in found
    ]


def luminance(colors: NDArray[Any]) -> NDArray[Any]:
    weights: NDArray[Any] = colors @ np.array([0.2126, 0.7152, 0.0722])
    return weights


def test_every_step_has_its_picture_up_to_twelve() -> None:
    random = np.random.default_rng(0)
    for steps, shown in ((1, 1), (5, 5), (12, 12), (40, 12)):
        svg = frames_figure(random.integers(0, 3, (steps, 2, 8, 8), np.uint8))
        assert len(titles(svg)) == len(pictures(svg)) == shown
        assert titles(svg)[0] == "step 1"
        assert titles(svg)[-1] == f"step {steps}"
        assert f"in {steps} timestep" in svg
        assert "ON: brighter" in svg
        assert "OFF: darker" in svg


def test_colours_tell_polarity_and_strength_on_white() -> None:
    frames = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    frames[0, 0, 0] = 0, 1, 9
    frames[0, 1, 1] = 9, 1, 0
    frames[0, 0, 1, 0] = 9
    colors = frames_module._colored(frames)[0]
    assert colors[0, 0].tolist() == [255, 255, 255]
    assert colors[1, 2].tolist() == [255, 255, 255]
    assert colors[0, 2].tolist() == [0xD5, 0x5E, 0x00]  # OFF, in full
    red, _, blue = (int(part) for part in colors[1, 1])
    assert blue > red  # ON
    light = luminance(colors.astype(float))
    assert light[1, 0] < light[0, 2] < light[0, 1] < 230  # both, many, a single event


def test_silence_is_white() -> None:
    assert (frames_module._colored(np.zeros((2, 2, 3, 3), dtype=np.uint8)) == 255).all()


def test_equal_frames_give_equal_bytes() -> None:
    frames = np.eye(16, dtype=np.uint8).reshape(4, 2, 4, 8)
    assert frames_figure(frames) == frames_figure(frames.tolist())


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (2, 8, 8), (0, 2, 8, 8)])
def test_other_forms_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LeanspikeError, match=r"frames have shape \[.*]; give \[T, 2, H, W]"):
        frames_figure(np.zeros(shape, dtype=np.uint8))
