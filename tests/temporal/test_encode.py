"""Encoders: what the first layer sees, and how many steps there are."""

import pytest
import torch

from leanspike import LeanspikeError
from leanspike.temporal import ENCODERS, Direct, Frames, Poisson, create_encoder


def test_direct_passes_the_images_on_once():
    x = torch.rand(2, 3, 4, 4)
    sequence, steps = Direct().sequence(x, 7, training=False)
    assert sequence is x
    assert steps == 7
    assert not Direct.timed


def test_frames_are_folded_step_after_step_and_bring_their_number():
    x_TN = torch.rand(4, 2, 3)
    sequence, steps = Frames().sequence(x_TN, 99, training=False)
    assert steps == 4
    assert torch.equal(sequence, torch.cat(list(x_TN)))
    assert Frames.timed


@pytest.mark.parametrize("training", [False, True])
def test_poisson_fires_with_the_probability_of_the_paper_and_the_sign_of_the_pixel(training):
    torch.manual_seed(0)
    x = torch.tensor([[-3.0, -1.0, -0.25, 0.0, 0.5, 1.5, 2.0]])
    steps = 4000
    sequence, _ = Poisson().sequence(x.expand(3, -1), steps, training=training)
    assert set(sequence.unique().tolist()) == {-1.0, 0.0, 1.0}
    expected = x.sign() * (x.abs() / 2).clamp(max=1)
    spread = (expected.abs() * (1 - expected.abs()) / (3 * steps)).sqrt()
    assert ((sequence.mean(0) - expected).abs() <= 5 * spread + 1e-12).all()
    assert torch.equal(sequence[:, 0], torch.full((3 * steps,), -1.0))  # P = 1


def test_poisson_spikes_are_independent_between_steps_pixels_and_samples():
    x = torch.ones(2, 500)
    x[1, 0] = 0.9  # another sample
    sequence, _ = Poisson().sequence(x, 8, training=False)
    flat = sequence.view(16, 500)[:, 1:]
    correlation = torch.corrcoef(flat) - torch.eye(16)
    assert correlation.abs().max() < 5 / 500**0.5


def test_poisson_evaluates_the_same_whatever_the_batch():
    x = torch.randn(5, 3, 4, 4)
    encoder = Poisson()
    whole = encoder.sequence(x, 6, training=False)[0].view(6, 5, 3, 4, 4)
    assert torch.equal(encoder.sequence(x, 6, training=False)[0].view_as(whole), whole)
    order = torch.tensor([3, 1])
    part = encoder.sequence(x[order], 6, training=False)[0].view(6, 2, 3, 4, 4)
    assert torch.equal(part, whole[:, order])
    short = encoder.sequence(x, 2, training=False)[0].view(2, 5, 3, 4, 4)
    assert torch.equal(short, whole[:2])
    nhwc = x.to(memory_format=torch.channels_last)
    assert torch.equal(encoder.sequence(nhwc, 6, training=False)[0].view_as(whole), whole)
    for step in range(6):
        assert torch.equal(encoder.step(x, step), whole[step])


def test_poisson_seeds_differ():
    x = torch.randn(5, 3, 4, 4)
    one, two = (Poisson(seed=seed).sequence(x, 6, training=False)[0] for seed in (0, 1))
    assert (one != two).any()


def test_poisson_trains_on_new_spikes_from_torchs_generator():
    x = torch.randn(5, 3, 4, 4)
    torch.manual_seed(1)
    one = Poisson().sequence(x, 6, training=True)[0]
    two = Poisson().sequence(x, 6, training=True)[0]
    torch.manual_seed(1)
    again = Poisson().sequence(x, 6, training=True)[0]
    assert torch.equal(one, again)
    assert (one != two).any()


def test_poisson_refuses_what_is_out_of_range():
    with pytest.raises(LeanspikeError, match=r"gain is 0\.0; give a number above 0"):
        Poisson(gain=0.0)
    with pytest.raises(LeanspikeError, match="seed is -1; give a whole number, 0 or more"):
        Poisson(seed=-1)
    with pytest.raises(LeanspikeError, match=r"seed is 1\.5; give a whole number, 0 or more"):
        create_encoder("poisson", {"seed": 1.5})


def test_every_encoder_is_made_by_its_name():
    for name, kind in ENCODERS.items():
        assert type(create_encoder(name)) is kind


def test_an_unknown_encoder_or_option_is_refused_with_the_known_ones():
    with pytest.raises(LeanspikeError, match="'rate'; choose one of direct, frames, poisson"):
        create_encoder("rate")
    with pytest.raises(LeanspikeError, match="encode poisson has no option 'rate'; valid are gain"):
        create_encoder("poisson", {"rate": 1})
    with pytest.raises(LeanspikeError, match="encode direct has no option 'seed'; it has none"):
        create_encoder("direct", {"seed": 1})


def test_no_samples_give_no_spikes():
    x_N, poisson = torch.zeros(0, 3, 2, 2), Poisson()
    assert poisson.step(x_N, 0).shape == x_N.shape
    assert poisson.sequence(x_N, 4, training=False)[0].shape == x_N.shape
