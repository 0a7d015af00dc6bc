"""The native convolution's operators against PyTorch's in float64, whatever the density."""

import os
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from leanspike import native
from leanspike.backends.native import convolution
from leanspike.backends.native.convolution_structure import (
    AxisStructure,
    ConvolutionStructure,
    run_native,
)
from leanspike.errors import LeanspikeError

if not native.is_built():
    pytest.skip("the native library is not built", allow_module_level=True)

SPARSE = 0.1
NHWC = torch.channels_last
by_events = torch.ops.leanspike.convolution

sizes = st.integers(1, 9)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
dtypes = st.sampled_from([torch.float32, torch.bfloat16])
instructions = st.sampled_from(native.available_instructions())


def use(name):
    return patch.dict(os.environ, LEANSPIKE_INSTRUCTIONS=name)


def mostly_zeros(shape, density, seed=0, kind="spike"):
    """Spikes, or values of both signs, laid out as the native code wants them."""
    random = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=random) < density).float()
    if kind != "spike":
        x = x * torch.randn(shape, generator=random)
    return torch.empty(shape, memory_format=NHWC).copy_(x)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def results(convolve, x, weight, bias, grad):
    """The output and the gradients of all that there is."""
    leaves = [t if t is None else t.detach().requires_grad_() for t in (x, weight, bias)]
    y = convolve(*leaves)
    y.backward(grad)
    return [y.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]


def assert_close(found, expected, dtype):
    """Equal up to some roundings of the largest value."""
    rounding = 1e-5 if dtype == torch.float32 else 2**-7
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == dtype
        atol = rounding * max(1.0, float(b.abs().max()) if b.numel() else 0.0)
        torch.testing.assert_close(a.double(), b, rtol=rounding, atol=atol)


@given(
    st.integers(1, 3),
    st.sampled_from([1, 3, 16, 33, 130]),
    st.sampled_from([1, 5, 64, 70]),
    st.tuples(sizes, sizes),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pairs,
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from(["spike", "graded"]),
    st.booleans(),
    dtypes,
    instructions,
    st.integers(0, 99),
)
@settings(max_examples=250)
def test_results_and_gradients_are_those_of_float64(
    n, channels, outputs, size, kernel, stride, padding, density, kind, biased, dtype, name, seed
):
    padding = [min(p, k) for p, k in zip(padding, kernel, strict=True)]
    size = [max(s, k - 2 * p) for s, k, p in zip(size, kernel, padding, strict=True)]
    x = mostly_zeros((n, channels, *size), density, seed, kind).to(dtype)
    weight = normal(outputs, channels, *kernel, seed=seed).to(dtype)
    bias = normal(outputs, seed=seed).to(dtype) if biased else None

    def exact(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding)

    wide = [t if t is None else t.double() for t in (x, weight, bias)]
    grad = normal(*exact(*wide).shape, seed=seed).to(dtype)
    with use(name):
        found = results(lambda *t: by_events(*t, list(stride), padding), x, weight, bias, grad)
    expected = results(exact, *wide, grad.double())
    if dtype == torch.bfloat16 and stride != (1, 1):
        del found[2], expected[2]  # torch's, which is garbage on maps of one pixel (docs/log.md)
    assert_close(found, expected, dtype)


@pytest.mark.parametrize("name", native.available_instructions())
@pytest.mark.parametrize("stride", [1, 2])
def test_exact_where_the_arithmetic_is(name, stride):
    """Sums of eighths: no order of adding them up rounds."""
    x = mostly_zeros((2, 40, 9, 9), 0.3)
    weight = normal(70, 40, 3, 3).mul(8).round().div(8)
    with use(name):
        y = by_events(x, weight, None, [stride] * 2, [1, 1])
    assert torch.equal(y, F.conv2d(x, weight, stride=stride, padding=1))
    assert y.is_contiguous(memory_format=NHWC)


@pytest.mark.parametrize("shape", [(1, 64, 70, 90), (3, 200, 30, 30), (2, 8, 3, 400), (9, 4, 2, 2)])
def test_images_that_are_worked_on_in_pieces(shape):
    """More than fits a strip, a tile, a block; fewer images than threads, and more."""
    x, weight = mostly_zeros(shape, SPARSE), normal(130, shape[1], 3, 3)
    grad = normal(shape[0], 130, *shape[2:])
    found = results(lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, grad)
    wide = x.double(), weight.double(), None
    assert_close(found, results(lambda *t: F.conv2d(*t, padding=1), *wide, grad.double()), x.dtype)


@pytest.mark.parametrize("pool", ["torch's threads", "threads of its own"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(pool, dtype, monkeypatch):
    if pool == "threads of its own":
        monkeypatch.setattr(native, "parallel", lambda: None)
    x, weight = mostly_zeros((6, 64, 12, 12), SPARSE).to(dtype), normal(96, 64, 3, 3).to(dtype)
    grad, found, before = normal(6, 96, 12, 12).to(dtype), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = by_events(x, weight, None, [1, 1], [1, 1])
            gradient = torch.ops.leanspike.convolution_weight_gradient(
                grad.contiguous(memory_format=NHWC), x, weight, [1, 1]
            )
            found.append((y, gradient))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


def test_nan_reaches_what_it_reaches_elsewhere():
    x, weight = mostly_zeros((1, 16, 8, 8), SPARSE), normal(16, 16, 3, 3)
    x[0, 3, 4, 5] = float("nan")
    y = by_events(x, weight, None, [1, 1], [1, 1])
    assert torch.equal(y.isnan(), F.conv2d(x, weight, padding=1).isnan())


@pytest.mark.parametrize("shape", [(2, 7, 6, 6), (2, 8, 6, 2), (2, 8, 1, 6)])
def test_what_does_not_fit_the_weights_is_an_error(shape):
    x, weight = mostly_zeros(shape, SPARSE), normal(4, 8, 3, 3)
    with pytest.raises(RuntimeError, match=r"does not fit weights of shape \(4, 8, 3, 3\)"):
        by_events(x, weight, None, [1, 1], [0, 0])


def test_other_layouts_of_input_and_gradient_are_taken_too():
    x, weight, grad = mostly_zeros((2, 8, 6, 6), SPARSE), normal(4, 8, 3, 3), normal(2, 4, 6, 6)
    expected = results(lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, grad)
    strange = torch.cat([x, x], 2).contiguous()[:, :, :6]
    turned = grad.transpose(2, 3).contiguous().transpose(2, 3)
    found = results(lambda *t: by_events(*t, [1, 1], [1, 1]), strange, weight, None, turned)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[2], expected[2])
    torch.testing.assert_close(found[1], expected[1])  # torch's, whose order may differ


def test_an_empty_batch_has_gradients_of_zero():
    x, weight = torch.zeros(0, 16, 8, 8), normal(8, 16, 3, 3)
    y, _, gradient = results(
        lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, torch.zeros(0, 8, 8, 8)
    )
    assert y.shape == (0, 8, 8, 8)
    assert torch.equal(gradient, torch.zeros_like(weight))


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_only_what_is_wanted_is_computed(wanted, stride):
    x, weight, bias = mostly_zeros((2, 8, 6, 6), SPARSE), normal(4, 8, 3, 3), normal(4)
    grad = normal(2, 4, 6 // stride, 6 // stride)
    how = [stride] * 2, [1, 1]
    leaves = [t.requires_grad_(bool(w)) for t, w in zip((x, weight, bias), wanted, strict=True)]
    by_events(*leaves, *how).backward(grad)
    full = results(lambda *t: by_events(*t, *how), x, weight, bias, grad)[1:]
    for leaf, expected, want in zip(leaves, full, wanted, strict=True):
        assert torch.equal(leaf.grad, expected) if want else leaf.grad is None


def test_gradients_lie_as_the_weights_do():
    x, weight = mostly_zeros((2, 16, 6, 6), SPARSE), normal(8, 16, 3, 3).to(memory_format=NHWC)
    _, grad_x, grad_weight = results(
        lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, normal(2, 8, 6, 6)
    )
    assert grad_x.stride() == x.stride()
    assert grad_weight.stride() == weight.stride()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck
def test_torch_accepts_the_operators():
    x, weight, bias = mostly_zeros((2, 8, 6, 6), SPARSE), normal(4, 8, 3, 3), normal(4)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    torch.library.opcheck(by_events.default, (*leaves, [1, 1], [1, 1]))
    grad = mostly_zeros((2, 4, 6, 6), 1.0)
    torch.library.opcheck(
        torch.ops.leanspike.convolution_weight_gradient.default,
        (grad, x.detach(), weight.detach(), [1, 1]),
    )


def test_too_little_memory_is_an_error():
    axis = AxisStructure(1, 1, 1, 1, 0)
    call = ConvolutionStructure(images=1, channels=2**45, outputs=1, weight=1)
    call.rows = call.columns = axis
    for function in ("leanspike_convolution", "leanspike_winograd"):
        with pytest.raises(MemoryError, match="native convolution"):
            run_native(function, call)


def test_density_is_that_of_a_sample_spread_evenly():
    for dtype in (torch.float32, torch.bfloat16):
        x = mostly_zeros((8, 64, 32, 32), 0.2).to(dtype)
        assert convolution.density(x) == pytest.approx(0.2, abs=0.02)
        assert convolution.density(-0.0 * x) == 0.0
    half = torch.cat([torch.ones(2**20), torch.zeros(2**20)])
    assert convolution.density(half) == 0.5
    assert convolution.density(torch.zeros(0)) == 0.0


ONLY = {
    "channel 0": np.s_[:, 0],
    "all channels but 0": np.s_[:, 1:],
    "every other channel": np.s_[:, ::2],
    "the first channels": np.s_[:, :64],
    "even rows": np.s_[:, :, ::2],
    "every other column": np.s_[:, :, :, ::2],
    "column 0": np.s_[..., 0],
    "one column": np.s_[..., 5],
    "one sample": np.s_[1],
}


@pytest.mark.parametrize("only", ONLY)
@pytest.mark.parametrize("layout", [NHWC, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(10, 128, 16, 16), (40, 64, 32, 32), (5, 96, 28, 28)])
def test_no_pattern_of_rows_columns_or_channels_hides_from_the_sample(only, layout, shape):
    x = torch.zeros(shape)
    x[ONLY[only]] = 1
    x = x.contiguous(memory_format=layout)
    assert convolution.density(x) == pytest.approx(float(x.mean()), abs=0.04)
    assert convolution.density(x) == convolution.density(x.clone())


def test_of_few_elements_all_are_counted():
    x = torch.zeros(1, 64, 8, 8)
    x[0, 5, 3, 3:5] = 1
    assert convolution.density(x) == 2 / 4096


def test_second_derivatives_are_refused():
    x, weight = mostly_zeros((2, 8, 6, 6), SPARSE), normal(4, 8, 3, 3).requires_grad_()
    y = by_events(x, weight, None, [1, 1], [1, 1])
    (grad,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(LeanspikeError, match="no second derivatives; set LEANSPIKE_BACKEND=ref"):
        grad.sum().backward()
