"""The neuron's equation, and whatever computes it faster with the same results.

`lif` and `lif_step` choose: the native code for float32 and bfloat16 on the CPU, else the
reference. The environment variable ``LEANSPIKE_KERNEL`` says otherwise (`leanspike.native`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from leanspike.backend import note_backend
from leanspike.native import is_chosen
from leanspike.neuron.kernels import native, reference
from leanspike.neuron.kernels.reference import Dynamics, Reset

__all__ = ["Dynamics", "Reset", "lif", "lif_step"]


def lif(x_TN: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics) -> Tensor:
    """Spikes of all timesteps, ``[T, N, ...]`` like the input, by the fastest kernel for it.

    >>> import torch
    >>> x_TN = torch.tensor([[0.75], [0.75], [0.75]])
    >>> lif(x_TN, torch.tensor(1.0), torch.tensor(1.0), Dynamics()).flatten().tolist()
    [0.0, 1.0, 1.0]
    """
    if native.serves(x_TN, leak, threshold, dynamics) and is_chosen():
        note_backend("native")
        return native.lif(x_TN, leak, threshold, dynamics)
    note_backend("reference")
    return reference.lif(x_TN, leak, threshold, dynamics)


def lif_step(
    u_N: Tensor | None, x_N: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """One timestep: the membrane and the input in, the spikes and the new membrane out.

    Without a membrane it is the first one. With gradients it is the reference's.

    >>> import torch
    >>> u, x, leak, threshold = torch.tensor([[1.0, 1.0, 0.5, 1.0]]).T
    >>> lif_step(u, x, leak[0], threshold[0], Dynamics())  # u = 0.5 · 1 + 1 fires, loses 1
    (tensor([1.]), tensor([0.5000]))
    """
    inputs = x_N if u_N is None else u_N, x_N, leak, threshold
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    alike = u_N is None or (u_N.dtype == torch.float32 and u_N.shape == x_N.shape)
    known = alike and not learns and native.serves(x_N.unsqueeze(0), leak, threshold, dynamics)
    if known and is_chosen():
        note_backend("native")
        return native.lif_step(u_N, x_N, leak, threshold, dynamics)
    note_backend("reference")
    if u_N is None:
        u_N = reference.initial_membrane(x_N, threshold, dynamics)
    return reference.lif_step(u_N, x_N, leak, threshold, dynamics)
