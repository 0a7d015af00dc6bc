"""Stacking time into the batch: which sample and step lands where, and what is copied.

Shapes: T timesteps, N samples.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.temporal import broadcast, repeat, stack, unstack

sizes = st.integers(1, 4)


@given(T=sizes, N=sizes, rest=st.lists(sizes, max_size=3))
@settings(max_examples=25)
def test_unstack_undoes_stack(T, N, rest):
    x_TN = torch.rand(T, N, *rest)
    assert stack(x_TN).shape == (T * N, *rest)
    assert torch.equal(unstack(stack(x_TN), T), x_TN)


@given(T=sizes, N=sizes)
@settings(max_examples=10)
def test_folded_batch_is_step_after_step(T, N):
    x_TN = torch.arange(T * N).view(T, N, 1)
    for t in range(T):
        for n in range(N):
            assert stack(x_TN)[t * N + n].item() == x_TN[t, n].item()


def test_unstack_is_a_view_in_either_layout():
    x = torch.rand(6, 3, 2, 2)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=layout)
        assert unstack(y, 3).data_ptr() == y.data_ptr()
        assert torch.equal(unstack(y, 3)[1], x[2:4])


def test_an_empty_batch_unstacks():
    assert unstack(torch.zeros(0, 3), 5).shape == (5, 0, 3)


def test_broadcast_is_every_step_the_same_and_copies_nothing():
    x_N = torch.rand(2, 3)
    x_TN = broadcast(x_N, 4)
    assert x_TN.data_ptr() == x_N.data_ptr()
    assert x_TN.shape == (4, 2, 3)
    assert all(torch.equal(step, x_N) for step in x_TN)


@pytest.mark.parametrize("equal", [True, False], ids=["equal steps", "different steps"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_broadcast_adds_up_the_gradients_of_the_steps(equal, layout):
    x_N = torch.rand(2, 3, 4, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight_TN = torch.rand(4, 2, 3, 4, 5, dtype=torch.float64)
    if equal:  # as from a neuron with a static input: a view of one step
        weight_TN = weight_TN[:1].expand_as(weight_TN)
    x_TN = broadcast(x_N, 4)
    (grad,) = torch.autograd.grad(x_TN, x_N, weight_TN)
    torch.testing.assert_close(grad, weight_TN.sum(0), atol=1e-12, rtol=0)


def test_broadcast_keeps_the_layout_of_its_gradient():
    x_N = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    (grad,) = torch.autograd.grad(
        broadcast(x_N, 4), x_N, torch.rand_like(x_N).expand(4, *x_N.shape)
    )
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_repeat_is_the_folded_broadcast():
    x_N = torch.rand(2, 3, 4)
    assert torch.equal(repeat(x_N, 5), stack(broadcast(x_N, 5)))


def test_repeat_keeps_channels_last():
    x_N = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert repeat(x_N, 5).is_contiguous(memory_format=torch.channels_last)


def test_gradients_of_all_steps_meet_in_what_was_repeated():
    for spread in (lambda x: repeat(x, 5), lambda x: stack(broadcast(x, 5))):
        x_N = torch.rand(2, 3, requires_grad=True)
        (spread(x_N) * torch.arange(10.0).view(10, 1)).sum().backward()
        assert x_N.grad[:, 0].tolist() == [0 + 2 + 4 + 6 + 8, 1 + 3 + 5 + 7 + 9]
