"""Which code computed: what ran is noted, and nothing else."""

from __future__ import annotations

import os
import threading
from unittest.mock import patch

import pytest
import torch
from torch import nn

from leanspike import native
from leanspike.backends import watch_backends
from leanspike.neuron import LIF, Triangle
from leanspike.synapse import EventConv2d

built = pytest.mark.skipif(not native.is_built(), reason="the native library is not built")
X_TN = torch.rand(3, 4)


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine that tests has chosen by hand does not matter here."""
    for name in ("LEANSPIKE_BACKEND", "LEANSPIKE_INSTRUCTIONS"):
        monkeypatch.delenv(name, raising=False)


@built
def test_neurons_that_the_native_code_knows_are_native() -> None:
    with watch_backends() as ran:
        LIF()(X_TN)
    assert (ran.backend, ran.instructions) == ("native", native.available_instructions()[-1])


@built
@pytest.mark.parametrize("name", native.available_instructions())
def test_the_instruction_set_is_the_one_that_was_chosen(name: str) -> None:
    with patch.dict(os.environ, LEANSPIKE_INSTRUCTIONS=name), watch_backends() as ran:
        LIF()(X_TN)
    assert ran.instructions == name


class Own(Triangle):
    """A surrogate that the native code does not know."""


@pytest.mark.parametrize(
    ("neuron", "x_TN"),
    [(LIF(), X_TN.double()), (LIF(surrogate=Own()), X_TN), (LIF().double(), X_TN)],
    ids=["float64", "another surrogate", "parameters in float64"],
)
def test_neurons_that_it_does_not_know_run_the_reference(neuron: LIF, x_TN: torch.Tensor) -> None:
    with watch_backends() as ran:
        neuron(x_TN)
    assert (ran.backend, ran.instructions) == ("reference", None)


def test_the_reference_can_be_chosen() -> None:
    with patch.dict(os.environ, LEANSPIKE_BACKEND="reference"), watch_backends() as ran:
        LIF()(X_TN)
        LIF().step(X_TN, None)
    assert (ran.backend, ran.instructions) == ("reference", None)


@built
def test_a_step_is_native_without_gradients_only() -> None:
    neuron = LIF(learn=("leak",))
    with watch_backends() as ran, torch.no_grad():
        neuron.step(X_TN, None)
    assert ran.backend == "native"
    with watch_backends() as ran:
        neuron.step(X_TN, None)
    assert ran.backend == "reference"


@built
@pytest.mark.skipif(native.available_instructions() == ("plain",), reason="dense without vectors")
def test_a_convolution_counts_where_it_is_event_driven() -> None:
    conv = EventConv2d.of(nn.Conv2d(64, 64, 3, padding=1))
    x = torch.zeros(8, 64, 16, 16).to(memory_format=torch.channels_last)
    with watch_backends() as ran:
        conv(x + 1)
    assert ran.backend is None  # PyTorch's
    with watch_backends() as ran:
        conv(x)
    assert ran.backend == "native"


def test_every_watcher_sees_what_runs_while_it_watches() -> None:
    with watch_backends() as outer:
        with watch_backends() as inner:
            LIF()(X_TN.double())
        assert inner.backend == "reference"
        with watch_backends() as nothing:
            pass
    LIF()(X_TN)
    assert (outer.names, nothing.backend) == ({"reference"}, None)


def test_another_thread_is_not_watched() -> None:
    with watch_backends() as ran:
        thread = threading.Thread(target=lambda: LIF()(X_TN))
        thread.start()
        thread.join()
    assert ran.backend is None


def test_an_error_ends_the_watching() -> None:
    with pytest.raises(ZeroDivisionError), watch_backends() as ran:
        raise ZeroDivisionError
    LIF()(X_TN)
    assert ran.backend is None


def test_the_module_of_old_still_watches_and_says_what_replaced_it() -> None:
    said = "leanspike.backend.watch_backends is leanspike.backends.watch_backends now"
    with pytest.warns(FutureWarning, match=said):
        from leanspike.backend import watch_backends as of_old
    assert of_old is watch_backends
    with pytest.raises(ImportError, match="cannot import name 'fast'"):
        from leanspike.backend import fast  # noqa: F401
