"""Common parts of the architectures: checks, widths, activated convolutions, first weights."""

from __future__ import annotations

import math

from torch import nn

from leanspike.errors import LeanspikeError


def check_counts(**counts: int) -> None:
    """Raise LeanspikeError unless every count is a whole number of 1 or more.

    >>> check_counts(num_classes=0)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: num_classes is 0; give a whole number of 1 or more
    """
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise LeanspikeError(f"{name} is {count!r}; give a whole number of 1 or more")


def check_dropout(**probabilities: float) -> None:
    """Raise LeanspikeError unless every probability of dropping lies in [0, 1).

    >>> check_dropout(dropout_conv=1.0)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: dropout_conv is 1.0; give a probability in [0, 1)
    """
    for name, probability in probabilities.items():
        if not 0 <= probability < 1:
            raise LeanspikeError(f"{name} is {probability}; give a probability in [0, 1)")


def scaled(channels: int, width: float) -> int:
    """Return ``channels × width``, rounded to a whole number and at least 1.

    >>> scaled(64, 0.125), scaled(64, 0.001), scaled(64, 1.5)
    (8, 1, 96)

    Raises:
        LeanspikeError: if ``channels`` is below 1, or ``width`` not a finite number above 0.
    """
    check_counts(channels=channels)
    if not (math.isfinite(width) and width > 0):
        raise LeanspikeError(f"width is {width}; give a number above 0 (1 is the published size)")
    return max(1, round(channels * width))


def activated_convolution(
    number: int,
    in_channels: int,
    channels: int,
    *,
    stride: int = 1,
    bias: bool = False,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> dict[str, nn.Module]:
    """Return a 3×3 convolution (padding 1) → [norm] → relu → [dropout], as modules by name.

    >>> list(activated_convolution(2, 3, 8, batch_norm=True, dropout=0.2))
    ['conv2', 'norm2', 'relu2', 'dropout2']
    """
    conv = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=bias)
    modules: dict[str, nn.Module] = {f"conv{number}": conv}
    if batch_norm:
        modules[f"norm{number}"] = nn.BatchNorm2d(channels)
    modules[f"relu{number}"] = nn.ReLU()
    if dropout > 0:
        modules[f"dropout{number}"] = nn.Dropout(dropout)
    return modules


def initialise_weights(
    model: nn.Module, xavier_gain: float | None = None, linear_std: float | None = None
) -> None:
    """Draw the first weights of the convolutions, and set biases and norms to their neutral values.

    - convolution: He normal, ``std = sqrt(2 / (kernel area × output channels))`` ("fan out"),
      He et al. 2015 (arXiv 1502.01852, eq. 14), as in DIET-SNN;
    - linear: left as PyTorch draws it, uniform with ``std = sqrt(1 / (3 × inputs))``. DIET-SNN's
      code has normal numbers of std 0.01 for any inputs: ``linear_std=0.01``. For 4096 inputs that
      is near PyTorch's (0.009), but it would starve a narrower head of its signal;
    - batch norm: weight 1; every bias 0.

    With ``xavier_gain`` convolutions and linear layers are instead uniform within
    ± gain·sqrt(6 / (fan in + fan out)), as in Glorot & Bengio 2010. BNTT's code has the gain 2.
    Linear layers use ``linear_std`` if both are given.

    The same ``torch.manual_seed`` before a network is built gives the same weights.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> conv = nn.Conv2d(3, 100, 3)
    >>> initialise_weights(conv)
    >>> abs(conv.weight.std().item() - (2 / 900) ** 0.5) < 0.002, conv.bias.abs().max().item()
    (True, 0.0)

    Raises:
        LeanspikeError: if ``linear_std`` is not a finite number above 0.
    """
    if linear_std is not None and not (math.isfinite(linear_std) and linear_std > 0):
        raise LeanspikeError(f"linear_std is {linear_std}; give a number above 0, or leave it out")
    for module in model.modules():
        if isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
        elif isinstance(module, nn.Conv2d | nn.Linear) and xavier_gain is not None:
            nn.init.xavier_uniform_(module.weight, gain=xavier_gain)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        elif not isinstance(module, nn.Linear):
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
