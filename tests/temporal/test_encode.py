"""Encoders: what the first layer sees, and how many steps there are."""

import pytest
import torch

from leanspike import LeanspikeError
from leanspike.temporal import ENCODERS, Direct, Frames, create_encoder


def test_direct_passes_the_images_on_once():
    x = torch.rand(2, 3, 4, 4)
    sequence, steps = Direct().sequence(x, 7)
    assert sequence is x
    assert steps == 7
    assert not Direct.timed


def test_frames_are_folded_step_after_step_and_bring_their_number():
    x_TN = torch.rand(4, 2, 3)
    sequence, steps = Frames().sequence(x_TN, 99)
    assert steps == 4
    assert torch.equal(sequence, torch.cat(list(x_TN)))
    assert Frames.timed


def test_every_encoder_is_made_by_its_name():
    for name, kind in ENCODERS.items():
        assert type(create_encoder(name)) is kind


def test_an_unknown_encoder_is_refused_with_the_known_ones():
    with pytest.raises(LeanspikeError, match="encode is 'rate'; choose one of direct, frames"):
        create_encoder("rate")
