"""The reference: the neuron's equation in plain PyTorch, to be read beside the paper.

Shapes: T timesteps, N samples; a trailing ``_TN`` means ``[T, N, ...]``, ``_N`` means ``[N, ...]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from leanspike.surrogate import Surrogate, Triangle

Reset = Literal["soft", "hard", "undecayed"]


@dataclass(frozen=True)
class Dynamics:
    """The behaviour of LIF neurons, apart from leak and threshold.

    ``reset``: what a spike does to the membrane. "soft": it loses one threshold. "hard": it becomes
    0. "undecayed": it loses the threshold in the next step, after the leak.
    ``initial``: the membrane starts at 0 ("zero") or at half the threshold ("half").
    ``height``: a spike is 1 ("unit") or as high as the threshold ("threshold").
    ``floor``: after each step the membrane is raised to at least −floor·v; None: it is not.

    >>> Dynamics(reset="hard")
    Dynamics(reset='hard', initial='zero', height='unit',
             surrogate=Triangle(gamma=0.3, width=1.0), floor=None)
    """

    reset: Reset = "soft"
    initial: Literal["zero", "half"] = "zero"
    height: Literal["unit", "threshold"] = "unit"
    surrogate: Surrogate = Triangle()
    floor: float | None = None


def initial_membrane(like_N: Tensor, threshold: Tensor, dynamics: Dynamics) -> Tensor:
    """Return u₀ for an input: float32, or float64 for float64 input, in the input's layout.

    >>> initial_membrane(torch.zeros(2), torch.tensor(1.5), Dynamics(initial="half"))
    tensor([0.7500, 0.7500])
    """
    dtype = torch.promote_types(like_N.dtype, torch.float32)
    u_N = torch.zeros_like(like_N, dtype=dtype)
    return u_N + threshold / 2 if dynamics.initial == "half" else u_N


def lif_step(
    u_N: Tensor, x_N: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """Compute one timestep from membrane and input; return the spikes and the new membrane.

    The comparison inside the reset carries no gradient, the subtracted threshold does. With the
    undecayed reset the new membrane is not reset yet.

    >>> u, x, leak, threshold = torch.tensor([[1.0, 0.5, 0.5, 1.0]]).T
    >>> lif_step(u, x, leak, threshold, Dynamics())  # u = 0.5 · 1 + 0.5 reaches 1, no more
    (tensor([0.]), tensor([1.]))
    >>> lif_step(u, 2 * x, leak, threshold, Dynamics())
    (tensor([1.]), tensor([0.5000]))
    """
    u_N = charged(u_N, x_N, leak, threshold, dynamics)
    o_N = dynamics.surrogate.spike(u_N / threshold - 1)
    u_N = discharged(u_N, o_N.detach(), threshold, dynamics)
    if dynamics.height == "threshold":
        o_N = threshold * o_N
    return o_N.to(x_N.dtype), u_N


def charged(
    u_N: Tensor, x_N: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> Tensor:
    """Return the membrane to compare with the threshold, from that after the last step.

    >>> u, x, leak, threshold = torch.tensor([[1.0, 0.5, 0.5, 1.0]]).T
    >>> charged(u, x, leak, threshold, Dynamics())
    tensor([1.])
    """
    last_N = u_N
    u_N = leak * u_N + x_N
    if dynamics.reset == "undecayed":
        u_N = u_N - threshold * (last_N / threshold - 1 > 0).to(u_N.dtype)
    return u_N


def discharged(u_N: Tensor, fired_N: Tensor, threshold: Tensor, dynamics: Dynamics) -> Tensor:
    """Return the membrane after a step, from the compared membrane and 1 where it fired.

    >>> discharged(torch.tensor([1.5]), torch.ones(1), torch.tensor(1.0), Dynamics())
    tensor([0.5000])
    >>> discharged(torch.tensor([-3.0]), torch.zeros(1), torch.tensor(1.0), Dynamics(floor=1.0))
    tensor([-1.])
    """
    if dynamics.reset == "soft":
        u_N = u_N - threshold * fired_N
    elif dynamics.reset == "hard":
        u_N = torch.where(fired_N > 0, 0.0, u_N)
    if dynamics.floor is not None:
        lowest = -dynamics.floor * threshold
        u_N = torch.where(u_N < lowest, lowest, u_N)
    return u_N


def lif(x_TN: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics) -> Tensor:
    """Compute all timesteps: spikes of the shape and dtype of ``x_TN``.

    The spikes are joined along the batch, which keeps a channels_last layout.
    """
    u_N = initial_membrane(x_TN[0], threshold, dynamics)
    spikes = []
    for x_N in x_TN:
        o_N, u_N = lif_step(u_N, x_N, leak, threshold, dynamics)
        spikes.append(o_N)
    return torch.cat(spikes).view(x_TN.shape)
