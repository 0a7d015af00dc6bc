"""Rate gradients: at which steps the gradient of a value arrives.

A neuron that remembers hears an early input at many steps, a late one at few. So the gradient of
its input arrives mostly at early steps, the more so the more such neurons lie behind. But the
derivative of a neuron's mean output is largest at late steps, as its membrane holds all inputs so
far. Products of means over time would count early gradients with late derivatives, which have no
part in one another. The gradient would grow with depth: for neurons without a leak by up to
(T + 1)/2 a layer, of which backpropagation through time has a part only. Hence each step's output
counts with its share of the gradient, a: the mean output that is differentiated is mean(a_t·o_t).

The shares come from the graph. At the answer all are 1. Neurons whose membrane keeps h_j of an
input after j steps turn the shares a of their output into Σ_{j≥0} h_j·a_{t+j} of their input. A
value that several operations read has the mean of theirs. Each is scaled so that its mean is 1.
Where no neuron remembers all shares are 1, as in the paper (arXiv 2410.11488), which has no shares.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from leanspike.execute.fused import fire_normalised
from leanspike.graph.modules import submodule
from leanspike.neuron import Neuron


def arrivals(graph: fx.Graph, root: nn.Module, timesteps: int) -> dict[str, Tensor]:
    """Return the shares of the steps in the gradient of each node's value, ``[T]``, by its name.

    Nodes whose value leads to no answer are not in it.

    >>> from leanspike import LIF, spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    >>> snn = spike(ann, example_input=torch.zeros(1, 2), neuron=LIF(leak=0.5))
    >>> found = arrivals(snn.plan.graph, snn, 2)
    >>> found["_1_1"], found["_0"].float()  # of the neurons; of what they read: 1 + 1/2 and 1
    (tensor([1., 1.], dtype=torch.float64), tensor([1.2000, 0.8000]))
    """
    found: dict[str, Tensor] = {}
    for node in reversed(graph.nodes):
        if node.op == "output":
            found[node.name] = torch.ones(timesteps, dtype=torch.float64)
            continue
        asked = [
            _at_input(user, root, found[user.name]) for user in node.users if user.name in found
        ]
        if asked:
            found[node.name] = torch.stack(asked).mean(0)
    return found


def _at_input(node: fx.Node, root: nn.Module, share_T: Tensor) -> Tensor:
    """Return the shares of what a node reads, from those of its own value."""
    neuron = neuron_at(node, root)
    if neuron is None:
        return share_T
    kept_T, steps = neuron.memory(len(share_T)).double(), torch.arange(len(share_T))
    after = steps - steps.unsqueeze(1)
    found = torch.where(after >= 0, kept_T[after], 0.0) @ share_T
    total = found.sum()
    return found * (len(found) / total) if total > 0 else share_T  # a neuron that hears nothing


def neuron_at(node: fx.Node, root: nn.Module) -> Neuron | None:
    """Return the neurons that a node runs, with a norm or without."""
    at = node.args[1] if node.target is fire_normalised else node
    if not isinstance(at, fx.Node):
        return None
    found = root.get_submodule(str(at.target)) if at.op == "get_attr" else submodule(root, at)
    return found if isinstance(found, Neuron) else None


def weighted_mean(x_TN: Tensor, share_T: Tensor) -> Tensor:
    """Return the mean of steps that count by shares, ``[N, ...]``.

    >>> weighted_mean(torch.tensor([[1.0], [3.0]]), torch.tensor([1.5, 0.5]))
    tensor([1.5000])
    """
    wide = torch.promote_types(x_TN.dtype, torch.float32)
    total_N = torch.zeros_like(x_TN[0], dtype=wide)
    for x_N, share in zip(x_TN, share_T.tolist(), strict=True):
        total_N.add_(x_N, alpha=share / len(x_TN))
    return total_N.to(x_TN.dtype)


def mean_of(x_TN: Tensor) -> Tensor:
    """Return the plain mean of steps, ``[N, ...]``.

    >>> mean_of(torch.tensor([[1.0], [3.0]], dtype=torch.bfloat16))
    tensor([2.], dtype=torch.bfloat16)
    """
    if x_TN.dtype != torch.bfloat16 or not x_TN.is_cpu:
        return x_TN.mean(0)
    return weighted_mean(x_TN, torch.ones(len(x_TN)))  # PyTorch's takes three times as long
