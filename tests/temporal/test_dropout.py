"""Dropout over time: one mask for all steps, and otherwise what torch's dropout does."""

import pytest
import torch
from torch import nn

from leanspike import LeanspikeError
from leanspike.temporal import TemporalDropout, dropout_rate


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("drops", ["elements", "channels", "samples"])
def test_all_steps_share_one_mask(drops):
    y_TN = TemporalDropout(0.5, drops)(torch.ones(4, 32, 16, 3, 3))
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


def test_samples_are_dropped_whole_and_one_by_one():
    y_N = TemporalDropout(0.5, "samples")(torch.ones(2, 64, 8, 3))[0].flatten(1)
    assert (y_N == y_N[:, :1]).all()
    assert set(y_N[:, 0].tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("rest", [(5,), (5, 4), (5, 4, 3)], ids=["1d", "2d", "3d"])
def test_channels_are_dropped_whole_and_one_by_one(rest):
    y_NC = TemporalDropout(0.5, "channels")(torch.ones(2, 32, 64, *rest))[0].flatten(2)
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
    assert repr(TemporalDropout(0.25, "channels")) == "TemporalDropout(p=0.25, drops='channels')"


def test_a_rate_holds_for_all_layers_for_a_while():
    network = nn.Sequential(TemporalDropout(0.1), nn.Sequential(TemporalDropout(0.5)))
    x_TN = torch.ones(2, 10, 10_000)
    with dropout_rate(network, 0.2):
        kept = [float((layer(x_TN) != 0).float().mean()) for layer in (network[0], network[1])]
        assert kept == pytest.approx([0.8, 0.8], abs=0.01)
    assert (network[0].p, network[1][0].p) == (0.1, 0.5)
    with pytest.raises(KeyboardInterrupt), dropout_rate(network, 0.0):
        raise KeyboardInterrupt
    assert (network[0].p, network[1][0].p) == (0.1, 0.5)


def test_no_rate_leaves_each_layer_its_own():
    network = nn.Sequential(TemporalDropout(0.1), TemporalDropout(0.5))
    with dropout_rate(network, None):
        assert [layer.p for layer in network] == [0.1, 0.5]
    with dropout_rate(nn.Linear(2, 2), None):  # nor is any needed
        pass


def test_a_rate_without_dropout_or_out_of_range_is_refused():
    with pytest.raises(LeanspikeError, match=r"dropout is 0\.2, and the network has no dropout"):
        dropout_rate(nn.Linear(2, 2), 0.2).__enter__()
    with pytest.raises(LeanspikeError, match=r"p is 1\.5; give a probability from 0 to 1"):
        dropout_rate(TemporalDropout(0.1), 1.5).__enter__()
