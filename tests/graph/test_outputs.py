"""Outputs of any structure: as the network returns them, each with time before the samples."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, is_dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import leanspike as ls
from leanspike.errors import LeanspikeError, SurgeryError
from leanspike.execute.state import State
from leanspike.graph.outputs import opened, tensors

T, N = 3, 4


class Heads(NamedTuple):
    policy: Tensor
    value: Tensor


@dataclass
class Answers:
    logits: Tensor
    features: Any = None


class Network(nn.Module):
    """Two heads after spikes, a static tensor, a constant, and what is no tensor."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.body = nn.Linear(6, 8), nn.Linear(8, 8)
        self.policy, self.value = nn.Linear(8, 3), nn.Linear(8, 1)
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        static = self.stem(x)
        h = torch.relu(self.body(torch.relu(static)))
        return RETURNED[self.kind](self.policy(h), self.value(h), static, self.scale, x)


RETURNED: dict[str, Callable[..., Any]] = {
    "tuple": lambda policy, value, *_: (policy, value),
    "list": lambda policy, value, *_: [policy, value],
    "dict": lambda policy, value, static, *_: {"policy": policy, "value": value, "stem": static},
    "ordered": lambda policy, value, *_: OrderedDict(out=policy, aux=value),
    "named": lambda policy, value, *_: Heads(policy, value),
    "dataclass": lambda policy, value, static, *_: Answers(policy, (value, static)),
    "nested": lambda policy, value, static, scale, _: {
        "heads": [Heads(policy, value), None],
        3: (Answers(policy + value), "words", 2.5),
        "rest": OrderedDict(stem=static, scale=scale * 2, again=policy, none=()),
    },
    "single": lambda policy, *_: [policy],
    "chunks": lambda policy, *_: policy.chunk(3, dim=1),
    "input": lambda *given: (given[0], given[4], (given[4],)),
    "chunks_in_dict": lambda policy, value, *_: {"parts": policy.split(1, dim=1), "v": value},
}


def ann(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return Network(kind).eval()


def network(kind: str, **options: Any) -> ls.SpikingNetwork:
    given = {"timesteps": T, "neuron": ls.LIF(0.1, 0.9), **options}
    return ls.spike(ann(kind), example_input=torch.zeros(2, 6), **given)


def shape_of(value: Any) -> Any:
    """The types of all containers, and what is no tensor."""
    plain, container = opened(value)
    return container, pytree.tree_map_only(Tensor, lambda _: "tensor", plain)


def same(found: Any, expected: Any) -> None:
    assert shape_of(found) == shape_of(expected)
    torch.testing.assert_close(tensors(found), tensors(expected), rtol=1e-4, atol=1e-5)


@pytest.fixture(params=RETURNED)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


X = torch.linspace(-1, 2, N * 6).view(N, 6)


def test_the_structure_is_the_networks_own(kind: str) -> None:
    y = network(kind)(X)
    theirs = ann(kind)(X)
    assert shape_of(y) == shape_of(theirs)
    for ours_TN, theirs_N in zip(tensors(y), tensors(theirs), strict=True):
        assert ours_TN.shape == (T, *theirs_N.shape)


def test_activations_in_the_neurons_place_give_what_the_network_gives(kind: str) -> None:
    y, theirs = network(kind, neuron=nn.ReLU())(X), ann(kind)(X)
    repeated = [each.expand(T, *each.shape) for each in tensors(theirs)]
    torch.testing.assert_close(tensors(y), repeated)


@pytest.mark.parametrize("encode", ["direct", "poisson"])
def test_step_by_step_is_the_whole(kind: str, encode: str) -> None:
    snn = network(kind, encode=encode)
    whole, seen = snn(X), []
    for observer in (None, lambda *event: seen.append(event)):
        state = None
        for t in range(T):
            y, state = snn.step(X, state, observer)
            assert shape_of(y) == shape_of(whole)
            torch.testing.assert_close(tensors(y), [each[t] for each in tensors(whole)])
    assert seen
    same(snn.run(X, observer=lambda *event: seen.append(event)), whole)


def test_a_state_keeps_samples_and_goes_to_disk(kind: str, tmp_path: Any) -> None:
    snn = network(kind)
    samples = torch.tensor([0, 2])
    _, state = snn.step(X)
    state = State.load(state.keep(samples).save(tmp_path / "state"))
    y, _ = snn.step(X[samples], state)
    expected, _ = snn.step(X[samples], snn.step(X[samples])[1])
    same(y, expected)


def test_the_graph_of_one_step_has_them(kind: str) -> None:
    snn = network(kind)
    one, states = snn.plan.per_step(), [None] * 2
    for t in range(T):
        y, states = one.module(X, t, *states)
        assert shape_of(y) == shape_of(ann(kind)(X))
        torch.testing.assert_close(tensors(y), [each[t] for each in tensors(snn(X))])


def test_copies_and_pickles_have_them(kind: str) -> None:
    snn = network(kind)
    for other in (deepcopy(snn), pickle.loads(pickle.dumps(snn)), snn.replanned(snn.plan.copied())):
        same(other(X), snn(X))
        same(other.step(X)[0], snn.step(X)[0])


def test_they_are_compiled_whole(kind: str) -> None:
    snn = network(kind)
    torch._dynamo.reset()
    compiled = torch.compile(snn, fullgraph=True, backend="eager")
    same(compiled(X), snn(X))


@pytest.mark.parametrize("kind", ["tuple", "dict", "ordered", "named", "chunks_in_dict"])
def test_they_are_exported(kind: str) -> None:
    snn = network(kind)
    same(torch.export.export(snn, (X,)).module()(X), snn(X))


def test_a_readout_reads_each_of_them(kind: str) -> None:
    y = network(kind)(X)
    answers = ls.readout(y, "sum")
    assert shape_of(answers) == shape_of(y)
    torch.testing.assert_close(tensors(answers), [each.cumsum(0) for each in tensors(y)])


@torch.no_grad()
def test_calibration_compares_all_that_neurons_reach() -> None:
    images = torch.rand(64, 6)
    snn = network("nested", neuron=ls.LIF(height="threshold"))
    found = ls.calibrate(snn, images)
    ours, theirs = ls.readout(snn(images), "sum"), ann("nested")(images)
    policy, value = (ours["heads"][0].policy[-1], ours["heads"][0].value[-1])
    expected = theirs["heads"][0]
    alike = [
        (policy.argmax(1) == expected.policy.argmax(1)).double().mean(),
        ((value > 0) == (expected.value > 0)).double().mean(),
        (ours[3][0].logits[-1].argmax(1) == theirs[3][0].logits.argmax(1)).double().mean(),
    ]
    assert found.agreement == pytest.approx(torch.stack(alike).mean().item())
    assert 0 < found.agreement < 1


def test_gradients_reach_what_any_of_them_needs() -> None:
    snn = network("dict").train()
    y = snn(X)
    (y["policy"].sum() + y["value"].sum() + y["stem"].sum()).backward()
    assert all(p.grad is not None for n, p in snn.named_parameters() if n.endswith("weight"))


# -- what one tensor is needed for -----------------------------------------------------------------


def test_answers_are_chosen_before_the_surgery() -> None:
    batches = [(X, torch.tensor([0, 1, 2, 0]))]
    snn, chosen = network("dict"), ls.Answer(ann("dict"), "policy")
    answering = ls.spike(chosen, example_input=X[:1], timesteps=T, neuron=ls.LIF(0.1, 0.9))
    assert ls.evaluate(answering, batches, ann=chosen).n == 4
    same(answering(X), snn(X)["policy"])
    answering.load_ann(chosen.state_dict())
    with pytest.raises(LeanspikeError, match=r"has no 'logits'; give one of .*: 'policy', 'value'"):
        ls.Answer(ann("dict"), "logits")(X)


def test_what_needs_one_tensor_says_how_to_choose_it() -> None:
    batches = [(X, torch.tensor([0, 1, 2, 0]))]
    for several in (network("dict"), ann("dict")):
        with pytest.raises(LeanspikeError, match=r"in a dict; .*Answer\(ann, 'logits'\)"):
            ls.evaluation.accuracy(several, batches)
    chosen = ls.Answer(ann("dict"), "policy")
    assert len(ls.evaluation.accuracy(chosen, batches)) == 1
    assert len(ls.evaluation.accuracy(ls.spike(chosen, example_input=X, timesteps=T), batches)) == T


@pytest.mark.parametrize(
    ("kind", "path"),
    [("tuple", (0,)), ("named", ("policy",)), ("dataclass", ("features", 0)), ("dict", ("stem",))],
)
def test_any_output_may_be_the_answer(kind: str, path: tuple[Any, ...]) -> None:
    found = ls.Answer(ann(kind), *path)(X)
    expected = ann(kind)(X)
    for key in path:
        whole = not isinstance(expected, dict | tuple) or hasattr(expected, "_fields")
        expected = getattr(expected, key) if whole else expected[key]
    assert torch.equal(found, expected)


# -- what is refused -------------------------------------------------------------------------------


class Odd:
    pass


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "object": (lambda y: (y, Odd()), "the network returns a Odd; return tensors, alone or in"),
    "size": (lambda y: (y, y.shape[0]), "getitem in the network itself: .* it is no tensor; leave"),
    "shape": (lambda y: {"y": y, "of": y.shape}, "getattr in .* it is no tensor; leave it out"),
    "nothing": (lambda _: (None, 3), "the network returns no tensor; let its forward return one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_returned_is_named(case: str) -> None:
    returned, message = REFUSED[case]

    class Refused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Any:
            return returned(self.b(torch.relu(self.a(x))))

    with pytest.raises(SurgeryError, match=message):
        ls.spike(Refused().eval(), example_input=torch.zeros(1, 6))


def test_a_dataclass_is_made_anew() -> None:
    y = network("dataclass")(X)
    assert is_dataclass(y)
    assert isinstance(y, Answers)
