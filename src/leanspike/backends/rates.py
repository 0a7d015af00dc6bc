"""The derivative of LIF neurons' mean output, added up while they fire, in plain PyTorch.

Rate-based backpropagation (Yu et al., NeurIPS 2024, arXiv 2410.11488) goes back once, over means in
time. It needs the derivative of a neuron's mean output by its mean input: the change if the input
rises by the same amount at every step. It is known after the last step, and needs as many numbers
as one step has.

Shapes: T timesteps, N samples; a trailing ``_TN`` means ``[T, N, ...]``, ``_N`` means ``[N, ...]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from leanspike.backends.reference import Dynamics, charged, discharged, initial_membrane


@dataclass(frozen=True)
class Rates:
    """The outputs of all timesteps, and the derivatives of their mean over time.

    Attributes:
        o_TN: the outputs of all timesteps.
        by_input: ``[N, ...]``, the derivative of each neuron's mean output by its mean input.
        by: the derivatives by parameters, ``[N, ...]`` each, of each neuron by its own entry.
        mean_N: the mean output over time, ``[N, ...]``, if it was computed; see :meth:`mean`.

    >>> from leanspike import LIF
    >>> found = LIF().rates(torch.full((2, 1), 0.75), ())
    >>> found.o_TN.mean(0), found.by_input  # (0.3·0.75·1 + 0.3·0.5·2)/2
    (tensor([0.5000]), tensor([0.2625]))
    """

    o_TN: Tensor
    by_input: Tensor
    by: Mapping[str, Tensor]
    mean_N: Tensor | None = None

    def mean(self) -> Tensor:
        """Return the mean output over time, ``[N, ...]``."""
        return self.o_TN.mean(0) if self.mean_N is None else self.mean_N


@torch.no_grad()
def lif_rates(
    x_TN: Tensor,
    leak: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    learned: tuple[str, ...],
    arrival_T: Tensor | None = None,
) -> Rates:
    """Compute all timesteps of LIF neurons, with derivatives by input and ``learned`` parameters.

    For each p of mean input, leak λ and threshold v, e is ∂u/∂p at the comparison::

        e ← λ·e + ∂(λ·u + x)/∂p         which is 1, u or 0 beside
        d ← d + a·s'(z)·∂z/∂p           z = u/v − 1; ∂z/∂p = e/v, for v also −u/v²
        e ← e − o, for v                where the reset subtracts v; hard: e ← 0 where o = 1
        e ← 0, for v −floor             where the floor holds u

    The answer is d/T. For spikes of threshold height it is v·d/T, and for v plus the mean of a·o.
    The weight a of a step is that in ``arrival_T``, else 1.

    >>> x_TN, one = torch.full((1, 1), 0.75), torch.tensor(1.0)
    >>> found = lif_rates(x_TN, one, one, Dynamics(), ("leak", "threshold"))
    >>> found.by_input, found.by["leak"], found.by["threshold"]  # 0.3·0.75·(1, 0, −0.75)
    (tensor([0.2250]), tensor([0.]), tensor([-0.1688]))
    """
    u_N = initial_membrane(x_TN[0], threshold, dynamics)
    zero = torch.zeros_like(leak)
    start = 0.5 if dynamics.initial == "half" else 0.0
    by_u = {"input": zero, "leak": zero, "threshold": zero + start}
    by_u = {name: e for name, e in by_u.items() if name == "input" or name in learned}
    sums = {name: torch.zeros_like(u_N) for name in by_u}
    arrival = [1.0] * len(x_TN) if arrival_T is None else arrival_T.tolist()
    outputs, fired_N = [], torch.zeros_like(u_N)
    for x_N, weight in zip(x_TN, arrival, strict=True):
        by_u = _charged(by_u, u_N, leak, threshold, dynamics)
        u_N = charged(u_N, x_N, leak, threshold, dynamics)
        z_N = u_N / threshold - 1
        slope_N = weight * dynamics.surrogate.derivative(z_N) / threshold
        for name, e in by_u.items():
            moved = e - u_N / threshold if name == "threshold" else e
            sums[name] += slope_N * moved
        fired_N = dynamics.surrogate.spike(z_N)
        u_N = discharged(u_N, fired_N, threshold, dynamics)
        by_u = _floored(_discharged(by_u, fired_N, dynamics), u_N, threshold, dynamics)
        o_N = threshold * fired_N if dynamics.height == "threshold" else fired_N
        outputs.append(o_N.to(x_N.dtype))
    by = _of_means(sums, outputs, arrival, threshold, dynamics)
    return Rates(torch.cat(outputs).view(x_TN.shape), by.pop("input"), by)


def _charged(
    by_u: Mapping[str, Tensor], u_N: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> dict[str, Tensor]:
    """Return the derivatives of the compared membrane, from those of the membrane before."""
    found = {name: leak * e for name, e in by_u.items()}
    found["input"] = found["input"] + 1
    if "leak" in found:
        found["leak"] = found["leak"] + u_N
    if "threshold" in found and dynamics.reset == "undecayed":
        found["threshold"] = found["threshold"] - (u_N / threshold - 1 > 0).to(u_N.dtype)
    return found


def _discharged(
    by_u: Mapping[str, Tensor], fired_N: Tensor, dynamics: Dynamics
) -> dict[str, Tensor]:
    """Return the derivatives of the membrane after the reset. The comparison has none."""
    if dynamics.reset == "hard":
        return {name: torch.where(fired_N > 0, 0.0, e) for name, e in by_u.items()}
    if dynamics.reset == "undecayed" or "threshold" not in by_u:
        return dict(by_u)
    return {**by_u, "threshold": by_u["threshold"] - fired_N}


def _floored(
    by_u: Mapping[str, Tensor], u_N: Tensor, threshold: Tensor, dynamics: Dynamics
) -> dict[str, Tensor]:
    """Return the derivatives of a membrane that is held at −floor·v."""
    if dynamics.floor is None:
        return dict(by_u)
    held_N = u_N <= -dynamics.floor * threshold
    low = {"threshold": -dynamics.floor}
    return {name: torch.where(held_N, low.get(name, 0.0), e) for name, e in by_u.items()}


def _of_means(
    sums: Mapping[str, Tensor],
    outputs: list[Tensor],
    arrival: list[float],
    threshold: Tensor,
    dynamics: Dynamics,
) -> dict[str, Tensor]:
    """Return the derivatives of the mean output, from sums over steps."""
    height = threshold if dynamics.height == "threshold" else 1.0
    found = {name: height * (total / len(outputs)) for name, total in sums.items()}
    if "threshold" in found and dynamics.height == "threshold":
        wide = found["threshold"].dtype
        weighted = [a * o_N.to(wide) for a, o_N in zip(arrival, outputs, strict=True)]
        found["threshold"] = found["threshold"] + torch.stack(weighted).mean(0) / threshold
    return found
