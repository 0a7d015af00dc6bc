"""Filters that whiten patches, against patches that are cut out one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.models import StartsFromImages, whitening, whitening_filters


def smooth(count: int = 40, channels: int = 3, size: int = 10) -> Tensor:
    """Images whose neighbouring pixels and channels are much alike, as those of the world are."""
    random = torch.Generator().manual_seed(3)
    noise = torch.randn(count, channels, size + 2, size + 2, generator=random)
    blurred = F.avg_pool2d(noise, 3, stride=1) * 3
    return blurred + blurred.mean(1, keepdim=True)


def patches_by_hand(x: Tensor, k: int = 2) -> np.ndarray:
    pixels = x.double().numpy()
    rows, columns = (side - k + 1 for side in pixels.shape[2:])
    return np.array(
        [
            image[:, i : i + k, j : j + k].ravel()
            for image in pixels
            for i in range(rows)
            for j in range(columns)
        ]
    )


@pytest.mark.parametrize(("channels", "patch"), [(3, 2), (1, 2), (2, 3), (1, 1)])
def test_whitened_patches_have_the_identity_as_covariance(channels: int, patch: int) -> None:
    x = smooth(channels=channels)
    filters = whitening_filters(x, patch, epsilon=1e-9)
    d = channels * patch**2
    assert filters.shape == (d, channels, patch, patch)
    given = patches_by_hand(x, patch) @ filters.double().numpy().reshape(d, d).T
    found = np.cov(given.T, bias=True).reshape(d, d)
    assert np.abs(found - np.eye(d)).max() < 1e-3


def test_epsilon_leaves_each_direction_its_share() -> None:
    """v / (v + ε) of the variance, and the largest v first."""
    x = smooth() * 0.2
    values = np.linalg.eigvalsh(np.cov(patches_by_hand(x).T, bias=True))[::-1]
    given = F.conv2d(x, whitening_filters(x)).transpose(0, 1).flatten(1).double().numpy()
    found = np.cov(given, bias=True)
    assert np.abs(np.diag(found) - values / (values + 5e-4)).max() < 1e-4
    assert np.diag(found)[-1] < 0.95  # so that ε shows
    assert np.abs(found - np.diag(np.diag(found))).max() < 1e-4


def test_the_same_images_give_the_same_bits_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = smooth()
    filters = whitening_filters(x)
    assert torch.equal(whitening_filters(x.clone()), filters)
    assert torch.equal(whitening_filters(x.to(memory_format=torch.channels_last)), filters)
    for row in filters.flatten(1):
        first = row[row.abs() >= row.abs().max() / 2][0]
        assert first > 0
    monkeypatch.setattr(whitening, "CHUNK_VALUES", 700)  # images in pieces of two
    torch.testing.assert_close(whitening_filters(x), filters, rtol=1e-4, atol=1e-5)


def test_images_of_one_colour_give_finite_filters() -> None:
    assert whitening_filters(torch.full((2, 3, 4, 4), 0.7)).isfinite().all()


@pytest.mark.parametrize(
    ("x", "more", "message"),
    [
        (torch.zeros(2, 3, 4), {}, r"x is torch.float32 \[2, 3, 4\]; give normalised ima"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), {}, "x is torch.uint8"),
        (torch.zeros(0, 1, 4, 4), {}, r"x is torch.float32 \[0, 1, 4, 4\]"),
        (torch.zeros(2, 1, 4, 1), {}, r"patch is 2, and images are \[4, 1\]; give 1..1"),
        (torch.zeros(2, 1, 4, 4), {"patch": 0}, r"patch is 0, and images are \[4, 4\]; give 1..4"),
        (torch.zeros(2, 1, 4, 4), {"epsilon": 0.0}, "epsilon is 0.0; give a number above 0"),
        (torch.full((2, 1, 4, 4), torch.nan), {}, "x has numbers that are not finite; give fini"),
    ],
)
def test_what_are_no_images_is_refused(x: Tensor, more: dict[str, float], message: str) -> None:
    with pytest.raises(LeanspikeError, match=message):
        whitening_filters(x, **more)


def test_an_ability_is_asked_for_by_its_method() -> None:
    class Own(torch.nn.Module):
        def start_from(self, x: Tensor) -> None: ...

    assert isinstance(Own(), StartsFromImages)
    assert not isinstance(torch.nn.Linear(1, 1), StartsFromImages)
