"""Surrogate derivatives against formulas written independently, and against what they stand for."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike import LeanspikeError
from leanspike.neuron import SURROGATES, Arctan, Rectangle, Sigmoid, Surrogate, Triangle

GRID = np.linspace(-4, 4, 8001)


def triangle(z, gamma, width):
    return gamma * np.interp(np.abs(z), [0, width], [1, 0], right=0)


def arctan(z, alpha):
    return 2 * alpha / (4 + (np.pi * alpha * z) ** 2)


def sigmoid(z, alpha):
    return alpha / (np.exp(alpha * z / 2) + np.exp(-alpha * z / 2)) ** 2


def rectangle(z, width):
    return np.where((z > -width / 2) & (z < width / 2), 1 / width, 0)


CASES = [
    (Triangle(), triangle, {"gamma": 0.3, "width": 1.0}),
    (Triangle(gamma=1.0, width=0.5), triangle, {"gamma": 1.0, "width": 0.5}),
    (Arctan(), arctan, {"alpha": 2.0}),
    (Arctan(alpha=0.7), arctan, {"alpha": 0.7}),
    (Sigmoid(), sigmoid, {"alpha": 4.0}),
    (Sigmoid(alpha=1.5), sigmoid, {"alpha": 1.5}),
    (Rectangle(), rectangle, {"width": 1.0}),
    (Rectangle(width=2.5), rectangle, {"width": 2.5}),
]
everyone = pytest.mark.parametrize(
    ("surrogate", "formula", "constants"), CASES, ids=[str(case[0]) for case in CASES]
)


@everyone
def test_derivative_is_the_formula(surrogate, formula, constants):
    found = surrogate.derivative(torch.from_numpy(GRID)).numpy()
    np.testing.assert_allclose(found, formula(GRID, **constants), rtol=1e-12, atol=1e-15)


@everyone
def test_derivative_keeps_shape_and_dtype(surrogate, formula, constants):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        z = torch.zeros(2, 3, dtype=dtype)
        found = surrogate.derivative(z)
        assert (found.dtype, found.shape) == (z.dtype, z.shape)
        assert found[0, 0].item() == pytest.approx(formula(np.zeros(1), **constants)[0], rel=1e-2)


@pytest.mark.parametrize(
    ("surrogate", "smooth"),
    [
        (Arctan(alpha=2.0), lambda z: torch.atan(math.pi / 2 * 2.0 * z) / math.pi + 0.5),
        (Arctan(alpha=0.5), lambda z: torch.atan(math.pi / 2 * 0.5 * z) / math.pi + 0.5),
        (Sigmoid(alpha=4.0), lambda z: torch.sigmoid(4.0 * z)),
        (Sigmoid(alpha=1.5), lambda z: torch.sigmoid(1.5 * z)),
        (Rectangle(width=0.8), lambda z: (z / 0.8 + 0.5).clamp(0, 1)),
        (Triangle(1.0, 1.0), lambda z: torch.where(z < 0, (1 + z) ** 2 / 2, 1 - (1 - z) ** 2 / 2)),
    ],
    ids=lambda value: str(value) if isinstance(value, Surrogate) else "smooth",
)
def test_derivative_is_that_of_the_smooth_step_it_stands_for(surrogate, smooth):
    z = torch.linspace(-0.99, 0.99, 100, dtype=torch.float64, requires_grad=True)
    smooth(z).sum().backward()
    torch.testing.assert_close(surrogate.derivative(z.detach()), z.grad)


@pytest.mark.parametrize("surrogate", [case[0] for case in CASES], ids=str)
def test_derivative_is_even_and_largest_at_the_threshold(surrogate):
    z = torch.from_numpy(GRID)
    found = surrogate.derivative(z)
    torch.testing.assert_close(found, surrogate.derivative(-z), rtol=1e-12, atol=1e-12)
    assert found.max() == surrogate.derivative(torch.zeros((), dtype=torch.float64))
    assert (found >= 0).all()


def test_spike_is_strictly_above_and_nan_does_not_spike():
    z = torch.tensor([-math.inf, -1.0, -0.0, 0.0, 1e-30, 1.0, math.inf, math.nan])
    expected = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    for surrogate in (Triangle(), Arctan(), Sigmoid(), Rectangle()):
        assert torch.equal(surrogate.spike(z), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_spikes_have_the_dtype_of_their_input(dtype):
    assert Triangle().spike(torch.zeros(3, dtype=dtype)).dtype == dtype


@everyone
@given(
    z=st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    upstream=st.floats(-10, 10),
)
@settings(max_examples=10)
def test_backward_is_upstream_times_the_formula(surrogate, formula, constants, z, upstream):
    z_torch = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    (surrogate.spike(z_torch) * upstream).sum().backward()
    expected = upstream * formula(np.array(z), **constants)
    np.testing.assert_allclose(z_torch.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("kind", "constant"),
    [
        (Triangle, "gamma"),
        (Triangle, "width"),
        (Arctan, "alpha"),
        (Sigmoid, "alpha"),
        (Rectangle, "width"),
    ],
)
def test_constants_must_be_above_zero(kind, constant, value):
    with pytest.raises(LeanspikeError) as error:
        kind(**{constant: value})
    assert str(error.value) == f"{kind.__name__}({constant}={value}): give a number above 0"


def test_surrogates_are_values():
    assert Triangle() == Triangle(0.3, 1.0)
    assert hash(Arctan(2.0)) == hash(Arctan())
    assert Arctan(1.0) != Sigmoid(1.0)
    with pytest.raises(FrozenInstanceError):
        Triangle().gamma = 1.0


def test_the_base_class_is_abstract():
    with pytest.raises(TypeError, match="derivative"):
        Surrogate()


def test_the_registry_names_each_class_as_it_is_called():
    assert {name: kind.__name__.lower() for name, kind in SURROGATES.items()} == {
        name: name for name in ("triangle", "arctan", "sigmoid", "rectangle")
    }
