"""Rate gradients and what stands around a network: objectives, hooks, types; what is refused.

Shapes: T timesteps, N samples.
"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leanspike import LIF, SpikingNetwork, spike
from leanspike.errors import LeanspikeError
from leanspike.graph import rules
from leanspike.graph.ops import Operation, Synapses, at_rows
from leanspike.neuron import Neuron
from leanspike.neuron.protocol import Cost
from leanspike.surgery import fold_norms
from leanspike.surrogate import Triangle
from leanspike.temporal import Affine, TemporalNorm
from leanspike.train import TET, Accumulates, CrossEntropy, Feature, Objective, Response, SpikeRate

T, N = 4, 3
LABELS = torch.tensor([0, 2, 1])
IMAGE = (2, 6, 6)


def network(neuron: nn.Module | None = None, norm: Any = "keep", **options: Any) -> SpikingNetwork:
    """Two layers of neurons; time reaches the second norm."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)),
    )
    made = neuron or LIF(0.4, 0.9, height="threshold", learn=("leak", "threshold"))
    return spike(ann, example_input=torch.zeros(1, *IMAGE), neuron=made, norm=norm, **options)


def images() -> Tensor:
    return torch.randn(N, *IMAGE, generator=torch.Generator().manual_seed(1))


def loss_gradients(
    snn: SpikingNetwork, objective: Objective, timesteps: int, gradient: Any
) -> dict[str, Tensor]:
    copy, x = deepcopy(snn), images()
    with objective.watch(copy):
        y_TNK = copy(x, timesteps, gradient=gradient)
    objective(y_TNK, LABELS, x).backward()
    return {name: p.grad for name, p in copy.named_parameters() if p.grad is not None}


def objectives() -> list[Objective]:
    torch.manual_seed(3)
    teacher = nn.Sequential(
        *(nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(45, 3)),
    )
    feature = Feature(teacher, network(), images(), {"5": "1"})
    return [CrossEntropy("sum"), TET(), Response(teacher), feature, SpikeRate(), Accumulates()]


@pytest.mark.parametrize("objective", objectives(), ids=lambda objective: type(objective).__name__)
def test_every_objective_has_gradients_of_one_step_exactly_and_of_several(
    objective: Objective,
) -> None:
    snn = network().train()
    expected = loss_gradients(snn, objective, 1, "bptt")
    found = loss_gradients(snn, objective, 1, "rate")
    assert sum(g.abs().max() > 1e-7 for g in expected.values()) > 6
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)
    several = loss_gradients(snn, objective, T, "rate")
    assert all(torch.isfinite(g).all() for g in several.values())
    assert several["0.weight"].abs().max() > 1e-7


@pytest.mark.parametrize("height", ["unit", "threshold"])
def test_a_price_on_spikes_is_exact_for_the_first_layer_at_any_t(height: Any) -> None:
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    torch.manual_seed(0)
    neuron = LIF(0.4, 0.8, height=height, learn=("leak", "threshold"))
    snn, x = spike(ann, example_input=torch.zeros(1, 4), neuron=neuron).double(), torch.rand(N, 4)
    found = []
    for gradient in ("bptt", "rate"):
        copy, rate = deepcopy(snn), SpikeRate()
        with rate.watch(copy):
            y_TNK = copy(x.double(), T, gradient=gradient)
        rate(y_TNK, LABELS, x).backward()
        found.append({n: p.grad for n, p in copy.named_parameters() if p.grad is not None})
    assert found[0]["1.threshold"].abs() > 1e-4
    for name in ("0.weight", "0.bias", "1.leak", "1.threshold"):
        torch.testing.assert_close(found[1][name], found[0][name])


@pytest.mark.parametrize("make", [SpikeRate, Accumulates])
def test_what_prices_on_spikes_of_channels_keep_is_flat_over_time(make: Any) -> None:
    snn = network(LIF(0.4, per="channel", height="threshold", learn=("threshold",)))

    def most(timesteps: int) -> int:
        sizes = [0]
        rate = make()
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: (sizes.append(t.untyped_storage().nbytes()), t)[1], lambda t: t
        )
        with hooks, rate.watch(snn):
            rate(snn(images(), timesteps, gradient="rate"), LABELS, images())
        return max(sizes)

    assert most(2) == most(16)


def test_without_gradients_it_is_the_plain_run() -> None:
    snn, seen = network().eval(), []
    snn.get_submodule("3").register_forward_hook(
        lambda _module, args, _y: seen.append(len(args[0]))
    )
    with torch.no_grad():
        y_TNK = snn(images(), T, gradient="rate")
    assert seen == [T * N]  # and not on a mean beside
    assert torch.equal(y_TNK, snn(images(), T))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types_are_those_of_the_plain_run(dtype: torch.dtype) -> None:
    snn = network().train()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected, y_TNK = deepcopy(snn)(images(), T), snn(images(), T, gradient="rate")
    assert y_TNK.dtype == expected.dtype == dtype
    assert torch.equal(y_TNK, expected)
    y_TNK.float().square().mean().backward()
    for name, p in snn.named_parameters():
        assert p.grad is not None, name
        assert p.grad.dtype == torch.float32
        assert torch.isfinite(p.grad).all()


def test_folded_norms_have_the_gradients_of_norms_in_eval_mode() -> None:
    snn = network(norm="bntt").train()
    with torch.no_grad():
        snn(3 * images())  # other statistics at each step
    snn = snn.double().eval()
    kept, folded = snn, fold_norms(snn)
    assert isinstance(folded.get_submodule("4"), Affine)
    found = [
        torch.autograd.grad(
            each(images().double(), T, gradient="rate").square().sum(),
            [each.get_parameter("3.weight"), each.get_parameter("2.threshold")],
        )
        for each in (kept, folded)
    ]
    assert all(gradient.abs().max() > 1e-3 for gradient in found[0])
    torch.testing.assert_close(found[1], found[0])


# -- refused, and the way out ----------------------------------------------------------------------


def trained(snn: SpikingNetwork, gradient: Any = "rate") -> bool:
    """One pass; whether the first weights have got a gradient."""
    snn.train()(images(), T, gradient=gradient).square().mean().backward()
    grad = snn.get_parameter("0.weight").grad
    return grad is not None and bool(grad.abs().max() > 0)


def test_another_gradient_is_refused() -> None:
    with pytest.raises(LeanspikeError, match="gradient is 'rates'; choose bptt or rate"):
        network()(images(), T, gradient="rates")  # type: ignore[arg-type]
    assert trained(network(), "rate")
    assert trained(network(), "bptt")


class Inhibited(Neuron):
    """Each neuron hears the others of its sample."""

    def initial(self, x_N: Tensor) -> Tensor:
        return torch.zeros_like(x_N)

    def step(self, x_N: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        u_N = (self.initial(x_N) if state is None else state) + x_N
        return Triangle().spike(u_N - 0.3 - u_N.mean(1, keepdim=True)), u_N

    def spike_height(self) -> Tensor:
        return torch.tensor(1.0)

    def update_cost(self) -> Cost:
        return Cost(acs=1)


class Alone(Inhibited):
    """What the message says: one that does not, and says so."""

    pointwise = True

    def step(self, x_N: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        u_N = (self.initial(x_N) if state is None else state) + x_N
        return Triangle().spike(u_N - 0.3), u_N


def test_neurons_that_hear_each_other_are_refused_and_the_advice_works() -> None:
    snn = network(Inhibited())
    says = "neurons 2: .* own input only, and Inhibited does not declare that; set pointwise = True"
    with pytest.raises(LeanspikeError, match=says):
        snn(images(), T, gradient="rate")
    assert trained(snn, "bptt")
    assert trained(network(Alone()))


class Memory(nn.Module):
    """A module in a neuron's place with a time of its own."""

    def forward(self, x_TN: Tensor) -> Tensor:
        return x_TN.cumsum(0)


def test_a_module_with_a_time_of_its_own_is_refused_and_the_advice_works() -> None:
    snn = network(Memory())
    says = "neurons 2: rate gradients cannot apply a Memory to .*; write it as a leanspike"
    with pytest.raises(LeanspikeError, match=says):
        snn(images(), T, gradient="rate")
    assert trained(snn, "bptt")
    assert trained(network(Alone()))
    assert trained(network(nn.ReLU()))


def test_a_hook_that_changes_spikes_is_refused_and_the_advice_works() -> None:
    snn = network()
    handle = snn.get_submodule("2").register_forward_hook(lambda _module, _args, o_TN: 2 * o_TN)
    with pytest.raises(LeanspikeError, match=r"neurons 2: a forward hook changes .* return None"):
        snn(images(), T, gradient="rate")
    assert trained(snn, "bptt")
    handle.remove()
    snn.get_submodule("2").register_forward_hook(lambda _module, _args, _o_TN: None)
    assert trained(snn)


def test_a_norm_with_scales_that_it_hides_is_refused_and_the_advice_works() -> None:
    class Doubling(TemporalNorm):
        per_step = False

        def _train(self, x_TN: Tensor) -> Tensor:
            return 2 * self._batch_norm(x_TN)

        def affine(self, timesteps: int) -> tuple[Tensor, Tensor]:
            scale_TC, shift_TC = super().affine(timesteps)
            return 2 * scale_TC, 2 * shift_TC

    class Mended(TemporalNorm):
        per_step = False

        def _train(self, x_TN: Tensor) -> Tensor:
            return 2 * self._batch_norm(x_TN)

        def learned(self, timesteps: int) -> tuple[Tensor, Tensor | None]:
            weight_TC, bias_TC = super().learned(timesteps)
            return 2 * weight_TC, None if bias_TC is None else 2 * bias_TC

    snn = network(norm=Doubling)
    says = r"Doubling has an affine of its own, .*; give it learned\(timesteps\) in place of affine"
    with pytest.raises(LeanspikeError, match=says):
        snn(images(), T, gradient="rate")
    assert trained(snn, "bptt")
    mended = network(norm=Mended)
    assert trained(mended)
    mended.load_state_dict(snn.state_dict())
    torch.testing.assert_close(mended.eval()(images(), T), snn.eval()(images(), T))


def test_a_batch_norm_with_a_forward_of_its_own_is_refused_where_it_trains() -> None:
    class Shifted(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x

    torch.manual_seed(0)
    ann = nn.Sequential(*(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), Shifted(4), nn.ReLU()))
    snn = spike(ann, example_input=torch.zeros(1, *IMAGE), neuron=LIF(0.4), ops={Shifted: "analog"})
    says = (
        "3: rate gradients know PyTorch's batch norms only, but a Shifted has a forward of its own"
    )
    with pytest.raises(LeanspikeError, match=says):
        snn.train()(images(), T, gradient="rate")
    assert trained(snn, "bptt")


# -- layers whose mean is known --------------------------------------------------------------------


def test_a_linear_layer_runs_on_the_steps_alone() -> None:
    snn, seen = network().train(), []
    layer = snn.get_submodule("3")
    forward = type(layer).forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(layer), "forward", lambda self, x: seen.append(len(x)) or forward(self, x)
        )
        snn(images(), T, gradient="rate").sum().backward()
    assert seen == [T * N]


def test_the_gradient_goes_through_a_hook_that_changes_what_a_layer_makes() -> None:
    found = []
    for factor in (1.0, 2.0):
        snn = network().train()
        head = snn.get_submodule("8")
        head.register_forward_hook(lambda _module, _args, y, by=factor: by * y)
        snn(images(), T, gradient="rate").sum().backward()
        found.append(snn.get_parameter("8.weight").grad)
    torch.testing.assert_close(found[1], 2 * found[0])


def test_a_layer_of_somebodys_own_is_differentiated_as_it_is() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(2 * x)

    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Doubled(6, 3))
    meaning = Operation(rules.analog, synapses=Synapses(at_rows), linear=True)
    snn = spike(
        ann, example_input=torch.zeros(1, 4), neuron=LIF(0.3), ops={Doubled: meaning}
    ).train()
    x, seen = torch.rand(N, 4), []
    snn.get_submodule("1").register_forward_hook(lambda _m, _a, o_TN: seen.append(o_TN))
    snn(x, T, gradient="rate").mean(0).sum().backward()
    expected = 2 * seen[0].mean(0).sum(0).expand(3, -1)
    assert expected.abs().max() > 0
    torch.testing.assert_close(snn.get_parameter("2.weight").grad, expected)
