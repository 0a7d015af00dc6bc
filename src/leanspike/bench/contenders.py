"""The contenders: one network, the same weights and the same neuron, in each library's own way.

Every contender is a module from images ``[N, C, H, W]`` to ``[N, K]``, the sum of the outputs of
all timesteps. It is written as in its library's documentation. All contenders compute

    u ← λ·u + x,   o = 1[u ≥ v],   u ← u − v·o,   with λ = 7/8, v = 1

from a membrane of 0, with pixels as a constant current. A test checks that their answers agree,
except that snnTorch's reset differs by a leak. 1 − 1/τ is exactly 7/8 for τ = 8. Surrogate
derivatives are the triangle, if the library has one. leanspike and the time loop also train leaks
and thresholds, which are fixed in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from leanspike.models import create_model
from leanspike.neuron import create_neuron
from leanspike.optional import installed
from leanspike.surgery import spike
from leanspike.synapse import convolving_faster

LEAK, THRESHOLD = 7 / 8, 1.0
GAMMA = 0.3  # the height of the triangle
SEED = 0  # of weights and images


def network(width: float = 1.0) -> nn.Module:
    """Return BNTT's VGG9, without norms or biases, with weights from a fixed seed.

    The weights are three times as large as usual, so that every layer of the SNN fires.

    >>> sum(p.numel() for p in network(0.125).parameters())
    94104
    """
    torch.manual_seed(SEED)
    ann = create_model("vgg9_bntt", num_classes=10, batch_norm=False, width=width, xavier_gain=None)
    with torch.no_grad():
        for weight in ann.parameters():
            weight.mul_(3.0)
    return ann


def layers(ann: nn.Module) -> Iterator[nn.Module]:
    """Yield the network's modules in the order in which they run."""
    yield from ann.get_submodule("features").children()
    yield nn.Flatten()
    yield from ann.get_submodule("classifier").children()


class Leanspike(nn.Module):
    """leanspike: time stacked into the batch, leak and threshold learned."""

    def __init__(self, ann: nn.Module, timesteps: int) -> None:
        super().__init__()
        neuron = create_neuron("lif", {"threshold": THRESHOLD, "leak": LEAK})
        example = torch.zeros(1, 3, 32, 32)
        self.snn = spike(ann, example_input=example, timesteps=timesteps, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Return the summed outputs for images; in training with the convolutions of training."""
        with convolving_faster(self.snn) if self.training else nullcontext():
            y_TNK: Tensor = self.snn(x)
        return y_TNK.sum(0)


class SpikingJelly(nn.Module):
    """SpikingJelly, multi-step: stateless layers in a container, neurons over the sequence."""

    def __init__(self, ann: nn.Module, timesteps: int) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        def translate(module: nn.Module) -> nn.Module:
            if not isinstance(module, nn.ReLU):
                contained: nn.Module = layer.SeqToANNContainer(module)
                return contained
            lif: nn.Module = neuron.LIFNode(
                tau=1 / (1 - LEAK),
                decay_input=False,
                v_threshold=THRESHOLD,
                v_reset=None,
                surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
                detach_reset=True,
                step_mode="m",
            )
            return lif

        self.network = nn.Sequential(*map(translate, layers(ann)))
        self.timesteps, self.reset = timesteps, functional.reset_net

    def forward(self, x: Tensor) -> Tensor:
        """Return the summed outputs for images."""
        self.reset(self.network)
        y_TNK: Tensor = self.network(x.unsqueeze(0).repeat(self.timesteps, 1, 1, 1, 1))
        return y_TNK.sum(0)


class SnnTorch(nn.Module):
    """snnTorch: a Sequential that hides its state, called once a timestep; its default surrogate.

    It resets one step after the spike, without the leak: u ← λ·u + x − v·o. Its switch against
    that (``reset_delay=False``) is slower and resets a second time where u is still above v.
    """

    def __init__(self, ann: nn.Module, timesteps: int) -> None:
        super().__init__()
        import snntorch
        from snntorch import utils

        def translate(module: nn.Module) -> nn.Module:
            if not isinstance(module, nn.ReLU):
                return module
            lif: nn.Module = snntorch.Leaky(beta=LEAK, threshold=THRESHOLD, init_hidden=True)
            return lif

        self.network = nn.Sequential(*map(translate, layers(ann)))
        self.timesteps, self.reset = timesteps, utils.reset

    def forward(self, x: Tensor) -> Tensor:
        """Return the summed outputs for images."""
        self.reset(self.network)
        return torch.stack([self.network(x) for _ in range(self.timesteps)]).sum(0)


class Norse(nn.Module):
    """Norse: a SequentialState, called once a timestep with the state of the last.

    Its membrane is u·(1 − λ): input and threshold are both scaled, so the spikes are the same.
    """

    def __init__(self, ann: nn.Module, timesteps: int) -> None:
        super().__init__()
        import norse.torch as norse
        from norse.torch.functional.reset import reset_subtract

        def translate(module: nn.Module) -> nn.Module:
            if not isinstance(module, nn.ReLU):
                return module
            parameters = norse.LIFBoxParameters(
                tau_mem_inv=torch.tensor(1 - LEAK),
                v_th=torch.tensor(THRESHOLD * (1 - LEAK)),
                method="triangle",
                alpha=GAMMA,
                reset_method=reset_subtract,
            )
            lif: nn.Module = norse.LIFBoxCell(p=parameters, dt=1.0)
            return lif

        self.network = norse.SequentialState(*map(translate, layers(ann)))
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Tensor:
        """Return the summed outputs for images."""
        state, total = None, torch.zeros(())
        for _ in range(self.timesteps):
            y, state = self.network(x, state)
            total = total + y
        return total


class TimeLoop(nn.Module):
    """The papers' own way: a Python loop over timesteps, and in it one over layers."""

    def __init__(self, ann: nn.Module, timesteps: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers(ann))
        neurons = sum(isinstance(module, nn.ReLU) for module in self.layers)
        self.leaks = nn.Parameter(torch.full((neurons,), LEAK))
        self.thresholds = nn.Parameter(torch.full((neurons,), THRESHOLD))
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Tensor:
        """Return the summed outputs for images."""
        membranes: list[Any] = [0.0] * len(self.leaks)
        total = torch.zeros(())
        for _ in range(self.timesteps):
            signal, i = x, 0
            for module in self.layers:
                if not isinstance(module, nn.ReLU):
                    signal = module(signal)
                    continue
                u = self.leaks[i] * membranes[i] + signal
                signal = _Step.apply(u / self.thresholds[i] - 1)
                membranes[i] = u - self.thresholds[i] * signal.detach()
                i += 1
            total = total + signal
        return total


class _Step(torch.autograd.Function):
    """A spike, with the triangle for its derivative."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        grad: Tensor = grads[0] * GAMMA * (1 - z.abs()).clamp(min=0)
        return grad


@dataclass(frozen=True)
class Contender:
    """A row of the race: ``build(ann, timesteps)`` gives the module that is timed.

    ``layout`` is of its weights and images; channels_last (NHWC) is the CPU's faster one, but not
    all keep it from layer to layer.
    """

    title: str
    build: Callable[[nn.Module, int], nn.Module]
    package: str = "torch"
    layout: torch.memory_format = torch.contiguous_format

    @property
    def version(self) -> str | None:
        """The installed version of its package; None where there is none.

        >>> CONTENDERS["ann"].version == installed("torch")
        True
        """
        return installed(self.package)


NHWC = torch.channels_last
CONTENDERS = {
    "ann": Contender("the ANN", lambda ann, _: ann, layout=NHWC),
    "leanspike": Contender("leanspike", Leanspike, "leanspike", NHWC),
    "spikingjelly": Contender("SpikingJelly", SpikingJelly, "spikingjelly"),
    "spikingjelly_nhwc": Contender("SpikingJelly, NHWC", SpikingJelly, "spikingjelly", NHWC),
    "snntorch": Contender("snnTorch", SnnTorch, "snntorch"),
    "norse": Contender("Norse", Norse, "norse"),
    "loop": Contender("a plain time loop", TimeLoop, layout=NHWC),
}
