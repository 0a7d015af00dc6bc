"""Compiled networks at work: native code and NumPy, streams, whole-number weights, files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import leanspike_runtime
from leanspike import LIF, LeanspikeError, calibrate, spike
from leanspike.engine import compile_engine, compiled, runners
from leanspike.engine.entry import channels_last
from leanspike.engine.explain import met
from leanspike.engine.runners import InNumPy, Native
from leanspike.evaluation import After, Confident, exit_early
from leanspike_runtime import EngineError, Reference
from leanspike_runtime.program import Layer

T = 4


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2)
    )
    net = nn.Sequential(
        *net, nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    net = nn.Sequential(*net, nn.Linear(24 * 4, 16), nn.ReLU(), nn.Linear(16, 5))
    snn = spike(
        net.eval(),
        example_input=torch.zeros(1, 2, 8, 8),
        timesteps=T,
        neuron=LIF(leak=0.9, height="threshold", initial="half"),
    )
    calibrate(snn, torch.rand(64, 2, 8, 8), percentile=99, scale=0.6, statistics="keep")
    return snn


SNN = network()
X = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def not_built(content):  # noqa: ARG001
    raise EngineError("the engine is not built here")


@pytest.fixture(params=["native", "numpy"])
def place(request, monkeypatch):
    """Native code, or the reference where it is not built."""
    if request.param == "numpy":
        monkeypatch.setattr(runners, "Engine", not_built)
    return request.param


@torch.no_grad()
def test_tensors_give_tensors_and_arrays_give_arrays(place):
    engine = compile_engine(SNN)
    assert engine.runs_in.startswith("native" if place == "native" else "NumPy")
    y_TNK = engine(X)
    assert y_TNK.dtype == torch.float32
    torch.testing.assert_close(y_TNK, SNN(X), rtol=1e-4, atol=1e-4)
    assert np.array_equal(engine(X.numpy()), y_TNK.numpy())
    torch.testing.assert_close(engine(X, timesteps=2), y_TNK[:2])
    assert engine(X[:0]).shape == (T, 0, 5)


def test_step_by_step_it_is_the_whole_and_samples_may_leave(place):
    assert place
    for weights in ("f32", "int6"):
        engine = compile_engine(SNN, X, weights=weights)
        whole_TNK, state = engine(X), None
        stay = torch.tensor([True, False, True, True, False, False])
        first_NK, state = engine.step(X, state)
        torch.testing.assert_close(first_NK, whole_TNK[0], rtol=1e-5, atol=1e-5)
        state = state.keep(stay)
        for step in range(1, T):
            y_NK, state = engine.step(X[stay], state)
            torch.testing.assert_close(y_NK, whole_TNK[step, stay], rtol=1e-5, atol=1e-5)
        with pytest.raises(LeanspikeError, match=r"input of "):
            engine.step(X, state)  # of more samples than the state's


def test_a_state_of_native_code_goes_on_once():
    engine = compile_engine(SNN)
    _, first = engine.step(X)
    engine.step(X, first)
    with pytest.raises(LeanspikeError, match="of step 1, but the stream is at step 2; give"):
        engine.step(X, first)


def test_without_native_code_it_is_said_once_that_numpy_computes(monkeypatch):
    monkeypatch.setattr(runners, "Engine", not_built)
    said = []
    monkeypatch.setattr(runners, "say", said.append)
    runners._say_once.cache_clear()
    compile_engine(SNN)
    compile_engine(SNN)
    assert said == ["engine: the engine is not built here; meanwhile NumPy computes, slowly"]


@pytest.mark.parametrize("weights", ["int8", "int6"])
def test_whole_numbers_are_added_exactly_so_native_code_gives_the_reference_bit_for_bit(weights):
    engine = compile_engine(SNN, X, weights=weights)
    kinds = {
        synapse.type
        for node in engine.program.nodes
        if isinstance(node, Layer)
        for synapse in node.synapses
    }
    assert kinds == {"f32", {"int8": "i8", "int6": "i6"}[weights]}  # the first layer's are f32
    first = compile_engine(SNN).program
    x = channels_last(X, 1)
    spikes = {}
    Reference(engine.program).run(x, watch=spikes.__setitem__)
    assert engine.program.nodes[0].neuron is not None
    assert first.nodes[0].synapses[0].type == "f32"
    native = engine(X).numpy()
    reference, _ = Reference(engine.program).run(x)
    assert np.abs(native - reference).max() <= 1e-5 * np.abs(reference).max()


def test_a_file_answers_without_the_network(tmp_path):
    engine = compile_engine(SNN, X, weights="int8", readout="mean")
    file = engine.save(tmp_path / "a.leanspike")
    program = leanspike_runtime.load(file)
    assert program.readout == "mean"
    assert program.made_by.startswith("leanspike ")
    y_TNK, _ = Reference(program).run(channels_last(X, 1))
    torch.testing.assert_close(torch.from_numpy(y_TNK), engine(X), rtol=1e-5, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.leanspike"]
    with pytest.raises(LeanspikeError, match="cannot write"):
        engine.save(file / "inside")


def test_input_that_does_not_fit_is_refused():
    engine = compile_engine(SNN)
    with pytest.raises(LeanspikeError, match=r"input of shape \(6, 8, 8\); expected \[N, 2, 8, 8"):
        engine(X[:, 0])
    with pytest.raises(LeanspikeError, match="normalise the pixels"):
        engine(X.long())
    with pytest.raises(LeanspikeError, match="NaN or infinity; give finite values"):
        engine(X / 0 - X / 0)
    with pytest.raises(LeanspikeError, match="timesteps is 0; give 1 or more"):
        engine(X, timesteps=0)


@torch.no_grad()
def test_more_steps_can_be_asked_for_where_none_differs_from_another(place):
    assert place
    y_TNK = compile_engine(SNN)(X, timesteps=T + 3)
    torch.testing.assert_close(y_TNK, SNN(X, T + 3), rtol=1e-4, atol=1e-4)


def test_explain_counts_what_native_code_counts():
    engine = compile_engine(SNN, X, weights="int8")
    explanation = engine.explain(X)
    work = leanspike_runtime.Engine(leanspike_runtime.to_bytes(engine.program)).work(
        channels_last(X, 1)
    )
    layers = [
        done
        for node, done in zip(engine.program.nodes, work, strict=True)
        if isinstance(node, Layer)
    ]
    for row, done in zip(explanation.layers, layers, strict=True):
        assert row.accumulates * len(X) == pytest.approx(done.accumulates)
        assert row.multiplies * len(X) == pytest.approx(done.multiplies)
        assert (row.events or 0) * len(X) == pytest.approx(done.events)
        assert row.seconds is not None
    assert sum(row.share for row in explanation.layers) == pytest.approx(1)
    assert [row.once for row in explanation.layers] == [True, False, False, False]


def test_weights_met_are_those_of_the_groups():
    program = compile_engine(SNN).program
    (synapse,) = program.nodes[2].synapses
    edge = np.zeros((1, 1, 4, 4, 16), np.uint8)
    edge[0, 0, 1, 1, 3] = edge[0, 0, 0, 0, 4] = 1
    assert met(synapse, edge, dense=False) == 9 * 24 + 4 * 24
    assert met(synapse, edge, dense=True) == 100 * 16 * 24


def test_pixels_are_noted_in_the_file():
    pixels = compiled.Pixels((0.5, 0.5), (0.25, 0.25), tuple("abcde"))
    assert compile_engine(SNN, pixels=pixels).program.input.classes == tuple("abcde")


@pytest.mark.parametrize("runner", [Native, InNumPy])
@pytest.mark.parametrize(
    "rule",
    [Confident("margin", 0.02), Confident("entropy", 0.01), Confident("margin", 0.02, 2), After(2)],
)
def test_samples_leave_as_those_of_the_network(runner, rule, monkeypatch):
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    x = torch.randn(64, 8)
    snn = spike(ann, example_input=x[:1], timesteps=5, neuron=LIF(0.3, leak=0.9)).eval()
    engine = compile_engine(snn)
    monkeypatch.setattr(engine, "_runner", runner(engine.program))
    found, expected = exit_early(engine, x, rule), exit_early(snn, x, rule)
    assert torch.equal(found.steps, expected.steps)
    torch.testing.assert_close(found.logits, expected.logits)
    if isinstance(rule, Confident):
        assert len(found.steps.unique()) > 1


def test_a_single_logit_leaves_by_its_own_margin():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)).eval()
    x = torch.randn(64, 8)
    snn = spike(ann, example_input=x[:1], timesteps=5, neuron=LIF(0.3, leak=0.9)).eval()
    rule = Confident("margin", 0.1)
    found, expected = exit_early(compile_engine(snn), x, rule), exit_early(snn, x, rule)
    assert torch.equal(found.steps, expected.steps)
    assert len(found.steps.unique()) > 1
