"""At which steps gradients arrive, and what max pools make of means, against autograd.

Shapes: T timesteps, N samples.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from leanspike import LIF, SpikingNetwork, spike
from leanspike.execute.arrival import arrivals
from leanspike.execute.rate_pools import largest, windows_of
from leanspike.execute.timed import Timed
from leanspike.neuron import CurrentLIF, Neuron, create_neuron
from leanspike.neuron.protocol import Cost
from leanspike.temporal import stack

T, N = 4, 3


def by_path(snn: SpikingNetwork, timesteps: int = T) -> dict[str, list[float]]:
    """The shares at the output of each neuron module."""
    found = arrivals(snn.plan.graph, snn, timesteps)
    paths = {path for path, _ in snn.neurons()}
    return {
        str(node.target): found[node.name].tolist()
        for node in snn.plan.graph.nodes
        if node.target in paths
    }


def chain(*neurons: Neuron) -> SpikingNetwork:
    """Linear layers with these neurons between them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in neurons:
        layers += [nn.Linear(4, 4), nn.ReLU()]
    made = iter(neurons)
    ann = nn.Sequential(*layers, nn.Linear(4, 2))
    return spike(ann, example_input=torch.zeros(1, 4), neuron=lambda *_: next(made))


def gradient_of_input(neuron: Neuron, share_T: Tensor) -> Tensor:
    """Of Σ_t a_t·u_t by the input of each step, where u is the membrane that nothing resets."""
    x_TN = torch.zeros(len(share_T), 1, dtype=torch.float64, requires_grad=True)
    state, total = neuron.initial(x_TN[0]), torch.zeros(())
    for share, x_N in zip(share_T, x_TN, strict=True):
        _, state = neuron.step(x_N, state)
        u_N = state[neuron.remembers.index("membrane")] if isinstance(state, tuple) else state
        total = total + share * u_N.sum()
    return torch.autograd.grad(total, x_TN)[0].flatten()


@pytest.mark.parametrize("timesteps", [1, 2, 7])
@pytest.mark.parametrize(
    "make",
    [
        lambda: LIF(9.0, 0.8),
        lambda: LIF(9.0, 0.0),
        lambda: CurrentLIF(9.0, 0.8, 0.6),
        lambda: create_neuron("adaptive_lif", {"threshold": 9.0, "leak": 0.7}),
    ],
)
def test_what_arrives_before_a_neuron_is_what_its_membrane_hears(
    make: Callable[[], Neuron], timesteps: int
) -> None:
    last, middle = make().double(), make().double()
    found = by_path(chain(LIF(1.0, 0.5), middle, last), timesteps)
    expected = torch.ones(timesteps, dtype=torch.float64)
    for path, neuron in (("5", last), ("3", middle)):
        assert found[path] == pytest.approx(expected.tolist())
        expected = gradient_of_input(neuron, expected)
        expected = expected / expected.mean()
    assert found["1"] == pytest.approx(expected.tolist())


def test_channels_with_leaks_of_their_own_are_averaged() -> None:
    neuron = LIF(1.0, torch.tensor([0.2, 0.6, 0.6, 1.0]))
    kept = [sum(leak**j for leak in (0.2, 0.6, 0.6, 1.0)) / 4 for j in range(T)]
    assert neuron.memory(T).tolist() == pytest.approx(kept)


def test_a_neuron_that_says_nothing_of_its_memory_hands_shares_on_as_they_are() -> None:
    class Silent(Neuron):
        pointwise = True

        def initial(self, x_N: Tensor) -> Tensor:
            return torch.zeros_like(x_N)

        def step(self, x_N: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            return x_N, state

        def spike_height(self) -> None:
            return None

        def update_cost(self) -> Cost:
            return Cost()

    found = by_path(chain(LIF(1.0, 0.5), Silent(), LIF(1.0, 0.5)))
    assert found["3"] == found["1"] != [1.0] * T
    assert by_path(chain(LIF(1.0, 0.5), Silent()))["1"] == [1.0] * T


def test_a_neuron_that_hears_nothing_leaves_shares_as_they_are() -> None:
    found = by_path(chain(LIF(1.0, 0.5), CurrentLIF(1.0, 0.5, 1.0), LIF(1.0, 0.5)))
    assert found["1"] == found["3"] != [1.0] * T


def test_what_several_operations_read_has_the_mean_of_their_shares() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            return x + torch.relu(self.second(x))

    found = by_path(spike(Block(), example_input=torch.zeros(1, 4), neuron=LIF(1.0, 1.0)), 3)
    first, second = found.values()
    assert second == [1.0, 1.0, 1.0]
    # The shortcut: 1, 1, 1. By the second neurons: 3, 2, 1, which is 1.5, 1, 0.5 with a mean of 1.
    assert first == pytest.approx([1.25, 1.0, 0.75])


def test_through_the_network_gradients_are_as_large_as_through_time() -> None:
    """Without a leak the old rule made those of the first of five layers more than twice that."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(5):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    ann = nn.Sequential(*layers, nn.Linear(64, 8))
    snn = spike(ann, example_input=torch.zeros(1, 64), neuron=LIF(0.4, 1.0)).double()
    x = 2 * torch.rand(64, 64).double()
    norms = {}
    for gradient in ("bptt", "rate"):
        snn.zero_grad()
        (snn(x, 8, gradient=gradient).mean(0)[:, 0] ** 2).sum().backward()
        grad = snn.get_parameter("0.weight").grad
        assert grad is not None
        norms[gradient] = grad.norm().item()
    assert 0.6 < norms["rate"] / norms["bptt"] < 1.6


def weight_gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    network(x, T, gradient="rate").square().sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_weights_hear_the_same_whether_somebody_looks_on_or_not() -> None:
    x = 2 * torch.rand(N, 4, generator=torch.Generator().manual_seed(1)).double()
    alone, watched = (chain(LIF(0.3, 0.9), LIF(0.3, 0.9)).double() for _ in range(2))
    watched.get_submodule("2").register_forward_hook(lambda *_: None)
    expected, found = weight_gradients(alone, x), weight_gradients(watched, x)
    assert expected["2.weight"].abs().max() > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_weights_of_functions_hear_what_those_of_layers_do() -> None:
    class Written(nn.Module):
        """The same layers, the second one by a function."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second, self.last = (
                *(nn.Linear(4, 4), nn.Linear(4, 4)),
                nn.Linear(4, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            x = torch.relu(F.linear(x, self.second.weight, self.second.bias))
            return self.last(x)

    x = 2 * torch.rand(N, 4, generator=torch.Generator().manual_seed(1)).double()
    layers = chain(LIF(0.3, 0.9), LIF(0.3, 0.9)).double()
    written = spike(Written(), example_input=torch.zeros(1, 4), neuron=LIF(0.3, 0.9)).double()
    expected, found = weight_gradients(layers, x), weight_gradients(written, x)
    names = {"0": "first", "2": "second", "4": "last"}
    for path, name in names.items():
        for part in ("weight", "bias"):
            torch.testing.assert_close(found[f"{name}.{part}"], expected[f"{path}.{part}"])


# -- max pools -------------------------------------------------------------------------------------

SHARES = torch.tensor([1.6, 1.2, 0.8, 0.4])


class Functional(nn.Module):
    """A pool by a function."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


POOLS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.MaxPool2d(2), (8, 6)),
    (nn.MaxPool2d(3, 2, 1), (8, 7)),
    (nn.MaxPool2d((2, 3), (1, 2), dilation=(2, 1)), (7, 8)),
    (nn.MaxPool2d(3, 2, ceil_mode=True), (8, 8)),
    (nn.MaxPool2d(2, 3), (8, 8)),
    (nn.MaxPool1d(3, 2, 1), (9,)),
    (nn.MaxPool3d(2), (4, 4, 2)),
    (nn.AdaptiveMaxPool2d((4, 1)), (8, 6)),
    (Functional(lambda x: F.max_pool2d(x, 2)), (4, 4)),
    (Functional(lambda x: F.max_pool2d(x, 3, stride=1, padding=1)), (5, 5)),
    (Functional(lambda x: torch.max_pool2d(x, 2, ceil_mode=True)), (5, 5)),
    (Functional(lambda x: F.adaptive_max_pool2d(x, 1)), (3, 4)),
]


def pool_node(pool: nn.Module) -> tuple[fx.Node, nn.Module]:
    graph = fx.symbolic_trace(pool if isinstance(pool, Functional) else nn.Sequential(pool))
    return list(graph.graph.nodes)[1], graph


@pytest.mark.parametrize(("pool", "pixels"), POOLS)
@pytest.mark.parametrize("kind", ["spikes", "currents"])
@pytest.mark.parametrize("last", [False, True])
def test_a_max_pool_hands_on_what_its_steps_would(
    pool: nn.Module, pixels: tuple[int, ...], kind: str, last: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    x_TN = torch.randn(T, N, 2, *pixels, generator=generator, dtype=torch.float64)
    if kind == "spikes":
        x_TN = (x_TN > 0).double()
    stacked = stack(x_TN)
    if last and len(pixels) == 2:
        stacked = stacked.contiguous(memory_format=torch.channels_last)
    x_N = x_TN.mean(0).requires_grad_()
    y = pool(stacked)
    windows = windows_of(*pool_node(pool), stacked, y)
    assert windows is not None
    found = largest(Timed(stacked, x_N), y, windows, SHARES)
    assert found is not None
    assert torch.equal(found.steps, y)
    grad_N = torch.randn(found.mean.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(found.mean, x_N, grad_N)

    shift_N = torch.zeros_like(x_N, requires_grad=True)
    steps = torch.stack([pool(each + shift_N) for each in x_TN])
    torch.testing.assert_close(found.mean.detach(), steps.mean(0).detach())
    shares = SHARES.double().view(-1, *[1] * (steps.dim() - 1))
    (expected,) = torch.autograd.grad((shares * steps).mean(0), shift_N, grad_N)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


def test_windows_of_several_sizes_are_differentiated_at_the_mean() -> None:
    torch.manual_seed(0)
    pool, x = nn.AdaptiveMaxPool2d(3), torch.randn(T * N, 2, 8, 8)
    assert windows_of(*pool_node(pool), x, pool(x)) is None
    ann = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(18, 2))
    snn = spike(ann, example_input=torch.zeros(1, 1, 8, 8), neuron=LIF(0.2))
    snn(torch.rand(2, 1, 8, 8), T, gradient="rate").sum().backward()
    grad = snn.get_parameter("0.weight").grad
    assert grad is not None
    assert grad.abs().max() > 0


class Halved(nn.MaxPool2d):
    """A max pool with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) / 2


def test_a_pool_whose_values_are_in_no_window_is_differentiated_at_the_mean() -> None:
    pool, x = Halved(2), torch.randn(T * N, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    windows = windows_of(*pool_node(nn.MaxPool2d(2)), x, pool(x))
    assert windows is not None
    assert largest(Timed(x, x[:N]), pool(x), windows, SHARES) is None


def test_a_pool_may_be_called_with_its_input_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Conv2d(1, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(input=torch.relu(self.first(x)), kernel_size=2).flatten(1)

    class Plain(Named):
        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(torch.relu(self.first(x)), 2).flatten(1)

    x, found = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), []
    for kind in (Named, Plain):
        snn = spike(kind(), example_input=torch.zeros(1, 1, 4, 4), neuron=LIF(0.3))
        found.append(weight_gradients(snn, x)["first.weight"])
    assert torch.equal(*found)
    assert found[0].abs().max() > 0


def test_what_a_max_pool_keeps_is_flat_over_time() -> None:
    ann = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    snn = spike(ann, example_input=torch.zeros(1, 1, 8, 8), neuron=LIF(0.2))
    kept = []
    for timesteps in (2, 16):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            snn(torch.rand(2, 1, 8, 8), timesteps, gradient="rate")
        kept.append(sum(sizes))
    assert kept[0] == kept[1]
