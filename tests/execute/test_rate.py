"""Rate gradients of whole networks: exact where they must be, flat over T, or refused.

Shapes: T timesteps, N samples.
"""

from copy import deepcopy
from itertools import cycle
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from leanspike import LIF, SpikingNetwork, spike
from leanspike.execute.rate import RateExecution, Timed
from leanspike.neuron import Neuron, create_neuron
from networks import USERS, draw
from spiking_networks import NEURONS, N, T, spiking

TAKING_TURNS = list(zip(USERS, cycle(NEURONS), strict=False))
taking_turns = pytest.mark.parametrize(("name", "neuron"), TAKING_TURNS)


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def gradients(
    snn: SpikingNetwork, x: Tensor, timesteps: int, gradient: Any
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, gradients, and buffers after it, of a copy; the same random numbers each time."""
    copy, steps = deepcopy(snn), None if snn.plan.encoder.batch_axis else timesteps
    torch.manual_seed(0)
    y_TNK = copy(x.clone(), steps, gradient=gradient)
    answers = y_TNK.sum(0).flatten(1)
    (answers.softmax(-1)[:, 0].sum() + answers.square().mean() / 9).backward()
    found = {name: p.grad for name, p in copy.named_parameters() if p.grad is not None}
    return y_TNK.detach(), found, dict(copy.named_buffers())


# -- exact where it must be -----------------------------------------------------------------------


@taking_turns
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("encode", "norm"), [("direct", "keep"), ("frames", "keep"), ("frames", "bntt")]
)
def test_of_one_step_it_is_backpropagation(
    name: str, neuron: str, training: bool, encode: str, norm: str
) -> None:
    if norm == "bntt" and name not in ("same_block_twice", "padded_shortcut", "vector"):
        return  # time reaches no batch norm of it
    snn = spiking(name, neuron, encode, norm).train(training)
    x = draw(name, *((1, N) if encode == "frames" else (N,))).double()
    _, expected, _ = gradients(snn, x, 1, "bptt")
    _, found, _ = gradients(snn, x, 1, "rate")
    assert expected.keys() <= found.keys()
    assert any(g.abs().max() > 1e-6 for g in expected.values())
    for path, gradient in found.items():
        same(gradient, expected.get(path, torch.zeros_like(gradient)))


@taking_turns
@pytest.mark.parametrize("encode", ["direct", "frames"])
def test_outputs_and_statistics_are_the_same_bits(name: str, neuron: str, encode: str) -> None:
    snn = spiking(name, neuron, encode).train()
    x = draw(name, *((T, N) if encode == "frames" else (N,))).double()
    y_TNK, _, buffers = gradients(snn, x, T, "bptt")
    found_TNK, _, found = gradients(snn, x, T, "rate")
    assert torch.equal(found_TNK, y_TNK)
    assert all(torch.equal(found[path], buffer) for path, buffer in buffers.items())


def shallow(neuron: Neuron, encode: str = "direct") -> SpikingNetwork:
    """One layer of neurons between weights, with a norm before time begins."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    )
    example = torch.zeros(*((1, 1) if encode == "frames" else (1,)), 2, 6, 6)
    return spike(ann, example_input=example, encode=encode, neuron=neuron).double().train()


@pytest.mark.parametrize("name", ["lif", "cuba_lif", "adaptive_lif"])
@pytest.mark.parametrize("timesteps", [2, 7])
def test_of_one_layer_and_a_constant_image_it_is_backpropagation_through_time(
    name: str, timesteps: int
) -> None:
    """There the gradient is the same at each step, and so nothing is left out by the means."""
    neuron = create_neuron(name, {"threshold": 0.7, "leak": 0.8, "height": "threshold"})
    snn, x = shallow(neuron), torch.randn(N, 2, 6, 6).double()
    _, expected, _ = gradients(snn, x, timesteps, "bptt")
    _, found, _ = gradients(snn, x, timesteps, "rate")
    assert {"2.threshold", "2.leak", "0.weight", "1.weight", "5.weight"} <= expected.keys()
    assert expected["2.leak"].abs() > 1e-6
    same(found, expected)


def test_two_layers_by_the_formulas() -> None:
    """δ_l = J_l·(W_{l+1}ᵀ·δ_{l+1}), ∂L/∂W_l = δ_l·mean(a·o_{l−1})ᵀ, J = ∂mean(a·o)/∂h̄."""
    torch.manual_seed(1)
    layers = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)
    neuron = LIF(0.4, 0.9, learn=("leak", "threshold"))
    snn = spike(nn.Sequential(*layers), example_input=torch.zeros(1, 4), neuron=neuron).double()
    x = 2 * torch.rand(N, 4).double()

    def mean_and_slopes(
        layer: nn.Module, h_TN: Tensor, share_T: Tensor
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """The mean output by shares, its derivatives, in reverse through all steps; the spikes."""
        shift = torch.zeros_like(h_TN[0], requires_grad=True)
        o_TN = layer(h_TN + shift)
        o_N = (share_T.view(T, 1, 1) * o_TN).mean(0)
        slopes = [torch.autograd.grad(o_N.sum(), shift, retain_graph=True)[0]]
        for p in (layer.leak, layer.threshold):
            each = [torch.autograd.grad(o, p, retain_graph=True)[0] for o in o_N.flatten()]
            slopes.append(torch.stack(each).view(h_TN[0].shape))
        return o_N.detach(), slopes, o_TN.detach()

    first, second = snn.get_submodule("1"), snn.get_submodule("3")
    w = [snn.get_submodule(str(i)) for i in (0, 2, 4)]
    with torch.no_grad():
        h1_TN = w[0](x).expand(T, N, 5)
    # Of the first neurons' output at a step the second ones keep λ at the next, λ² then ...
    kept = second.get_parameter("leak").item()
    heard = torch.tensor(
        [sum(kept**j for j in range(T - t)) for t in range(T)], dtype=torch.float64
    )
    rate1, slopes1, o1_TN = mean_and_slopes(first, h1_TN, heard / heard.mean())
    with torch.no_grad():
        h2_TN = w[1](o1_TN)
    rate2, slopes2, _ = mean_and_slopes(second, h2_TN, torch.ones(T).double())
    g = torch.randn(N, 3).double()  # ∂L/∂(mean output)
    back2 = g @ w[2].weight
    back1 = (back2 * slopes2[0]) @ w[1].weight
    expected = {
        "4.weight": g.T @ rate2,
        "2.weight": (back2 * slopes2[0]).T @ rate1,
        "0.weight": (back1 * slopes1[0]).T @ x,
        "3.leak": (back2 * slopes2[1]).sum(),
        "3.threshold": (back2 * slopes2[2]).sum(),
        "1.leak": (back1 * slopes1[1]).sum(),
        "1.threshold": (back1 * slopes1[2]).sum(),
    }
    (snn(x, T, gradient="rate").mean(0) * g).sum().backward()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-4, name
        same(snn.get_parameter(name).grad, gradient.detach())


def test_products_of_signals_are_differentiated_at_their_means() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 6), nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.left(x)) * torch.relu(self.right(x))

    torch.manual_seed(0)
    snn = spike(Product(), example_input=torch.zeros(1, 4), neuron=LIF(0.3)).double()
    x, seen = 2 * torch.rand(N, 4).double(), []
    for _, layer in snn.neurons():
        layer.register_forward_hook(lambda _module, _args, o_TN: seen.append(o_TN))
    y_TNK = snn(x, T, gradient="rate")
    o, other = seen
    assert torch.equal(y_TNK, o * other)
    found = torch.autograd.grad(y_TNK.mean(0).sum(), o, allow_unused=True)
    assert found == (None,)  # what hooks see is a reading: the gradient goes through means
    slopes = [snn.get_submodule(path).rates for path, _ in snn.neurons()]
    with torch.no_grad():
        slope = slopes[0](snn.get_submodule("left")(x).expand(T, N, 6), ()).by_input
    y_TNK.mean(0).sum().backward()
    expected = (slope * other.mean(0)).T @ x
    assert expected.abs().max() > 1e-3
    same(snn.get_parameter("left.weight").grad, expected)


class Held(RateExecution):
    """Holds each mean that carries a gradient to the mean of its steps."""

    def run_node(self, n: Any) -> Any:
        value = super().run_node(n)
        if isinstance(value, Timed):
            pairs = zip(tree_leaves(value.steps), tree_leaves(value.mean), strict=True)
            for steps, mean in pairs:
                if isinstance(mean, Tensor) and mean.is_floating_point():
                    stacked = steps.shape[0] != self.timesteps or steps.dim() == mean.dim()
                    steps_TN = steps.unflatten(0, (self.timesteps, -1)) if stacked else steps
                    torch.testing.assert_close(steps_TN.mean(0), mean, rtol=1e-9, atol=1e-9)
                    held.append(n)
        return value


held: list[Any] = []


@taking_turns
@pytest.mark.parametrize("encode", ["direct", "frames"])
def test_the_mean_at_each_operation_is_the_mean_of_its_steps(
    name: str, neuron: str, encode: str
) -> None:
    snn = spiking(name, neuron, encode).train()
    x = draw(name, *((T, N) if encode == "frames" else (N,))).double()
    held.clear()
    sequence, steps = snn.plan.encoder.sequence(x, T, training=True)
    Held(snn, snn.plan).begin(sequence, steps)
    assert len(held) > 3


def test_it_points_where_backpropagation_through_time_does() -> None:
    """Of networks with several layers it is an approximation, and not a bad one."""
    for norm in ("keep", "bntt"):
        snn = spiking("padded_shortcut", "papers", "frames", norm).train()
        x = draw("padded_shortcut", T, 16).double()
        flat = []
        for gradient in ("bptt", "rate"):
            _, found, _ = gradients(snn, x, T, gradient)
            flat.append(torch.cat([found[path].flatten() for path in sorted(found)]))
        assert torch.cosine_similarity(*flat, dim=0) > 0.85


# -- what it keeps --------------------------------------------------------------------------------


def deep(layers: int) -> SpikingNetwork:
    torch.manual_seed(0)
    block = [
        part
        for _ in range(layers)
        for part in (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    ]
    ann = nn.Sequential(*block, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 3))
    return spike(ann, example_input=torch.zeros(1, 4, 8, 8), norm="keep").train()


def kept_bytes(snn: SpikingNetwork, timesteps: int, gradient: Any) -> int:
    """Bytes of all memory that the backward pass holds on to, but for parameters."""
    own = {p.untyped_storage().data_ptr() for p in snn.parameters()}
    found: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y_TNK = snn(torch.ones(N, 4, 8, 8), timesteps, gradient=gradient)
    assert y_TNK.requires_grad
    return sum(storage.nbytes() for storage in found.values())


def test_what_is_kept_for_the_backward_pass_is_flat_over_time() -> None:
    snn = deep(4)
    rate = [kept_bytes(snn, timesteps, "rate") for timesteps in (1, 4, 16, 32)]
    assert len(set(rate)) == 1
    bptt = [kept_bytes(snn, timesteps, "bptt") for timesteps in (4, 16)]
    assert bptt[1] > 3 * bptt[0] > 3 * rate[0]


class Live(TorchDispatchMode):
    """The most bytes of tensors' memory that were alive together."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: WeakSet[Any] = WeakSet()
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self.storages.add(leaf.untyped_storage())
        alive = {s.data_ptr(): s.nbytes() for s in self.storages}
        self.peak = max(self.peak, sum(alive.values()))
        return found


def peak_bytes(layers: int, timesteps: int, gradient: Any) -> int:
    snn, live = deep(layers), Live()
    with live:
        y_TNK = snn(torch.ones(N, 4, 8, 8), timesteps, gradient=gradient)
    assert y_TNK.requires_grad
    return live.peak


def test_layers_more_add_to_the_peak_what_one_step_would() -> None:
    """The steps of a layer are gone when the next has read them."""
    long = peak_bytes(8, 32, "rate") - peak_bytes(4, 32, "rate")
    short = peak_bytes(8, 2, "rate") - peak_bytes(4, 2, "rate")
    assert 0 < long < 1.5 * short
    assert peak_bytes(8, 32, "bptt") - peak_bytes(4, 32, "bptt") > 8 * short
