"""Laws that hold for every neuron that is registered, in each of its ways.

A new neuron falls under all of them when it is registered. Shapes: T timesteps, N samples.
"""

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from leanspike.neuron import Calibrated, Neuron, create_neuron, name_of, neurons

T, N, C, SIDE = 6, 4, 3, 5
SHAPE = torch.Size((C, SIDE, SIDE))


def ways(name):
    """The defaults, and each option that has several values with each of them."""
    found = [{}]
    for option, field in neurons.config(name).model_json_schema()["properties"].items():
        found += [{option: value} for value in field.get("enum", ()) if value != field["default"]]
    return [*found, {"leak": 0.75}, {"height": "threshold", "initial": "half", "leak": 0.5}]


CASES = [(name, way) for name in sorted(neurons.registered) for way in ways(name)]
every_neuron = pytest.mark.parametrize(
    ("name", "way"), CASES, ids=lambda part: str(part) if part else "defaults"
)


def make(name, way, threshold=0.6):
    """At its place, its threshold low enough to fire."""
    neuron = create_neuron(name, {"threshold": threshold, **way})
    neuron.sized(SHAPE)
    return neuron


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.4 + torch.randn(*shape, *SHAPE, generator=generator)


def step_by_step(neuron, x_TN, state=None):
    outputs = []
    for x_N in x_TN:
        o_N, state = neuron.step(x_N, state)
        outputs.append(o_N)
    return torch.stack(outputs), state


def test_there_are_neurons():
    assert {"lif", "cuba_lif", "adaptive_lif"} <= {name for name, _ in CASES}
    assert ("lif", {"per": "channel"}) in CASES


@every_neuron
def test_it_fires_and_is_silent(name, way):
    """Else the laws below would hold of a neuron that does nothing."""
    o_TN = make(name, way)(draw(T, N))
    assert 0.05 < (o_TN != 0).float().mean() < 0.95


@every_neuron
def test_the_whole_sequence_is_step_by_step_bit_for_bit(name, way):
    for dtype in (torch.float32, torch.float64):
        neuron, x_TN = make(name, way).to(dtype), draw(T, N).to(dtype)
        o_TN = neuron(x_TN)
        assert torch.equal(step_by_step(neuron, x_TN)[0], o_TN)
        with torch.no_grad():
            assert torch.equal(step_by_step(neuron, x_TN)[0], o_TN)
        assert torch.equal(step_by_step(neuron, x_TN, neuron.initial(x_TN[0]))[0], o_TN)


@every_neuron
def test_the_same_input_at_each_step_may_be_one_in_memory(name, way):
    neuron, x_N = make(name, way), draw(N)
    still = x_N.expand(T, *x_N.shape)
    assert torch.equal(neuron(still), neuron(still.contiguous()))


@every_neuron
def test_the_same_call_gives_the_same_bits_and_leaves_nothing_behind(name, way):
    neuron, x_TN = make(name, way), draw(T, N)
    before = {key: value.clone() for key, value in neuron.state_dict().items()}
    o_TN = neuron(x_TN.clone())
    neuron(2 * x_TN[:, :1])
    neuron.step(x_TN[0, :2], None)
    assert torch.equal(neuron(x_TN), o_TN)
    assert before.keys() == neuron.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in neuron.state_dict().items())


@every_neuron
def test_samples_do_not_influence_each_other_nor_later_steps_earlier_ones(name, way):
    neuron, x_TN = make(name, way), draw(T, N)
    o_TN = neuron(x_TN)
    for samples in ([2, 1, 0], [1], [0, 0, 2, 1, 1]):
        assert torch.equal(neuron(x_TN[:, samples]), o_TN[:, samples])
    later = x_TN.clone()
    later[-1] = 5
    assert torch.equal(neuron(later)[:-1], o_TN[:-1])


@every_neuron
def test_the_state_is_of_samples_that_can_be_dropped(name, way):
    neuron, x_TN = make(name, way), draw(T, N)
    o_TN, kept = neuron(x_TN), torch.tensor([False, True, True, False])
    _, state = neuron.step(x_TN[0], None)
    leaves = tree_leaves(state)
    assert leaves
    assert all(isinstance(leaf, torch.Tensor) and leaf.shape == x_TN[0].shape for leaf in leaves)
    given = [leaf.clone() for leaf in leaves]
    rest = tree_map(lambda leaf: leaf[kept], state)
    assert torch.equal(step_by_step(neuron, x_TN[1:, kept], rest)[0], o_TN[1:, kept])
    assert all(map(torch.equal, leaves, given))  # what was given is left as it is


@every_neuron
def test_the_initial_state_is_like_the_later_ones(name, way):
    neuron, x_TN = make(name, way), draw(T, N)
    start, (_, later) = neuron.initial(x_TN[0]), neuron.step(x_TN[0], None)
    shapes = [tree_map(lambda leaf: (leaf.shape, leaf.dtype), s) for s in (start, later)]
    assert shapes[0] == shapes[1]


@every_neuron
def test_every_output_that_is_not_0_is_a_spike_of_the_height_declared(name, way):
    neuron = make(name, way)
    if isinstance(neuron, Calibrated) and "per" in way:
        with torch.no_grad():
            scale = neuron.scale()
            scale.copy_(torch.linspace(0.5, 0.7, scale.numel()).view(scale.shape))
    o_TN, height = neuron(draw(T, N)), neuron.spike_height()
    assert (neuron.emits == "graded") == (height is None)
    if height is not None:
        fired = o_TN != 0
        assert torch.equal(o_TN[fired], height.expand(o_TN.shape)[fired])


@every_neuron
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_are_float32_whatever_the_input_and_autocast(name, way, dtype):
    neuron, x_TN = make(name, way), draw(T, N).to(dtype)
    o_TN, found = neuron(x_TN), []
    assert o_TN.dtype == dtype
    assert torch.equal(o_TN, neuron(x_TN.float()).to(dtype))
    for context in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        with context:
            assert torch.equal(neuron(x_TN), o_TN)
            steps, state = step_by_step(neuron, x_TN)
        assert torch.equal(steps, o_TN)
        found += [leaf.dtype for leaf in tree_leaves(state)]
    assert set(found) == {torch.float32}


@every_neuron
def test_layouts_are_kept(name, way):
    neuron, x_TN = make(name, way), draw(T, N)
    folded = x_TN.flatten(0, 1).to(memory_format=torch.channels_last)
    o_TN = neuron(folded.view(x_TN.shape))
    assert torch.equal(o_TN, neuron(x_TN))
    if way.get("per") == "neuron":
        return  # whose parameters have a layout of their own
    assert o_TN.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


# -- learning ----------------------------------------------------------------------------------


def learnable(name):
    return neurons.config(name)().learn


@every_neuron
def test_gradients_flow_to_the_input_and_to_what_is_learnt_alone(name, way):
    leaky = {"leak": 0.9, **way}
    for learn in [(), *[(one,) for one in learnable(name)], learnable(name)]:
        neuron = make(name, {**leaky, "learn": learn}).double()
        x_TN = draw(T, N).double().requires_grad_()
        neuron(x_TN).square().sum().backward()
        assert x_TN.grad.abs().sum() > 0
        assert x_TN.grad.isfinite().all()
        for parameter, value in neuron.named_parameters():
            if parameter in learn:
                assert value.grad.isfinite().all(), parameter
                assert value.grad.abs().sum() > 0, parameter
                assert value.grad.shape == value.shape
            else:
                assert value.grad is None, parameter


@every_neuron
def test_gradients_are_those_of_the_steps(name, way):
    found = []
    for run in (lambda neuron, x: neuron(x), lambda neuron, x: step_by_step(neuron, x)[0]):
        neuron = make(name, {"leak": 0.9, **way, "learn": learnable(name)}).double()
        x_TN = draw(T, N).double().requires_grad_()
        (run(neuron, x_TN) * draw(T, N, seed=1)).sum().backward()
        found.append([x_TN.grad, *[value.grad for value in neuron.parameters()]])
    for whole, steps in zip(*found, strict=True):
        torch.testing.assert_close(whole, steps)


@every_neuron
def test_what_training_pushed_out_of_range_is_put_back(name, way):
    neuron = make(name, way).double()
    for push in (-10.0, 10.0):
        with torch.no_grad():
            for value in neuron.parameters():
                value.add_(push)
        neuron.keep_in_range()
        assert neuron(draw(T, N).double()).isfinite().all()
        options = {key: value.flatten()[0].item() for key, value in neuron.named_parameters()}
        create_neuron(name, {**neuron.options, **options})  # refuses what is out of range


# -- what it says of itself -----------------------------------------------------------------------


@every_neuron
def test_it_is_built_again_from_its_options_and_parameters(name, way):
    neuron, x_TN = make(name, way), draw(T, N)
    assert name_of(neuron) == name
    other = create_neuron(name, neuron.options)
    other.sized(SHAPE)
    other.load_state_dict(neuron.state_dict())
    assert torch.equal(other(x_TN), neuron(x_TN))
    assert other.options == neuron.options
    learnt = [[p.requires_grad for p in both.parameters()] for both in (neuron, other)]
    assert learnt[0] == learnt[1]


@every_neuron
def test_its_readings_can_be_shown(name, way):
    for reading, value in make(name, way).readings().items():
        assert reading.replace("_", "").isalpha()
        assert not value.requires_grad
        assert value.ndim == 0 or value.expand(SHAPE).shape == SHAPE


@every_neuron
def test_its_scale_can_be_calibrated_or_it_does_not_say_so(name, way):
    neuron = make(name, way)
    if not isinstance(neuron, Calibrated):
        return
    neuron.set_scale(0.25)
    assert set(neuron.scale().flatten().tolist()) == {0.25}
    height = neuron.spike_height()
    assert neuron.keeps_scale() == (height is neuron.scale())
    x = torch.tensor([-1.0, 0.0, 2.0])
    assert torch.equal(neuron.as_activation(x), torch.relu(x))
    before = {key: value.clone() for key, value in neuron.state_dict().items()}
    with neuron.while_measured():
        neuron.set_scale(0.5)
    after = neuron.state_dict()
    assert (neuron.scale() == 0.5).all()
    assert all(torch.equal(after[key], before[key]) for key in before if key != "threshold")


class Arithmetic(TorchDispatchMode):
    """Counts the multiplications of all neurons by numbers other than 0 and 1, and the additions.

    An addition of such a product belongs to it. What only a spike changes, and what compares a
    membrane with its threshold, is no work that is counted.
    """

    def __init__(self):
        super().__init__()
        self.products, self.of_spikes = [], []
        self.macs, self.additions = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        op = str(func).split(".")[1]
        each = isinstance(found, torch.Tensor) and found.shape == (N, *SHAPE)
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if each and len(tensors) == 2 and any(map(self.sparse, tensors)):
            self.of_spikes += [found] if op == "mul" else []
        elif each and len(tensors) == 2:
            if op == "mul" and not any(self.is_one(tensor) for tensor in tensors):
                self.macs += 1
                self.products.append(found)
            elif op in ("add", "sub"):
                taken = any(tensor is product for tensor in tensors for product in self.products)
                self.additions += not taken
        return found

    def sparse(self, tensor):
        """Spikes, or numbers that only a spike adds."""
        found = any(tensor is product for product in self.of_spikes)
        return found or (tensor.ndim > 3 and len(tensor.unique()) <= 2)

    @staticmethod
    def is_one(tensor):
        return tensor.ndim <= 3 and bool((tensor == 1).all())


@every_neuron
def test_a_step_costs_the_arithmetic_that_it_takes(name, way):
    neuron = make(name, way).double()
    _, state = step_by_step(neuron, draw(T, N).double())
    with Arithmetic() as counted:
        neuron.step(draw(N, seed=2).double(), state)
    cost = neuron.update_cost()
    assert (cost.macs, cost.acs) == (counted.macs, counted.additions)
    assert cost.macs + cost.acs > 0


@pytest.mark.parametrize(
    ("name", "options", "macs", "acs"),
    [
        ("lif", {}, 0, 1),  # u + x
        ("lif", {"leak": 0.5}, 1, 0),  # λ·u + x
        ("cuba_lif", {}, 1, 2),  # x + α·(i − x), u + i
        ("cuba_lif", {"leak": 0.5}, 2, 1),
        ("cuba_lif", {"synapse_leak": 0.0}, 0, 1),
        ("adaptive_lif", {}, 2, 1),  # v + v·β·b, ρ·b, u + x
        ("adaptive_lif", {"leak": 0.5}, 3, 0),
        ("adaptive_lif", {"adaptation": 0.0}, 0, 1),
    ],
)
def test_costs_by_hand(name, options, macs, acs):
    cost = create_neuron(name, options).update_cost()
    assert (cost.macs, cost.acs) == (macs, acs)


def test_the_cost_of_a_layer_is_the_mean_of_its_channels():
    neuron = make("lif", {"per": "channel"})
    with torch.no_grad():
        neuron.leak[0] = 0.5
    cost = neuron.update_cost()
    assert cost.macs == pytest.approx(1 / C)
    assert cost.acs == pytest.approx(1 - 1 / C)


def test_a_neuron_is_abstract_or_registered():
    def below(kind):
        for sub in kind.__subclasses__():
            yield sub
            yield from below(sub)

    ours = {kind for kind in below(Neuron) if kind.__module__.startswith("leanspike.")}
    concrete = {kind for kind in ours if not kind.__abstractmethods__}
    assert concrete == {neurons.find(name) for name in neurons.registered}
