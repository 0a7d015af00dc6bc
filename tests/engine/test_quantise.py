"""Whole-number weights: their range, their error, what they do to the mean current."""

from __future__ import annotations

import numpy as np
import pytest

from leanspike.engine.quantise import Moments, moments, quantised, rounded
from leanspike_runtime.program import LARGEST, Layer, Synapse
from tests.runtime.programs import random_images, random_program


def synapse(seed=0, shape=(3, 3, 8, 5)):
    draw = np.random.default_rng(seed)
    weights = draw.standard_t(3, shape).astype(np.float32)
    weights[..., 0] = 0
    return Synapse(0, "conv", np.full((1, shape[-1]), 0.5, np.float32), weights)


@pytest.mark.parametrize("kind", ["i8", "i6"])
def test_the_scale_that_is_found_is_no_worse_than_that_of_the_largest_weight(kind):
    before = synapse()
    seen = Moments(np.full((8, 1), 0.1), np.full((8, 1), 0.1))
    made, left = rounded(before, kind, seen)
    assert np.abs(made.weights.astype(int)).max() <= LARGEST[kind]
    error = ((before.weights * 0.5 - made.weights * made.scale) ** 2).sum((0, 1, 2))
    step = 0.5 * np.abs(before.weights).max((0, 1, 2)) / LARGEST[kind]
    plain = before.weights * 0.5 - step * np.round(before.weights * 0.5 / np.maximum(step, 1e-9))
    assert (error <= (plain**2).sum((0, 1, 2)) * 1.001 + 1e-12).all()
    assert (made.weights[..., 0] == 0).all()
    assert left[0] == 0


def test_busy_channels_weigh_more():
    before = synapse()
    busy = np.where(np.arange(8) == 3, 1.0, 1e-6)[:, None]
    flat, careful = (
        rounded(before, "i6", Moments(busy, seen))[0] for seen in (np.ones((8, 1)), busy)
    )

    def error(made):
        return ((before.weights * 0.5 - made.weights * made.scale) ** 2)[:, :, 3].sum()

    assert error(careful) < error(flat)


@pytest.mark.parametrize("weights", ["int8", "int6"])
def test_currents_keep_their_mean(weights):
    program = random_program(0)
    images = random_images(program, 16, 0)
    entering = moments(program, images)
    made = quantised(program, weights, entering)
    assert made.shapes == program.shapes
    old, new = (p.nodes[3] for p in (program, made))
    assert isinstance(old, Layer)
    assert isinstance(new, Layer)
    (before,), (after,) = old.synapses, new.synapses
    mean = entering[before.edge].mean[:, None]
    shifted = (before.scale * (before.weights * mean).sum((0, 1, 2)) + old.shift).mean(0)
    kept = (after.scale * (after.weights * mean).sum((0, 1, 2)) + new.shift).mean(0)
    np.testing.assert_allclose(kept, shifted, rtol=1e-5, atol=1e-5)
    unseen = quantised(program, weights, moments(program, None)).nodes[3]
    assert isinstance(unseen, Layer)
    np.testing.assert_array_equal(unseen.shift, old.shift)
