"""Facts about the native neurons alone; what every backend promises is in test_contract.py."""

import math
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
from backend_calls import LARGE, computed_by, inputs, laid_out, lif_call, use, with_gradients

from leanspike import native as library
from leanspike.backends import Dynamics, LIFCall, LIFStepCall, Native, Reference, reference
from leanspike.backends.native import lif as native
from leanspike.backends.native import structures
from leanspike.errors import LeanspikeError
from leanspike.neuron import LIF
from leanspike.surrogate import Triangle

if not library.is_built():
    pytest.skip("the native kernel is not built", allow_module_level=True)


def test_a_forked_process_computes_too():
    """With threads of its own, since torch's stay behind; it would wait for them for ever."""
    x = inputs(LARGE, 1.0, 0)
    pair = torch.tensor(0.9), torch.tensor(0.7)
    before = native.run_lif(LIFCall(x, *pair, Dynamics())).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside torch's own threads
        child = os.fork()
    if child == 0:
        same = (native.run_lif(LIFCall(x, *pair, Dynamics())).numpy() == before).all()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("layout", ["plain", "channels_last", "swapped", "static"])
def test_layouts_are_kept_without_a_copy(layout):
    x = laid_out(inputs((3, 2, 4, 5, 6), 1.0, 0), layout)
    assert structures.side_by_side(x) is x
    spikes, grad_x, *_ = with_gradients(
        computed_by("native"), x, 0.9, 0.7, Dynamics(), torch.ones(()).expand(x.shape)
    )
    assert spikes.stride()[1:] == x.stride()[1:]
    assert grad_x[0].stride() == x[0].stride()
    if layout == "channels_last":
        assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_only_the_input_is_kept_for_the_backward_pass():
    x, kept = inputs((3, 50), 1.0, 0).requires_grad_(), []
    pair = torch.tensor(0.9), torch.tensor(0.7)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        native.run_lif(LIFCall(x, *pair, Dynamics()))
    assert [t.data_ptr() for t in kept] == [t.data_ptr() for t in (x, *pair)]


def test_too_little_memory_is_an_error():
    call = structures.LIFStructure(size=1, steps=2**45)  # backward: the membranes of all steps
    with pytest.raises(MemoryError, match="native neuron kernel"):
        structures.run(call)


@pytest.mark.parametrize("name", library.available_instructions())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_of_its_own_change_no_bit(name, dtype, monkeypatch):
    monkeypatch.setattr(library, "parallel", lambda: None)
    x, grad = inputs(LARGE, 1.0, 0).to(dtype), inputs(LARGE, 1.0, 1).to(dtype)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with use(name):
                found.append(with_gradients(computed_by("native"), x, 0.9, 0.7, Dynamics(), grad))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(found[0][0], lif_call(x).reference())


def test_a_step_is_laid_out_as_its_input():
    x = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    u = torch.rand(2, 3, 4, 5)
    pair = torch.tensor(0.9), torch.tensor(0.7)
    found = native.run_step(LIFStepCall(u, x, *pair, Dynamics()))
    for a, b in zip(found, reference.lif_step(u, x, *pair, Dynamics()), strict=True):
        assert torch.equal(a, b)
        assert a.stride() == x.stride()


def test_a_step_with_gradients_is_the_references():
    x = torch.rand(3, 4, requires_grad=True)
    leak, threshold = torch.tensor(0.9), torch.tensor(0.7)
    call = LIFStepCall(torch.zeros(3, 4), x, leak, threshold, Dynamics())
    assert not Native().serves(call)
    with torch.no_grad():
        assert Native().serves(call)


def test_second_derivatives_are_refused():
    x = torch.rand(3, 4, requires_grad=True)
    leak, threshold = torch.tensor(0.9, requires_grad=True), torch.tensor(0.7)
    y = native.run_lif(LIFCall(x, leak, threshold, Dynamics()))
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(LeanspikeError, match="no second derivatives; set LEANSPIKE_BACKEND=ref"):
        grad.sum().backward()


def test_the_advice_on_second_derivatives_works(monkeypatch):
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")
    x = torch.rand(3, 4, requires_grad=True)
    y = LIF(0.7, 0.9, learn=("leak",))(x)
    (grad,) = torch.autograd.grad((y + x).square().sum(), x, create_graph=True)
    grad.sum().backward()
    assert x.grad.count_nonzero() > 0


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck
@pytest.mark.parametrize("x", [torch.randn(3, 4), torch.randn(3, 4, 2)[..., :1]])
def test_torch_accepts_the_operators(x):
    leak, threshold = torch.tensor(0.9, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    settings = [0, 1, 1, 0], [0.3, 1.0, math.inf]
    torch.library.opcheck(
        torch.ops.leanspike.lif.default, (x.requires_grad_(), leak, threshold, False, *settings)
    )
    saved = x.detach(), leak.detach(), threshold.detach()
    arguments = (torch.ones_like(x), *saved, False, *settings, True, True)
    torch.library.opcheck(torch.ops.leanspike.lif_backward.default, arguments)


def test_the_first_call_imports_no_compiler():
    """It would take longer than the import of torch; so it does with `torch.library.custom_op`."""
    code = (
        "import sys, torch; from leanspike import LIF; "
        "LIF()(torch.ones(2, 3, requires_grad=True)).sum().backward(); "
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    environment = os.environ | {"LEANSPIKE_BACKEND": "native"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", "False"]


@dataclass(frozen=True)
class Ours(Triangle):
    def derivative(self, z):
        return torch.ones_like(z)


def test_it_serves_float32_and_bfloat16_on_the_cpu():
    for dtype in (torch.float32, torch.bfloat16):
        assert Native().serves(lif_call(torch.zeros(2, 3, dtype=dtype)))


def test_it_leaves_the_rest_to_the_reference():
    x, one, d = torch.zeros(2, 3), torch.tensor(1.0), Dynamics()
    for dtype in (torch.float64, torch.float16):
        assert not Native().serves(lif_call(x.to(dtype)))
    for call in (
        lif_call(x.to("meta")),
        lif_call(torch.zeros(2)),
        lif_call(x, d=Dynamics(surrogate=Ours())),
        LIFCall(x, one.double(), one, d),
        LIFCall(x, one, torch.ones(3), d),  # one threshold per neuron
        LIFStepCall(x.double(), x, one, one, d),
        LIFStepCall(x[0], x, one, one, d),  # which broadcasts
        LIFStepCall(x.to("meta"), x, one, one, d),
    ):
        assert not Native().serves(call)
        assert Reference().serves(call)
