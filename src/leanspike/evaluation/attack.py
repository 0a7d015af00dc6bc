"""Attacks: changes of the pixels, too small to matter to us, that hurt a network the most.

Attacks follow the network's own gradient at the pixels. An SNN's gradient is made of the surrogate
derivatives that it is trained with, through all steps and layers. Pixels are float32 in [0, 1],
before normalisation. ε is in the same units (8/255, say). No value moves by more than ε (L∞), and
none leaves [0, 1]. The network runs in eval mode. Its parameters, their ``.grad`` and its modes
stay as they are.

The loss is ``log Σ_{j≠y} exp z_j − z_y``: by how much the other classes outweigh the label y. z is
the readout "sum" of all steps. One output z stands for two, (0, z).

Cross-entropy is ``log(1 + exp loss)``. Its gradient is the loss's times the probability of a wrong
answer. The signs are therefore the same, and both agree on which attack is worse. If a network is
sure, this probability rounds to 0. The sum makes an SNN T times as sure as its mean, so the SNN
would seem robust for that alone. The loss's own gradient does not fade.

Shapes: N samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanspike.data.draws import Draws
from leanspike.errors import LeanspikeError
from leanspike.evaluation.answers import outputs
from leanspike.evaluation.score import one_tensor
from leanspike.evaluation.which_task import find_task
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork, readout


def network_input(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Compute (x − mean) / std, with a gradient.

    ``leanspike.data.normalise`` does the same with the images' bytes.

    Raises:
        LeanspikeError: if the constants do not fit the channels.

    >>> network_input(torch.ones(1, 1, 1, 1), mean=(0.5,), std=(0.25,))
    tensor([[[[2.]]]])
    """
    channels = x.shape[1]
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise LeanspikeError(
            f"mean {tuple(mean)} and std {tuple(std)} do not fit images of {channels} channels; "
            f"give {channels} numbers each, std positive"
        )
    constants = x.new_tensor([list(mean), list(std)])[:, :, None, None]
    return (x - constants[0]) / constants[1]


def pixel_gradient(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Return the gradient of each sample's loss (see the module) at its pixels, ``[N, C, H, W]``.

    Args:
        network: an ANN, or an SNN, which takes ``snn.timesteps`` steps.
        x: pixels, floating point ``[N, C, H, W]`` in [0, 1].
        labels: classes, int64 ``[N]``.
        mean, std: constants of the normalisation, one number for each channel.

    Raises:
        LeanspikeError: for pixels of another type, shape or range, or an SNN whose input is drawn
            as spikes.

    >>> one_pixel = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    >>> _ = one_pixel[1].weight.data.copy_(torch.tensor([[0.0], [2.0]]))  # logits 0 and 2x
    >>> x, labels = torch.zeros(1, 1, 1, 1), torch.tensor([0])
    >>> pixel_gradient(one_pixel, x, labels, mean=[0], std=[1]).item()  # of 2x − 0
    2.0
    """
    _check(network, x)
    x = x.detach().requires_grad_()
    with torch.enable_grad(), eval_mode(network):
        loss = _losses(network, x, labels, mean, std).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def fgsm(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Attack by the fast gradient sign method: ``x + ε·sign(∂loss/∂x)``, cut off to [0, 1].

    Source: Goodfellow et al. 2015 (arXiv 1412.6572, section 4). Their loss is the cross-entropy,
    whose gradient has the same signs. The function returns pixels like ``x``. The arguments are
    those of :func:`pixel_gradient`, and ε in [0, 1].

    Raises:
        LeanspikeError: as in :func:`pixel_gradient`, and for an ε out of range.

    >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> x, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 2])
    >>> attacked = fgsm(ann, x, labels, 8 / 255, mean=[0.5], std=[0.5])
    >>> round((attacked - x).abs().max().item() * 255)
    8
    """
    check_epsilon(epsilon)
    gradient = pixel_gradient(network, x, labels, mean=mean, std=std)
    return (x + epsilon * gradient.sign()).clamp(0, 1)


def pgd(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int = 10,
    step_size: float | None = None,
    restarts: int = 1,
    seed: int = 0,
    positions: Tensor | None = None,
) -> Tensor:
    """Attack by projected gradient descent: signed steps within ε of x, from a random start.

    Source: Madry et al. 2018 (arXiv 1706.06083, section 2.1). The function returns, for each
    sample, the end of the restart with the largest loss. Other arguments are as in :func:`fgsm`.

    Args:
        steps: 1 or more.
        step_size: above 0; default 2.5·ε / steps, so that any point within ε can be reached.
        restarts: 1 or more.
        seed: decides the random starts, 0 or more.
        positions: the samples' positions in their split, int64 ``[N]``, default 0..N−1. With the
            seed they decide the start, which then does not depend on the batch.

    Raises:
        LeanspikeError: as in :func:`fgsm`, and for numbers out of range.

    >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> x, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 2])
    >>> attacked = pgd(ann, x, labels, 8 / 255, mean=[0.5], std=[0.5], steps=3)
    >>> (attacked - x).abs().max().item() * 255 < 8.001
    True
    """
    _check(network, x)
    check_epsilon(epsilon)
    for name, count in (("steps", steps), ("restarts", restarts)):
        if count < 1:
            raise LeanspikeError(f"{name} is {count}; give 1 or more")
    size = 2.5 * epsilon / steps if step_size is None else step_size
    if size < 0 or (step_size is not None and size == 0):
        raise LeanspikeError(f"step_size is {step_size}; give a number above 0")
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    worst = x
    largest = x.new_full(labels.shape, -math.inf)
    where = range(len(x)) if positions is None else positions.tolist()
    for restart in range(restarts):
        start = Draws(seed, where, stream=1 + restart).uniform(*x.shape[1:]).to(x)
        attacked = torch.lerp(low, high, start)
        for _ in range(steps):
            gradient = pixel_gradient(network, attacked, labels, mean=mean, std=std)
            attacked = (attacked + size * gradient.sign()).clamp(low, high)
        with torch.no_grad(), eval_mode(network):
            losses = _losses(network, attacked, labels, mean, std)
        worst = torch.where((losses > largest)[:, None, None, None], attacked, worst)
        largest = torch.maximum(losses, largest)
    return worst


def _losses(
    network: nn.Module, x: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Return by how much the other classes outweigh each sample's label, ``[N]``."""
    y_TN = one_tensor(outputs(network, network_input(x, mean, std)))
    task = find_task(y_TN.detach(), labels)
    if task is None or task.unit(y_TN.detach()) != "sample":
        raise LeanspikeError(
            f"outputs of shape {list(y_TN.shape[1:])} and labels of shape {list(labels.shape)}; an "
            "attack is on one answer for each sample: classes [N, K], or yes or no [N, 1], with "
            "labels [N]"
        )
    logits_NC = task.logits(readout(y_TN, "sum")[-1:])[0]
    right = task.targets(labels, y_TN)[:, None]
    others_NC = logits_NC.scatter(1, right, -math.inf)
    return others_NC.logsumexp(1) - logits_NC.gather(1, right)[:, 0]


def _check(network: nn.Module, x: Tensor) -> None:
    if not x.is_floating_point() or x.dim() != 4 or len(x) == 0:
        raise LeanspikeError(
            f"pixels are {x.dtype} {list(x.shape)}; give floating point [N, C, H, W] in [0, 1]"
        )
    if x.min() < 0 or x.max() > 1:
        raise LeanspikeError(
            f"pixels range from {x.min():.3g} to {x.max():.3g}; give them in [0, 1], not normalised"
        )
    check_attackable(network)


def check_attackable(network: nn.Module) -> None:
    """Raise LeanspikeError if no gradient reaches the pixels of a network.

    >>> check_attackable(nn.Linear(1, 1))
    """
    if isinstance(network, SpikingNetwork) and network.plan.encoder.emits == "spike":
        raise LeanspikeError(
            "the input is drawn as spikes, which let no gradient through to the pixels; "
            "attack a network with encode='direct'"
        )


def check_epsilon(epsilon: float) -> None:
    """Raise LeanspikeError unless ε lies in [0, 1].

    >>> check_epsilon(8)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: epsilon is 8; give a number in [0, 1], such as 8/255
    """
    if not 0 <= epsilon <= 1:
        raise LeanspikeError(f"epsilon is {epsilon}; give a number in [0, 1], such as 8/255")
