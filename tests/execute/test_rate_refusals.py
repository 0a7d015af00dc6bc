"""Rate gradients: what they cannot do is refused by its name, and the advice works."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from leanspike import LIF, LeanspikeError, SpikingNetwork, spike
from leanspike.backends import use_backend

T = 3


class Mask(nn.Module):
    """Dropout, written by oneself."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) > 0.5).to(x.dtype) if self.training else x


class Centred(nn.Module):
    """Keeps a mean of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return x - self.mean


def network(middle: nn.Module | None = None, **options: Any) -> SpikingNetwork:
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), middle or nn.Identity()),
        *(nn.ReLU(), nn.Linear(8, 3)),
    )
    return spike(
        ann, example_input=torch.zeros(1, 4), timesteps=T, neuron=LIF(0.3, 0.9), **options
    ).train()


def images() -> Tensor:
    return torch.rand(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("kind", "does"), [(Mask, "draws random numbers"), (Centred, "changes its buffers")]
)
def test_a_module_that_is_another_at_each_run_is_refused_and_the_advice_works(
    kind: type[nn.Module], does: str
) -> None:
    """Its mask for the mean would be another than for the steps; its buffers would move twice."""
    snn = network(kind(), ops={kind: "analog"})
    says = f"module 3: a {kind.__name__} {does}, and rate gradients run it twice"
    with pytest.raises(LeanspikeError, match=says):
        snn(images(), gradient="rate")
    snn(images(), gradient="bptt").sum().backward()
    for instead in (nn.Dropout(0.5), nn.BatchNorm1d(8)):
        network(instead, norm="keep")(images(), gradient="rate").sum().backward()
    snn.eval()(images(), gradient="rate").sum().backward()  # where it is the same each time


def test_an_observer_is_refused_and_the_advice_works() -> None:
    """It was backpropagation through time that it saw, and that the gradients were of."""
    snn, seen = network(), []

    def see(*what: Any) -> None:
        seen.append(what)

    with pytest.raises(LeanspikeError, match="gradient is 'rate', and an observer sees"):
        snn.run(images(), observer=see, gradient="rate")
    with torch.no_grad():
        snn.run(images(), observer=see, gradient="rate")
    assert seen
    snn.run(images(), observer=see).sum().backward()
    snn.run(images(), gradient="rate").sum().backward()


def test_transforms_of_functions_are_refused_and_the_advice_works() -> None:
    snn = network().eval()

    def loss(parameters: dict[str, Tensor], gradient: str) -> Tensor:
        return functional_call(snn, parameters, (images(), T, gradient)).square().mean()

    with pytest.raises(LeanspikeError, match="gradient is 'rate', which torch"):
        grad(loss)(dict(snn.named_parameters()), "rate")
    assert grad(loss)(dict(snn.named_parameters()), "bptt")["0.weight"].abs().max() > 0


@pytest.mark.parametrize("norm", ["keep", "bntt"])
def test_second_derivatives_are_refused_and_the_advice_works(norm: str) -> None:
    """They would take the neurons' slopes for constants."""
    snn, x = network(nn.BatchNorm1d(8), norm=norm), images().requires_grad_()

    def slope(gradient: Any) -> Tensor:
        loss = snn(x, gradient=gradient).square().mean()
        return torch.autograd.grad(loss, x, create_graph=True)[0].square().sum()

    with pytest.raises(LeanspikeError, match="rate gradients have no second derivatives; choose"):
        slope("rate").backward()
    with use_backend("reference"):
        slope("bptt").backward()
    first = torch.autograd.grad(snn(x, gradient="rate").square().mean(), x, create_graph=True)
    assert torch.isfinite(first[0]).all()  # which nobody differentiates


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
def test_more_steps_than_a_norm_has_are_refused_in_training_too(gradient: Any) -> None:
    """Native code once wrote the statistics of the steps that were too many behind their room."""
    ann = nn.Sequential(
        *(nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, bias=False)),
        *(nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 256, 3)),
    )
    snn = spike(ann, example_input=torch.zeros(1, 2, 16, 16), timesteps=T, norm="bntt").train()
    x = torch.rand(4, 2, 16, 16)
    with pytest.raises(LeanspikeError, match="BNTT has parameters for 3 timesteps and is asked fo"):
        snn(x, T + 1, gradient=gradient)
    snn(x, T, gradient=gradient).sum().backward()
