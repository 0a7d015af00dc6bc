import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.data.augment import Augment
from leanspike.data.loader import Loader, generator_for, normalise
from leanspike.data.split import Split, TensorSplit
from leanspike.errors import DataError, LeanspikeError

CROP_AND_FLIP = Augment(crop=2, flip=True, cutout=2)


def numbered(count):
    """Random images whose labels are their indices."""
    pixels = torch.randint(256, (count, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    return TensorSplit(pixels.byte(), torch.arange(count))


def loader(split, batch_size=4, *, train=True, seed=0, **options):
    return Loader(
        split,
        batch_size=batch_size,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
        seed=seed,
        train=train,
        **options,
    )


def same(left, right):
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


class Lazy(Split):
    """An in-memory split that calls itself lazy, counts the batches, and can fail at one."""

    lazy = True

    def __init__(self, split, fail_at=None):
        self.split = split
        self.labels = split.labels
        self.fail_at = fail_at
        self.threads = []
        self.second = threading.Event()

    @property
    def shape(self):
        return self.split.shape

    def batch(self, indices):
        if len(self.threads) == self.fail_at:
            raise DataError("no image in x.png")
        self.threads.append(threading.current_thread())
        if len(self.threads) == 2:
            self.second.set()
        return self.split.batch(indices)

    def select(self, indices):
        return Lazy(self.split.select(indices))


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 3), st.booleans(), st.booleans())
def test_an_epoch_resumes_bit_for_bit(count, batch_size, epoch, train, lazy):
    split = numbered(count)
    batches = loader(split, batch_size, train=train, augment=CROP_AND_FLIP)
    whole = list(batches.epoch(epoch))
    assert len(whole) == len(batches)
    again = loader(Lazy(split) if lazy else split, batch_size, train=train, augment=CROP_AND_FLIP)
    for start in range(len(whole) + 1):
        assert same(again.epoch(epoch, start_step=start), whole[start:])


@given(st.integers(0, 30), st.integers(1, 9))
def test_training_sees_every_image_at_most_once_in_full_batches(count, batch_size):
    labels = [labels.tolist() for _, labels in loader(numbered(count), batch_size).epoch(0)]
    seen = sorted(label for batch in labels for label in batch)
    if 0 < count < batch_size:
        assert seen == list(range(count))
    else:
        assert [len(batch) for batch in labels] == [batch_size] * (count // batch_size)
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(count))


@given(st.integers(0, 30), st.integers(1, 9))
def test_evaluation_sees_everything_in_order_unaugmented(count, batch_size):
    split = numbered(count)
    batches = loader(split, batch_size, train=False, augment=CROP_AND_FLIP)
    found = list(batches.epoch(0))
    assert len(found) == len(batches) == -(-count // batch_size)
    if count:
        assert torch.cat([labels for _, labels in found]).tolist() == list(range(count))
        expected = normalise(split.images, batches.mean, batches.std)
        assert torch.equal(torch.cat([images for images, _ in found]), expected)


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch, augment=None):
        batches = loader(numbered(64), 8, seed=seed, augment=augment).epoch(epoch)
        return torch.cat([labels for _, labels in batches]).tolist()

    first = order(0, 0)
    torch.manual_seed(5)
    assert order(0, 0, CROP_AND_FLIP) == first
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert first != sorted(first)


def test_augmentation_differs_between_steps_and_epochs():
    same_image = TensorSplit(numbered(1).images.expand(8, -1, -1, -1), torch.zeros(8).long())
    batches = loader(same_image, 4, augment=Augment(crop=6))
    found = [images for epoch in range(3) for images, _ in batches.epoch(epoch)]
    assert len({images.numpy().tobytes() for images in found}) == 6


def test_the_keys_of_generators_do_not_collide():
    keys = [(s, *key) for s in range(4) for key in [(), (0,), (0, 0), (1,), (0, 1), (1, 0), (1, 1)]]
    drawn = {tuple(torch.rand(4, generator=generator_for(*key)).tolist()) for key in keys}
    assert len(drawn) == len(keys)
    assert torch.equal(*(torch.rand(4, generator=generator_for(3, 1, 2)) for _ in range(2)))


def test_a_lazy_split_is_read_ahead_in_the_background():
    split = Lazy(numbered(12))
    batches = loader(split, 4).epoch(0)
    next(batches)
    assert split.second.wait(timeout=10)  # the second batch is read before it is asked for
    assert threading.current_thread() not in split.threads
    batches.close()
    assert len(split.threads) <= 3


def test_an_in_memory_split_needs_no_thread():
    before = threading.active_count()
    batches = loader(numbered(12), 4).epoch(0)
    next(batches)
    assert threading.active_count() == before


def test_a_failure_in_the_background_arrives_at_its_step():
    batches = loader(Lazy(numbered(12), fail_at=1), 4).epoch(0)
    next(batches)
    with pytest.raises(DataError, match=r"no image in x\.png"):
        next(batches)


def test_batches_are_float32_and_channels_last_on_request():
    images, labels = next(loader(numbered(8), memory_format=torch.channels_last).epoch(0))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    plain, _ = next(loader(numbered(8)).epoch(0))
    assert plain.is_contiguous()
    assert torch.equal(plain, images)


def test_batches_go_to_the_device():
    images, labels = next(loader(numbered(8), device="meta").epoch(0))
    assert images.device.type == labels.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gets_the_same_batches():
    cpu = list(loader(numbered(8), augment=CROP_AND_FLIP).epoch(0))
    cuda = loader(numbered(8), augment=CROP_AND_FLIP, device="cuda").epoch(0)
    for (expected, labels), (images, found) in zip(cpu, cuda, strict=True):
        assert torch.allclose(images.cpu(), expected, atol=1e-6)
        assert torch.equal(found.cpu(), labels)


def test_normalise_is_the_textbook_formula():
    images = numbered(5).images
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    found = normalise(images, mean, std)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert images.dtype == torch.uint8


def test_normalise_is_torchvisions_bit_for_bit():
    functional = pytest.importorskip("torchvision.transforms.functional")
    images = numbered(5).images
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert torch.equal(normalise(images, mean, std), functional.normalize(images / 255, mean, std))


@pytest.mark.parametrize(
    ("images", "mean", "std", "message"),
    [
        (
            torch.zeros(1, 3, 2, 2).double(),
            (0, 0, 0),
            (1, 1, 1),
            r"torch.float64 .*give torch.uint8",
        ),
        (torch.zeros(3, 2, 2).byte(), (0, 0, 0), (1, 1, 1), r"\[3, 2, 2]; .*\[B, C, H, W]"),
        (torch.zeros(1, 3, 2, 2).byte(), (0,), (1, 1, 1), r"mean \(0,\) .* 3 channels"),
        (torch.zeros(1, 1, 2, 2).byte(), (0,), (0,), r"std \(0,\) .* std positive"),
    ],
)
def test_normalise_refuses_what_does_not_fit(images, mean, std, message):
    with pytest.raises(LeanspikeError, match=message):
        normalise(images, mean, std)


def test_impossible_requests_are_refused():
    with pytest.raises(LeanspikeError, match="batch_size is 0; give 1 or more"):
        loader(numbered(4), 0)
    with pytest.raises(LeanspikeError, match="seed is -1; give 0 or more"):
        loader(numbered(4), seed=-1)
    with pytest.raises(LeanspikeError, match="epoch is -1; give 0 or more"):
        loader(numbered(4)).epoch(-1)
    with pytest.raises(LeanspikeError, match=r"start_step is 3; an epoch has steps 0\.\.2"):
        loader(numbered(8)).epoch(0, start_step=3)
