"""Dropout over time: one mask for all steps, and otherwise what torch's dropout does."""

import pytest
import torch

from leanspike import LeanspikeError
from leanspike.temporal import TemporalDropout


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("channels", [False, True])
def test_all_steps_share_one_mask(channels):
    y_TN = TemporalDropout(0.5, channels)(torch.ones(4, 8, 16, 3, 3))
    assert 0.3 < (y_TN == 0).float().mean() < 0.7
    assert all(torch.equal(step, y_TN[0]) for step in y_TN)


def test_each_call_draws_another_mask():
    dropout, x_TN = TemporalDropout(0.5), torch.ones(2, 4, 16)
    assert not torch.equal(dropout(x_TN), dropout(x_TN))


def test_samples_and_entries_have_masks_of_their_own():
    y_N = TemporalDropout(0.5)(torch.ones(2, 100, 100))[0]
    assert len(y_N.unique(dim=0)) == 100
    assert y_N.unique(dim=1).shape[1] == 100


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropped_share_is_p_and_the_mean_is_kept(p):
    y_TN = TemporalDropout(p)(torch.full((1, 100, 1000), 3.0))
    assert (y_TN == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert y_TN.mean().item() == pytest.approx(3, rel=0.05)
    assert y_TN.max().item() == pytest.approx(3 / (1 - p))


@pytest.mark.parametrize("rest", [(5,), (5, 4), (5, 4, 3)], ids=["1d", "2d", "3d"])
def test_channels_are_dropped_whole_and_one_by_one(rest):
    y_NC = TemporalDropout(0.5, channels=True)(torch.ones(2, 32, 64, *rest))[0].flatten(2)
    assert (y_NC == y_NC[..., :1]).all()
    dropped = (y_NC[..., 0] == 0).float()
    assert dropped.mean().item() == pytest.approx(0.5, abs=0.05)
    assert len(dropped.unique(dim=0)) == 32  # samples differ
    assert dropped.unique(dim=1).shape[1] == 64  # channels differ


def test_eval_mode_and_p_of_zero_pass_the_input_on():
    x_TN = torch.rand(2, 3, 4)
    assert TemporalDropout(0.5).eval()(x_TN) is x_TN
    assert TemporalDropout(0.0)(x_TN) is x_TN


def test_p_of_one_drops_everything():
    assert not TemporalDropout(1.0)(torch.ones(2, 3, 4)).any()


def test_the_gradient_is_the_mask():
    x_TN = torch.rand(3, 2, 8, requires_grad=True)
    y_TN = TemporalDropout(0.5)(x_TN)
    y_TN.sum().backward()
    assert torch.equal(x_TN.grad, torch.where(y_TN == 0, 0.0, 2.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype):
    assert TemporalDropout(0.5)(torch.ones(2, 3, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_p_out_of_range_is_refused(p):
    with pytest.raises(LeanspikeError, match=f"p is {p}; give a probability from 0 to 1"):
        TemporalDropout(p)


def test_print_tells_the_settings():
    assert repr(TemporalDropout(0.25, channels=True)) == "TemporalDropout(p=0.25, channels=True)"
