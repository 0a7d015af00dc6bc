"""Norms through time: against loops over torch's batch norms, formulas in NumPy, and each other."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing, nn

from leanspike import LeanspikeError
from leanspike.temporal import BNTT, TDBN, TEBN, TEMPORAL_NORMS, Affine, temporal_norm

SHAPES = [(4, 6, 3, 5, 5), (3, 8, 2), (2, 5, 4, 7), (1, 2, 1, 1, 2)]
KINDS = list(TEMPORAL_NORMS.values())


def currents(shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 1
    scale = torch.linspace(0.5, 2, shape[0], dtype=torch.float64)  # the steps differ
    return (x * scale.view(-1, *[1] * (len(shape) - 1))).to(dtype)


def torch_norm(shape):
    return {3: nn.BatchNorm1d, 4: nn.BatchNorm1d, 5: nn.BatchNorm2d}[len(shape)]


def loop_of_batch_norms(shape):
    """The paper's code: a list of T modules, their shift taken away."""
    norms = [torch_norm(shape)(shape[2], eps=1e-4, momentum=0.1).double() for _ in range(shape[0])]
    for norm in norms:
        norm.bias = None
    return norms


def randomised(norm, seed=1):
    torch.manual_seed(seed)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return norm


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_bntt_is_a_batch_norm_for_each_step(shape, channels_last):
    ours = randomised(BNTT(shape[2], shape[0]).double())
    theirs = loop_of_batch_norms(shape)
    for t, norm in enumerate(theirs):
        norm.weight.data.copy_(ours.weight[t])
    for batch in range(3):
        x = currents(shape, batch).requires_grad_()
        given_x = x.detach()
        if channels_last and len(shape) == 5:
            folded = given_x.flatten(0, 1).to(memory_format=torch.channels_last)
            given_x = folded.view(shape)
        given_x = given_x.requires_grad_()
        expected = torch.stack([norm(x[t]) for t, norm in enumerate(theirs)])
        got = ours(given_x)
        upstream = currents(shape, 10 + batch)
        expected.backward(upstream)
        got.backward(upstream)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(given_x.grad, x.grad)
    for t, norm in enumerate(theirs):
        torch.testing.assert_close(ours.weight.grad[t], norm.weight.grad)
        torch.testing.assert_close(ours.running_mean[t], norm.running_mean)
        torch.testing.assert_close(ours.running_var[t], norm.running_var)
    x = currents(shape, 20)
    expected = torch.stack([norm.eval()(x[t]) for t, norm in enumerate(theirs)])
    torch.testing.assert_close(ours.eval()(x), expected)


@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_formula_in_numpy(kind, shape):
    norm = randomised(kind(shape[2], shape[0]).double())
    x = currents(shape)
    axes = tuple(d for d in range(len(shape)) if d != 2 and not (norm.per_step and d == 0))
    mean = x.numpy().mean(axes, keepdims=True)
    variance = x.numpy().var(axes, keepdims=True)
    spread = (1, 1, -1, *[1] * (len(shape) - 3))
    per_step = (shape[0], *spread[1:]) if norm.per_step else spread
    weight = norm.weight.detach().numpy().reshape(per_step)
    bias = 0.0 if norm.bias is None else norm.bias.detach().numpy().reshape(per_step)
    expected = weight * (x.numpy() - mean) / np.sqrt(variance + norm.eps) + bias
    if isinstance(norm, TEBN):
        expected = expected * norm.step_weight.detach().numpy().reshape(-1, *[1] * (len(shape) - 1))
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_tdbn_scales_to_the_threshold():
    x = currents(SHAPES[0])
    plain = TDBN(3, 4).double()
    scaled = TDBN(3, 4, threshold=0.5, alpha=0.25).double()
    torch.testing.assert_close(scaled(x), 0.125 * plain(x))
    torch.testing.assert_close(plain(x), nn.BatchNorm2d(3).double()(x.flatten(0, 1)).view_as(x))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    norm = randomised(kind(2, 3).double())
    x = currents((3, 4, 2, 2)).requires_grad_()
    parameters = tuple(norm.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (x, *parameters))


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_steps_are_the_first_ones(kind):
    norm = randomised(kind(3, 4).double())
    norm(currents(SHAPES[0]))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.eval()
    x = currents(SHAPES[0], 1)
    assert torch.equal(norm(x[:2]), norm(x)[:2])
    norm.train()
    norm(x[:2])
    if norm.per_step:
        assert torch.equal(norm.running_mean[2:], before["running_mean"][2:])
        assert not torch.equal(norm.running_mean[:2], before["running_mean"][:2])


@pytest.mark.parametrize("kind", KINDS)
def test_more_steps_are_refused(kind):
    with pytest.raises(LeanspikeError, match=r"has parameters for 4 timesteps and is asked for 5"):
        kind(3, 4)(torch.zeros(5, 6, 3))
    with pytest.raises(LeanspikeError, match=r"asked for 5; .* timesteps=5 and train it"):
        kind(3, 4).eval().step(torch.zeros(6, 3), 4)


@pytest.mark.parametrize("kind", KINDS)
def test_other_channels_are_refused(kind):
    with pytest.raises(LeanspikeError, match=r"shape \(4, 6, 2\); expected \[T, N, 3, \.\.\.\]"):
        kind(3, 4)(torch.zeros(4, 6, 2))


@given(st.sampled_from(KINDS), st.sampled_from(SHAPES), st.integers(0, 99), st.booleans())
@settings(max_examples=30)
def test_whole_is_step_by_step_is_affine(kind, shape, seed, bias):
    norm = randomised(kind(shape[2], shape[0], bias=bias).double(), seed)
    if shape != SHAPES[3]:
        norm(currents(shape, seed))
    norm.eval()
    x = currents(shape, seed + 1)
    whole = norm(x)
    torch.testing.assert_close(torch.stack([norm.step(x[t], t) for t in range(len(x))]), whole)
    folded = Affine(*norm.affine(shape[0]))
    torch.testing.assert_close(folded(x), whole)
    torch.testing.assert_close(torch.stack([folded.step(x[t], t) for t in range(len(x))]), whole)


def test_a_folded_norm_refuses_more_steps():
    folded = Affine(torch.ones(2, 3), torch.zeros(2, 3))
    with pytest.raises(LeanspikeError, match="folded for 2 timesteps and is asked for 3"):
        folded(torch.zeros(3, 1, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_as_the_batch_norm_is(kind):
    theirs = randomised(nn.BatchNorm2d(3)).double()
    theirs(currents(SHAPES[0])[0])
    ours = kind(3, 4, bias=True, eps=1e-5).double().eval()
    ours.load_batch_norm(theirs.state_dict())
    x = currents(SHAPES[0], 1)
    torch.testing.assert_close(ours(x), torch.stack([theirs.eval()(x_N) for x_N in x]))


def test_a_trained_shift_is_not_dropped_without_a_word():
    trained = nn.BatchNorm2d(3)
    BNTT(3, 4).load_batch_norm(trained.state_dict())  # all shifts are 0
    nn.init.ones_(trained.bias)
    with pytest.raises(LeanspikeError, match=r"trained shift, and BNTT has none; .* bias=True"):
        BNTT(3, 4).load_batch_norm(trained.state_dict())
    with pytest.raises(LeanspikeError, match=r"of 3 channels has no weight of shape \(2,\)"):
        BNTT(3, 4).load_batch_norm(nn.BatchNorm2d(2).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_chunks_are_those_of_the_batch(kind):
    x = currents(SHAPES[0])
    trained, measured = (kind(3, 4, momentum=1.0).double() for _ in range(2))
    trained(x)
    measured.set_statistics([x[:, :2], x[:, 2:]])
    torch.testing.assert_close(measured.running_mean, trained.running_mean)
    torch.testing.assert_close(measured.running_var, trained.running_var)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_fewer_steps_leave_the_later_ones(kind):
    norm = kind(3, 4).double()
    norm.set_statistics([currents(SHAPES[0])[:2]])
    assert not torch.equal(norm.running_mean[:2], torch.zeros_like(norm.running_mean[:2]))
    if norm.per_step:
        assert torch.equal(norm.running_var[2:], torch.ones(2, 3).double())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_in_and_out_with_statistics_in_float32(kind):
    norm = kind(3, 4)
    x = currents(SHAPES[0], dtype=torch.float32)
    expected = kind(3, 4)(x)
    got = norm(x.bfloat16())
    assert got.dtype == torch.bfloat16
    assert norm.running_var.dtype == torch.float32
    torch.testing.assert_close(got.float(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_another_like_it_is_made_from_its_options(kind, bias):
    norm = kind(3, 4, bias=bias, eps=1e-3, momentum=0.2)
    again = kind(3, 4, **norm.options)
    assert repr(again) == repr(norm)
    assert again.state_dict().keys() == norm.state_dict().keys()


def test_bad_arguments_are_named():
    for arguments, message in (
        ({"channels": 0}, "channels is 0"),
        ({"timesteps": 0}, "timesteps is 0"),
        ({"eps": 0.0}, "eps is 0.0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"momentum": 0.0}, "momentum is 0.0"),
    ):
        with pytest.raises(LeanspikeError, match=message):
            BNTT(**{"channels": 3, "timesteps": 4, **arguments})
    with pytest.raises(LeanspikeError, match=r"threshold is 0\.0, alpha 1\.0"):
        TDBN(3, 4, threshold=0.0)
    with pytest.raises(LeanspikeError, match=r"norm is 'bnt'; choose one of bntt, tdbn, tebn"):
        temporal_norm("bnt")
    with pytest.raises(LeanspikeError, match="norm tebn has no option 'alpha'; valid are bias"):
        temporal_norm("tebn", {"alpha": 1.0})
    assert isinstance(temporal_norm("tdbn", {"alpha": 0.5})(3, 4), TDBN)


def in_a_process(rank, world, store, results):
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    torch.save({kind.__name__: share_of(kind, rank) for kind in KINDS}, f"{results}/{rank}.pt")
    # Neither destroy_process_group, which in torch 2.6 can wait for ever (it holds Python's lock
    # while it joins gloo's thread, which needs the lock to let go of a tensor), nor the usual end
    # of a process, which can abort because that thread still runs.
    os._exit(0)


def share_of(kind, rank):
    norm = randomised(kind(3, 4, synchronise=True).double())
    share = slice(None, 2) if rank == 0 else slice(2, None)  # batches of 2 and of 4
    x = currents(SHAPES[0])[:, share].clone().requires_grad_()
    y = norm(x)
    (y * currents(SHAPES[0], 1)[:, share]).sum().backward()
    return {
        "y": y.detach(),
        "x_grad": x.grad,
        "weight_grad": norm.weight.grad,
        "mean": norm.running_mean,
        "var": norm.running_var,
    }


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """What each of two processes finds in its share of a batch, for each norm."""
    folder = tmp_path_factory.mktemp("shares")
    run = partial(in_a_process, world=2, store=folder / "store", results=folder)
    # Not a fork: autograd does not survive one in a process where torch has compiled.
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_processes_together_are_one_with_the_whole_batch(kind, shares):
    first, second = (share[kind.__name__] for share in shares)
    norm = randomised(kind(3, 4).double())
    x = currents(SHAPES[0]).requires_grad_()
    y = norm(x)
    (y * currents(SHAPES[0], 1)).sum().backward()
    torch.testing.assert_close(torch.cat([first["y"], second["y"]], 1), y.detach())
    torch.testing.assert_close(torch.cat([first["x_grad"], second["x_grad"]], 1), x.grad)
    torch.testing.assert_close(first["weight_grad"] + second["weight_grad"], norm.weight.grad)
    for part in (first, second):
        torch.testing.assert_close(part["mean"], norm.running_mean)
        torch.testing.assert_close(part["var"], norm.running_var)
