"""The LIF neuron's equation, computed by the fastest backend that serves a call.

`leanspike.backends` chooses it; the environment variable ``LEANSPIKE_BACKEND`` overrides that.
"""

from __future__ import annotations

from torch import Tensor

from leanspike.backends import (
    Dynamics,
    LIFCall,
    LIFRateCall,
    LIFStepCall,
    Rates,
    Reset,
    choose,
)

__all__ = ["Dynamics", "Reset", "lif", "lif_rates", "lif_step"]


def lif(x_TN: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics) -> Tensor:
    """Return the spikes of all timesteps, ``[T, N, ...]`` like the input.

    >>> import torch
    >>> x_TN = torch.tensor([[0.75], [0.75], [0.75]])
    >>> lif(x_TN, torch.tensor(1.0), torch.tensor(1.0), Dynamics()).flatten().tolist()
    [0.0, 1.0, 1.0]
    """
    call = LIFCall(x_TN, leak, threshold, dynamics)
    spikes: Tensor = choose(call).run(call)
    return spikes


def lif_step(
    u_N: Tensor | None, x_N: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """Compute one timestep from membrane and input; return the spikes and the new membrane.

    If ``u_N`` is None, it is the first timestep.

    >>> import torch
    >>> u, x, leak, threshold = torch.tensor([[1.0, 1.0, 0.5, 1.0]]).T
    >>> lif_step(u, x, leak[0], threshold[0], Dynamics())  # u = 0.5 · 1 + 1 fires, loses 1
    (tensor([1.]), tensor([0.5000]))
    """
    call = LIFStepCall(u_N, x_N, leak, threshold, dynamics)
    found: tuple[Tensor, Tensor] = choose(call).run(call)
    return found


def lif_rates(
    x_TN: Tensor,
    leak: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    learned: tuple[str, ...],
    arrival_T: Tensor | None = None,
) -> Rates:
    """Return the spikes of all steps, and their mean's derivatives by input, leak and threshold.

    >>> import torch
    >>> x_TN, one = torch.full((2, 1), 0.75), torch.tensor(1.0)
    >>> lif_rates(x_TN, one, one, Dynamics(), ()).by_input  # (0.3·0.75·1 + 0.3·0.5·2)/2
    tensor([0.2625])
    """
    call = LIFRateCall(x_TN, leak, threshold, dynamics, learned, arrival_T)
    found: Rates = choose(call).run(call)
    return found
