"""The backends to test, and calls for them: tensors in every layout, and neurons of every kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, get_args
from unittest.mock import patch

import pytest
import torch
from _pytest.mark import ParameterSet
from hypothesis import strategies as st
from torch import Tensor

from leanspike import native
from leanspike.backends import (
    Call,
    Dynamics,
    LIFCall,
    NeuronCall,
    Reset,
    backends,
    choose,
    use_backend,
)
from leanspike.surrogate import Arctan, Rectangle, Sigmoid, Triangle

SPECIAL = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-40, -0.0, 3e38])
LARGE = (5, 3, 300, 259)  # more than one block and one thread, and a broken last block
PASSING = (5, 3, 240, 608)  # written past the caches by the native code: steps are whole lines
RESETS = get_args(Reset)
SOFT = Dynamics()

_positive = st.floats(0.25, 4.0, width=32)
dynamics = st.builds(
    Dynamics,
    st.sampled_from(RESETS),
    st.sampled_from(["zero", "half"]),
    st.sampled_from(["unit", "threshold"]),
    st.one_of(
        st.builds(Triangle, _positive, _positive),
        st.builds(Arctan, _positive),
        st.builds(Sigmoid, _positive),
        st.builds(Rectangle, _positive),
    ),
    st.sampled_from([None, None, 0.25, 1.0, 2.0]),
)
_per_sample = [(), (1,), (7,), (2051,), (3, 5), (4, 2, 3), (1, 3, 3), (3, 4, 1), (2, 3, 2, 2)]
shapes = st.builds(
    lambda t, n, rest: (t, n, *rest),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from(_per_sample),
)
layouts = st.sampled_from(["plain", "channels_last", "static", "strided", "cut", "swapped"])
dtypes = st.sampled_from([torch.float32, torch.bfloat16])
leaks = st.sampled_from([0.0, 0.5, 0.9, 1.0])
thresholds = st.one_of(
    st.sampled_from([0.3, 0.7, 1.0, -0.7]),
    st.floats(2**-13, 1e3, width=32),
    st.floats(-1e3, -(2**-13), width=32),
)
seeds = st.integers(0, 999)


def instructions_of(name: str) -> Sequence[str | None]:
    """The instruction sets that a backend must be the same in."""
    return native.available_instructions() if name == "native" else (None,)


def use(instructions: str | None) -> AbstractContextManager[object]:
    chosen = {"LEANSPIKE_INSTRUCTIONS": instructions} if instructions else {}
    return patch.dict(os.environ, chosen)


def inputs(shape: Sequence[int], threshold: float, seed: int, special: bool = False) -> Tensor:
    """Normal numbers and multiples of a quarter threshold, so that many membranes tie with it."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=random) * threshold
    ties = torch.randint(-2, 7, shape, generator=random) * (torch.tensor(threshold) / 4)
    x = torch.where(torch.rand(shape, generator=random) < 0.5, ties, x)
    if special:
        odd = SPECIAL[torch.randint(len(SPECIAL), shape, generator=random)]
        x = torch.where(torch.rand(shape, generator=random) < 0.1, odd, x)
    return x


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The values of ``x`` (static: of its first step) in a layout."""
    if layout == "static":
        return x[0].expand(x.shape)
    if layout == "channels_last" and x.ndim == 5:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    if layout == "strided":
        x = torch.stack([x, x + 1], 1).flatten(0, 1)[::2]
    if layout == "cut":
        x = torch.cat([x, x], -1)[..., : x.shape[-1]]
    if layout == "swapped":
        x = x.transpose(1, -1).contiguous().transpose(1, -1)
    return x


def lif_call(
    x_TN: Tensor, leak: float = 0.9, threshold: float = 0.7, d: Dynamics = SOFT
) -> LIFCall:
    return LIFCall(x_TN, torch.tensor(leak), torch.tensor(threshold), d)


def steepest(d: Dynamics, threshold: float) -> float:
    """The most that a spike changes with its input, to which rounding is relative."""
    return float(d.surrogate.derivative(torch.zeros(1))) * max(1.0, 1 / abs(threshold))


Answer = Callable[[Any], Any]


def reference(call: NeuronCall) -> Any:
    return call.reference()


def compute_call(call: Call) -> Any:
    """By the backend of choice; None where that is PyTorch."""
    backend = choose(call)
    return None if backend is None else backend.run(call)


def computed_by(name: str) -> Callable[[Call], Any]:
    def answer(call: Call) -> Any:
        with use_backend(name):
            return compute_call(call)

    return answer


def with_gradients(
    answer: Answer,
    x: Tensor,
    leak: float,
    threshold: float,
    d: Dynamics,
    grad: Tensor,
    wanted: Sequence[bool] = (True, True, True),
) -> list[Any]:
    """Spikes and the gradients of x, leak and threshold (float64 for float64 input)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    pair = [torch.tensor(value, dtype=torch.float32).to(dtype) for value in (leak, threshold)]
    leaves = [t.detach().requires_grad_(w) for t, w in zip([x, *pair], wanted, strict=True)]
    spikes = answer(LIFCall(*leaves, d))
    spikes.backward(grad)
    return [spikes.detach(), *(leaf.grad for leaf in leaves)]


def assert_close(found: Tensor, expected: Tensor, rounding: float, scale: float = 0.0) -> None:
    """Equal up to some roundings of the largest value, or of ``scale`` if that is larger."""
    expected = expected.double()
    largest = max([scale, *expected[expected.isfinite()].abs().flatten().tolist()])
    torch.testing.assert_close(
        found.double(), expected, rtol=rounding, atol=rounding * largest, equal_nan=True
    )


def assert_close_sums(
    found: Sequence[Tensor], expected: Sequence[Tensor], terms: int, threshold: float
) -> None:
    """Gradients of leak and threshold, whose many terms may cancel.

    Terms are as large as 1/v, or, where spikes are as high as the threshold v, as v.
    """
    for a, b in zip(found, expected, strict=True):
        atol = 1e-5 * terms**0.5 * max(1 / abs(threshold), abs(threshold))
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=atol)


def named(name: str) -> ParameterSet:
    missing = backends.find(name)().missing()
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=str(missing)))


EVERY = [named(name) for name in backends.registered]
OTHERS = [named(name) for name in backends.registered if name != "reference"]
IN_ALL_INSTRUCTIONS = [
    pytest.param(*name.values, instructions, marks=name.marks)
    for name in OTHERS
    for instructions in instructions_of(*name.values)
]
every = pytest.mark.parametrize("name", EVERY)
others = pytest.mark.parametrize("name", OTHERS)
in_all_instructions = pytest.mark.parametrize(("name", "instructions"), IN_ALL_INSTRUCTIONS)


def any_instructions(data: st.DataObject, name: str) -> AbstractContextManager[object]:
    return use(data.draw(st.sampled_from(instructions_of(name))))
