"""What norms make of a mean over time, against the norms themselves and autograd.

Shapes: T timesteps, N samples, C channels; ``_TC`` is a value for each step and channel.
"""

import pytest
import torch
from torch import nn

from leanspike.temporal import norms
from leanspike.temporal.means import batch_norm_of_mean, carried, followed, mean_of_affine

T, N, C = 4, 6, 3
every_norm = pytest.mark.parametrize("name", sorted(norms.registered))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def make(name):
    """With parameters that are not as they begin."""
    norm = norms.find(name)(C, T, bias=True).double()
    with torch.no_grad():
        for i, parameter in enumerate(norm.parameters()):
            parameter.add_(0.3 * draw(*parameter.shape, seed=10 + i))
    return norm


def gradients(norm, mean_N, x_N, weights_N):
    """Of Σ weights · the mean output, by the mean input and by the norm's parameters."""
    return torch.autograd.grad((weights_N * mean_N).sum(), (x_N, *norm.parameters()))


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 1e-6
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@every_norm
@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_norm_where_each_step_is_a_multiple_of_the_mean(name, training):
    """x_t = a_t·x̄ + b_t, through the norm of all steps by autograd; a step may be silent."""
    x_N, weights_N = draw(N, C, 2, 2).requires_grad_(), draw(N, C, 2, 2, seed=1)
    share_T = torch.tensor([0.0, 0.5, 1.5, 2.0]).double()  # their mean is 1
    if name == "tdbn" or (name == "tebn" and training):
        share_T = torch.ones(T).double()  # statistics of all steps together
    shift_TC = draw(T, C, seed=2)
    shift_TC = shift_TC - shift_TC.mean(0)
    twins = make(name), make(name)
    for norm in twins:
        norm.train(training)
    x_TN = share_T.view(T, 1, 1, 1, 1) * x_N + shift_TC.view(T, 1, C, 1, 1)
    mean_N = twins[0](x_TN).mean(0)
    found_N = twins[1].of_mean(x_N, x_TN.detach())
    torch.testing.assert_close(found_N, mean_N)
    expected = gradients(twins[0], mean_N, x_N, weights_N)
    close(gradients(twins[1], found_N, x_N, weights_N), expected)


@pytest.mark.parametrize("affine", [True, False])
def test_a_kept_batch_norm_is_exact_where_every_step_gets_the_same_gradient(affine):
    x_TN, weights_N = draw(T, N, C, 2, 2), draw(N, C, 2, 2, seed=1)
    norm = nn.BatchNorm2d(C, affine=affine).double()
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    steps = x_TN.clone().requires_grad_()
    mean_N = norm(steps.flatten(0, 1)).view_as(steps).mean(0)
    by_steps, *expected = gradients(norm, mean_N, steps, weights_N)
    x_N = x_TN.mean(0).requires_grad_()
    found_N = batch_norm_of_mean(norm, x_N, x_TN.flatten(0, 1))
    torch.testing.assert_close(found_N, mean_N)
    # ∂L/∂x̄ moves all steps alike: the sum of theirs.
    close(gradients(norm, found_N, x_N, weights_N), [by_steps.sum(0), *expected])


def test_a_step_at_which_nothing_arrives_gets_no_gradient():
    """Its variance is 0, so its scale is γ/√ε; on other steps' input that would be 100 times."""
    x_TN = draw(T, N, C)
    x_TN[0] = 0.25
    norm = make("bntt").train()
    x_N = x_TN.mean(0).requires_grad_()
    by_input, weight_TC, _ = gradients(norm, norm.of_mean(x_N, x_TN), x_N, draw(N, C, seed=1))
    assert weight_TC[0].abs().max() < 1e-8
    assert weight_TC[1:].abs().min() > 1e-4
    assert by_input.abs().max() < 3


def test_what_follows_the_mean_is_the_least_squares_line():
    x_TN = draw(T, N, C)
    mean_TC, share_TC = followed(x_TN, x_TN.mean(0))
    torch.testing.assert_close(mean_TC, x_TN.mean(1))
    torch.testing.assert_close(share_TC.mean(0), torch.ones(C).double())
    line = torch.stack([x_TN.mean(0)[:, 1], torch.ones(N).double()], 1)
    for t in range(T):
        slope = torch.linalg.lstsq(line, x_TN[t, :, 1:2]).solution[0, 0]
        torch.testing.assert_close(share_TC[t, 1], slope)


def test_a_channel_that_is_the_same_for_all_samples_is_finite():
    x_TN = torch.full((T, N, C), 2.0)
    norm, x_N = norms.find("bntt")(C, T).train(), x_TN.mean(0).requires_grad_()
    assert torch.isfinite(torch.autograd.grad(norm.of_mean(x_N, x_TN).sum(), x_N)[0]).all()


def test_a_scale_for_each_step_has_its_mean():
    x_TN, scale_TC = draw(T, N, C), draw(T, C, seed=4)
    found_N = mean_of_affine(x_TN.mean(0), x_TN, scale_TC, draw(T, C, seed=5))
    rest = (scale_TC[:, None] * x_TN + draw(T, C, seed=5)[:, None]).mean(0)
    torch.testing.assert_close(found_N.mean(0), rest.mean(0))  # over the samples


def test_what_is_carried_has_the_gradient_of_all_steps():
    by = torch.zeros(N, dtype=torch.bfloat16, requires_grad=True)
    value_TN = draw(T, N).float()
    found = carried(value_TN, by)
    assert torch.equal(found, value_TN)
    (found * 2).sum().backward()
    assert by.grad.dtype == torch.bfloat16
    assert by.grad.tolist() == [2.0 * T] * N
