"""A backend that is added from outside the package."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.backends import (
    Backend,
    LIFCall,
    NeuronCall,
    backends,
    choose,
    use_backend,
    watch_backends,
)
from leanspike.errors import LeanspikeError

IMAGES = [(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 2)]


def network():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    return ls.spike(ann, example_input=torch.zeros(1, 3), neuron=ls.LIF(0.3, 0.9))


class Ours(Backend):
    """Whole sequences of LIF neurons, by the equation written another time; steps are others'."""

    def serves(self, call):
        return isinstance(call, LIFCall) and call.dynamics.reset == "soft"

    def run(self, call):
        u, spikes = torch.zeros_like(call.x_TN[0]), []
        for x in call.x_TN:
            u = call.leak * u + x
            spikes.append((u / call.threshold > 1).to(x.dtype))
            u = u - call.threshold * spikes[-1]
        return torch.stack(spikes)


@pytest.fixture
def ours():
    backends.register("ours")(Ours)
    yield
    backends.unregister("ours")


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    for name in ("LEANSPIKE_BACKEND", "LEANSPIKE_KERNEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("ours")
def test_it_computes_and_results_name_it(monkeypatch):
    snn = network()
    with use_backend("reference"):
        expected = ls.evaluate(snn, IMAGES)
    assert expected.provenance.backend == "reference"
    with use_backend("ours"):
        by_python = ls.evaluate(snn, IMAGES)
    monkeypatch.setenv("LEANSPIKE_BACKEND", "ours")
    by_environment = ls.evaluate(snn, IMAGES)
    for found in (by_python, by_environment):
        assert found.provenance.backend == "ours"
        assert found.provenance.instructions is None
        assert found.accuracy == expected.accuracy
        assert found.neurons == expected.neurons  # spikes of each step among them


@pytest.mark.usefixtures("ours")
def test_what_it_does_not_serve_is_the_references():
    neuron, x_TN = ls.LIF(0.3, 0.9, reset="hard"), torch.rand(3, 4)
    with use_backend("reference"):
        expected = neuron(x_TN)
    with use_backend("ours"):
        assert torch.equal(neuron(x_TN), expected)
        neuron.step(x_TN[0], None)


@pytest.mark.usefixtures("ours")
def test_another_of_the_same_name_is_refused():
    with pytest.raises(LeanspikeError, match=r"^backend 'ours' is already .*Ours; register "):

        @backends.register("ours")
        class Another(Ours):
            pass


def test_nothing_of_it_is_left_once_it_is_taken_out():
    backends.register("ours")(Ours)
    backends.unregister("ours")
    assert "ours" not in backends.names()
    assert type(choose(LIFCall(torch.zeros(2, 3), *torch.ones(2), ls.LIF().dynamics))) is not Ours
    with pytest.raises(LeanspikeError, match=r"^backend is 'ours'; choose one of auto, "):
        use_backend("ours").__enter__()
    with pytest.raises(LeanspikeError, match=r"^backend is 'ours'; choose one of "):
        backends.unregister("ours")


@dataclass(frozen=True, eq=False)
class DoubleCall(NeuronCall):
    """A kind of work that leanspike does not know."""

    x: torch.Tensor

    def reference(self):
        return 2 * self.x


class Doubler(Backend):
    def serves(self, call):
        return isinstance(call, DoubleCall) and call.x.dtype == torch.float32

    def run(self, call):
        return call.x + call.x


def test_a_kind_of_call_is_the_references_where_no_backend_knows_it():
    backends.register("doubler")(Doubler)
    try:
        with watch_backends() as ran:
            found = [DoubleCall(torch.ones(2)), DoubleCall(torch.ones(2).double())]
            found = [choose(call).run(call) for call in found]
    finally:
        backends.unregister("doubler")
    assert [y.tolist() for y in found] == [[2.0, 2.0]] * 2
    assert ran.backend == "doubler, reference"


PACKAGE = """
import torch
from leanspike.backends import Backend, LIFCall

class Theirs(Backend):
    def serves(self, call):
        return isinstance(call, LIFCall)

    def run(self, call):
        print("theirs")
        return call.reference()
"""
CHOSEN = """
import sys, torch
import leanspike as ls
from leanspike.backends import backends, watch_backends
assert "theirs" not in sys.modules and "theirs" in backends.names()
with watch_backends() as ran:
    ls.LIF()(torch.zeros(2, 3, dtype=torch.float64))
print(ran.backend, "theirs" in sys.modules)
"""


@pytest.fixture
def installed(tmp_path):
    """A package that brings a backend by an entry point, and one that is broken."""
    (tmp_path / "theirs.py").write_text(PACKAGE)
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[leanspike.backends]\ntheirs = theirs:Theirs\nbroken = theirs:Missing\n"
    )

    def run(**chosen):
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path} | chosen
        return subprocess.run(
            [sys.executable, "-c", CHOSEN], env=environment, capture_output=True, text=True
        )

    return run


def test_an_installed_one_is_imported_where_it_is_chosen(installed):
    done = installed(LEANSPIKE_BACKEND="theirs")
    assert done.stdout.split() == ["theirs", "theirs", "True"], done.stderr
    done = installed()
    assert done.stdout.split() == ["reference", "False"], done.stderr


def test_an_installed_one_that_cannot_be_imported_is_named(installed):
    done = installed(LEANSPIKE_BACKEND="broken")
    last = done.stderr.splitlines()[-1]
    assert "backend 'broken' of the package their-package cannot be imported" in last
    assert last.endswith("mend or remove the package")
