"""The calls that backends compute: one frozen class for each kind of work.

A call holds all that its answer depends on. Shapes: T timesteps, N samples; a trailing ``_TN``
means ``[T, N, ...]``, ``_N`` means ``[N, ...]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from leanspike.backends import normalised, norms, pools, rates, reference
from leanspike.backends.normalised import Normalised, NormalisedRates
from leanspike.backends.norms import Currents, Followed, NormRates, NormScale
from leanspike.backends.pools import MaxPoolRates, Windows
from leanspike.backends.rates import Rates
from leanspike.backends.reference import Dynamics
from leanspike.backends.stream import Stream


class Call(ABC):  # noqa: B024 (kinds of work have nothing in common)
    """A piece of work that a backend may serve. If none does, PyTorch computes it.

    >>> issubclass(LIFCall, Call)
    True
    """


class NeuronCall(Call):
    """The work of a layer of neurons, with a reference in plain PyTorch.

    So it always has an answer. Your own neuron can have its own call for your own backends.
    """

    @abstractmethod
    def reference(self) -> Any:
        """Return the answer by the neuron's equation in plain PyTorch, for any device and dtype."""


@final
@dataclass(frozen=True, eq=False)
class LIFCall(NeuronCall):
    """All timesteps of a layer of LIF neurons. The answer is their spikes, like ``x_TN``.

    ``x_TN`` are the inputs ``[T, N, ...]`` in any layout, also one step expanded over T.
    ``leak`` and ``threshold`` are scalars, or broadcast to a step.

    >>> import torch
    >>> x_TN = torch.tensor([[0.75], [0.75], [0.75]])
    >>> call = LIFCall(x_TN, torch.tensor(1.0), torch.tensor(1.0), Dynamics())
    >>> call.reference().flatten().tolist()
    [0.0, 1.0, 1.0]
    """

    x_TN: Tensor
    leak: Tensor
    threshold: Tensor
    dynamics: Dynamics

    def reference(self) -> Tensor:
        return reference.lif(self.x_TN, self.leak, self.threshold, self.dynamics)


@final
@dataclass(frozen=True, eq=False)
class LIFStepCall(NeuronCall):
    """A timestep of LIF neurons. The answer is their spikes and the membranes after it.

    ``u_N`` are the membranes before it, float32 (float64 for float64 input); None at first.

    >>> import torch
    >>> u, x, leak, threshold = torch.tensor([[1.0, 1.0, 0.5, 1.0]]).T
    >>> LIFStepCall(u, x, leak[0], threshold[0], Dynamics()).reference()
    (tensor([1.]), tensor([0.5000]))
    """

    u_N: Tensor | None
    x_N: Tensor
    leak: Tensor
    threshold: Tensor
    dynamics: Dynamics

    def reference(self) -> tuple[Tensor, Tensor]:
        pair = self.leak, self.threshold
        u_N = self.u_N
        if u_N is None:
            u_N = reference.initial_membrane(self.x_N, self.threshold, self.dynamics)
        return reference.lif_step(u_N, self.x_N, *pair, self.dynamics)


@final
@dataclass(frozen=True, eq=False)
class LIFRateCall(NeuronCall):
    """All timesteps of LIF neurons and the derivatives of their mean output, without gradients.

    ``learned`` names the parameters ("leak", "threshold") of derivatives beside the input's.
    ``arrival_T`` has the weight of each step's output in the derivatives; None: 1 each.

    >>> import torch
    >>> x_TN, one = torch.full((2, 1), 0.75), torch.tensor(1.0)
    >>> found = LIFRateCall(x_TN, one, one, Dynamics(), ("leak",)).reference()
    >>> found.o_TN.flatten().tolist(), sorted(found.by)
    ([0.0, 1.0], ['leak'])
    """

    x_TN: Tensor
    leak: Tensor
    threshold: Tensor
    dynamics: Dynamics
    learned: tuple[str, ...]
    arrival_T: Tensor | None = None

    def reference(self) -> Rates:
        how = self.leak, self.threshold, self.dynamics, self.learned, self.arrival_T
        return rates.lif_rates(self.x_TN, *how)


@final
@dataclass(frozen=True, eq=False)
class RateGradientCall(Call):
    """The gradients of neurons' mean output by their mean input and by parameters of a layer.

    ``grad_N`` is dL/d(mean output). ``by_input`` and ``by`` are the derivatives of each neuron's
    mean output, in float32, as of a :class:`Rates`. The answer is dL/d(mean input), in the dtype of
    ``grad_N``, and a number for each of ``by``.

    >>> import torch
    >>> grad_N, by_N = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    >>> RateGradientCall(grad_N, by_N, (by_N,)).reference()
    (tensor([0.5000, 6.0000]), (tensor(6.5000),))
    """

    grad_N: Tensor
    by_input: Tensor
    by: tuple[Tensor, ...]

    def reference(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the answer in plain PyTorch."""
        grad_N = self.grad_N.to(self.by_input.dtype)
        by_x = (grad_N * self.by_input).to(self.grad_N.dtype)
        return by_x, tuple((grad_N * each).sum() for each in self.by)


@final
@dataclass(frozen=True, eq=False)
class NormLIFCall(Call):
    """A batch norm in training, and the LIF neurons behind it, which alone read its output.

    ``x_TN`` enters the norm, ``[T, N, C, ...]``. The answer is a :class:`Normalised`. If no backend
    serves it, the norm and the neurons are computed one after the other.

    >>> import torch
    >>> x_TN, one = torch.tensor([[[0.0], [2.0]]]), torch.tensor(1.0)
    >>> norm = NormScale(torch.full((1, 1), 3.0), None, 1e-5)
    >>> NormLIFCall(x_TN, norm, one, one, Dynamics()).reference().o_TN.flatten().tolist()
    [0.0, 1.0]
    """

    x_TN: Tensor
    norm: NormScale
    leak: Tensor
    threshold: Tensor
    dynamics: Dynamics

    def reference(self) -> Normalised:
        """Return the answer in plain PyTorch."""
        pair = self.leak, self.threshold
        return normalised.norm_lif(self.x_TN, self.norm, *pair, self.dynamics)


@final
@dataclass(frozen=True, eq=False)
class NormLIFRateCall(Call):
    """The same for rate gradients, without gradients.

    For ``learned`` and ``arrival_T`` see :class:`LIFRateCall`. The answer is a
    :class:`NormalisedRates`.

    >>> import torch
    >>> x_TN, one = torch.tensor([[[0.0], [2.0]]]), torch.tensor(1.0)
    >>> norm = NormScale(torch.ones(1, 1), None, 1e-5)
    >>> found = NormLIFRateCall(x_TN, norm, one, one, Dynamics(), ()).reference()
    >>> found.rates.by_input.flatten().tolist()  # 0.3·(0, 1), for currents of -1 and 1
    [0.0, 0.29999...]
    """

    x_TN: Tensor
    norm: NormScale
    leak: Tensor
    threshold: Tensor
    dynamics: Dynamics
    learned: tuple[str, ...]
    arrival_T: Tensor | None = None

    def reference(self) -> NormalisedRates:
        """Return the answer in plain PyTorch."""
        how = self.leak, self.threshold, self.dynamics, self.learned, self.arrival_T
        return normalised.norm_lif_rates(self.x_TN, self.norm, *how)


@final
@dataclass(frozen=True, eq=False)
class NormCall(Call):
    """A batch norm in training, by itself; the answer is a :class:`Currents`, with gradients.

    ``x_TN``: what enters it, ``[T, N, C, ...]``. PyTorch's own norms serve what no backend does.

    >>> import torch
    >>> call = NormCall(torch.tensor([[[0.0], [2.0]]]), NormScale(torch.ones(1, 1), None, 0.0))
    >>> call.reference().y_TN.flatten().tolist()
    [-1.0, 1.0]
    """

    x_TN: Tensor
    norm: NormScale

    def reference(self) -> Currents:
        """Return the answer in plain PyTorch."""
        return norms.norm(self.x_TN, self.norm)


@final
@dataclass(frozen=True, eq=False)
class NormRateCall(Call):
    """The same for rate gradients, without gradients; the answer is a :class:`NormRates`.

    >>> import torch
    >>> x_TN = torch.tensor([[[0.0], [2.0]], [[4.0], [2.0]]])
    >>> call = NormRateCall(x_TN, NormScale(torch.ones(2, 1), None, 0.0))
    >>> call.reference().y_N.flatten().tolist()
    [0.0, 0.0]
    """

    x_TN: Tensor
    norm: NormScale

    def reference(self) -> NormRates:
        """Return the answer in plain PyTorch."""
        return norms.norm_rates(self.x_TN, self.norm)


@final
@dataclass(frozen=True, eq=False)
class NormMeanCall(NeuronCall):
    """The mean output of a norm, known already, and how it follows the mean input.

    The answer is ``value_N`` with gradients by ``x_N``, which is the mean input, by γ and by β.
    ``followed``: what the steps of the input were like.

    >>> import torch
    >>> x_N = torch.tensor([[-1.0], [1.0]], requires_grad=True)
    >>> scale = NormScale(torch.full((1, 1), 3.0), None, 0.0)
    >>> found = Followed(torch.zeros(1, 1), torch.tensor([[4.0]]), torch.ones(1))
    >>> y_N = NormMeanCall(torch.zeros(2, 1), x_N, scale, found).reference()
    >>> torch.autograd.grad(y_N[1].sum(), x_N)[0].flatten().tolist()  # 3/2·(∓1/2 ± 1/8)
    [-0.5625, 0.5625]
    """

    value_N: Tensor
    x_N: Tensor
    norm: NormScale
    followed: Followed

    def reference(self) -> Tensor:
        return norms.norm_of_mean(self.value_N, self.x_N, self.norm, self.followed)


@final
@dataclass(frozen=True, eq=False)
class MaxPoolRateCall(Call):
    """A max pool for rate gradients, without gradients; the answer is a :class:`MaxPoolRates`.

    ``share_T``: the shares of the steps in the gradient of its mean output.

    >>> import torch
    >>> windows = Windows((1, 2), (1, 2), (0, 0), (1, 1), size=(1, 2), left=(1, 1))
    >>> x_TN = torch.tensor([0.0, 1.0]).view(1, 1, 1, 1, 2)
    >>> [part.item() for part in MaxPoolRateCall(x_TN, windows, torch.ones(1)).reference().parts]
    [0.0, 1.0]
    """

    x_TN: Tensor
    windows: Windows
    share_T: Tensor

    def reference(self) -> MaxPoolRates:
        """Return the answer in plain PyTorch."""
        return pools.max_pool_rates(self.x_TN, self.windows, self.share_T)


@final
@dataclass(frozen=True, eq=False)
class ConvolutionCall(Call):
    """A convolution of inputs, most of which may be 0. The answer is ``[N, K, H', W']``.

    ``x`` is ``[N, C, H, W]``. ``weight`` ``[K, C / groups, h, w]`` and ``bias`` ``[K]`` are used in
    the dtype of ``x``. ``stream`` holds weights laid out at earlier steps of a stream. Where it is
    ``learning``, only a training step hears of the answer. Then it may be rounded more than
    PyTorch's, by 5e-5 of its largest number. PyTorch's own convolution serves calls that no backend
    serves.

    >>> import torch
    >>> x, weight = torch.zeros(1, 2, 4, 4), torch.ones(3, 2, 3, 3)
    >>> ConvolutionCall(x, weight, None, stride=(1, 1), padding=(1, 1)).groups
    1
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    stream: Stream | None = None
    learning: bool = False


@final
@dataclass(frozen=True, eq=False)
class ConvolutionGradientCall(Call):
    """The gradients of a convolution by its input, weights and bias, for ``grad`` = dL/dy.

    The answer has three entries. One that is not ``wanted`` is None. They may be rounded as much
    as the answer to a `ConvolutionCall` that is learning.

    >>> import torch
    >>> x, weight = torch.zeros(1, 2, 4, 4), torch.ones(3, 2, 3, 3)
    >>> grad, wanted = torch.zeros(1, 3, 4, 4), (True, True, False)
    >>> ConvolutionGradientCall(grad, x, weight, (1, 1), (1, 1), wanted=wanted).wanted
    (True, True, False)
    """

    grad: Tensor
    x: Tensor
    weight: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    wanted: tuple[bool, bool, bool] = (True, True, True)

    def by_pytorch(self) -> tuple[Tensor | None, ...]:
        """Return what PyTorch computes.

        >>> import torch
        >>> grad, x, weight = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
        >>> call = ConvolutionGradientCall(grad, x, weight, (1, 1), (0, 0))
        >>> [int(each.sum()) for each in call.by_pytorch()]
        [9, 9, 1]
        """
        found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            *(self.grad, self.x, self.weight, [len(self.weight)]),
            *(self.stride, self.padding, self.dilation, False, [0, 0], self.groups, self.wanted),
        )
        return found
