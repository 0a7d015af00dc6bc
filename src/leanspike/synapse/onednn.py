"""Ways around convolutions whose gradients oneDNN, PyTorch's library, computes wrongly.

`benchmarks/convolution_gradients.py` found them in torch 2.6.0, 2.13.0, 2.14.1 and 2.15.0, which
have oneDNN 3.5 to 3.13. No version is assumed to be free of these faults. There are two kinds:

- 1x1 convolutions with a stride, in channels_last, where the stride divides the image. They have
  more than one input channel, but less than a block: 16 with AVX-512, 8 with AVX2. The gradient of
  the weights is written outside its memory. That is a crash, a loop without end, or wrong weights.
  With AVX-512 it happens in several threads only. The way around is stride 1 over the pixels that
  are read, which gives the same.
- Padded convolutions with a stride, of images narrower than that, in bfloat16 with AVX-512. The
  gradient of the weights is uninitialised memory. The way around is an image padded beforehand,
  which gives the same.

A layer takes the way around in place of its ``_conv_forward``, where PyTorch's classes call the
convolution. Its class, its parameters, their paths and its hooks do not change. Other layers do not
change, and on processors without these kernels no layer does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from leanspike.processor import instructions
from leanspike.synapse.pooling import pair
from leanspike.synapse.stand_in import StandIn

BLOCK = {"none": 0, "avx2": 8, "avx512": 16, "avx512_bf16": 16}
"""The channels that oneDNN computes together, by instruction set. With fewer it fails."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
PLACE, BARE = "_conv_forward", ((0, 0), "valid")


@dataclass(eq=False)
class Strided:
    """The way around the first kind, for the layer as it is when called."""

    layer: nn.Conv2d

    def applies(self, x: Tensor) -> bool:  # noqa: ARG002
        """Return whether an input needs the way around."""
        return self.layer.padding in BARE

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the 1x1 convolution."""
        layer = self.layer
        if self.applies(x):
            return F.conv2d(_read(x, *pair(layer.stride)), weight, bias)
        return F.conv2d(x, weight, bias, layer.stride, layer.padding)


@dataclass(eq=False)
class Padded:
    """The way around the second kind, for the layer as it is when called."""

    layer: Convolution

    def applies(self, x: Tensor) -> bool:
        """Return whether an input needs the way around."""
        return x.shape[-1] < self.layer.stride[-1] and not isinstance(self.layer.padding, str)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the convolution in 1, 2 or 3 dimensions."""
        layer, padding = self.layer, self.layer.padding
        if self.applies(x):
            assert not isinstance(padding, str)
            x, padding = F.pad(x, (padding[-1], padding[-1])), (*padding[:-1], 0)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
        return convolve(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)


def _read(x: Tensor, rows: int, columns: int) -> Tensor:
    """Return the pixels that a 1x1 convolution reads. The gradient has the image's layout."""
    if x.dim() == 4 and x.stride(1) == 1:  # else it would be contiguous, and slow what follows
        return x.movedim(1, -1)[:, ::rows, ::columns].movedim(-1, 1)
    return x[..., ::rows, ::columns]


def step_around(network: nn.Module) -> None:
    """Give a network's layers the ways around permanently, and say so once in a process.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 1, stride=2))
    >>> step_around(network)
    >>> x = torch.randn(2, 3, 6, 6)
    >>> expected = F.conv2d(x, network[0].weight, network[0].bias, stride=2)
    >>> torch.allclose(network(x), expected, atol=1e-5)
    True
    """
    for path, layer in network.named_modules():
        way = way_around(layer)
        if way is not None:
            layer.__dict__[PLACE] = way
        if isinstance(way, Strided):
            _say_once(path, layer)


@contextmanager
def stepping_around(*networks: nn.Module) -> Iterator[None]:
    """Use the ways around inside the context, for convolutions that are no modules, too.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 1, stride=2))
    >>> with stepping_around(network):
    ...     network(torch.randn(2, 3, 6, 6)).sum().backward()
    >>> PLACE in vars(network[0])
    False
    """
    modules = [module for network in networks for module in network.modules()]
    with ExitStack() as stack:
        for module in modules:
            way = way_around(module)
            if way is not None and PLACE not in module.__dict__:
                module.__dict__[PLACE] = way
                stack.callback(module.__dict__.pop, PLACE)
        if any(map(_may_hide_others, modules)):
            stack.enter_context(_Careful(BLOCK[instructions()]))
        yield


def is_stepped_around(layer: nn.Module, x: Tensor) -> bool:
    """Return whether a layer takes a way around for such an input.

    >>> is_stepped_around(nn.Conv2d(3, 8, 1, stride=2), torch.zeros(1, 3, 4, 4))
    False
    """
    way = layer.__dict__.get(PLACE)
    return isinstance(way, Strided | Padded) and way.applies(x)


def way_around(layer: nn.Module) -> Strided | Padded | None:
    """Return the way around for a layer on this processor, or None if it needs none.

    >>> way_around(nn.Linear(2, 2)), way_around(nn.Conv2d(16, 8, 1, stride=2))
    (None, None)
    """
    if not isinstance(layer, Convolution) or not calls_pytorchs(layer):
        return None
    if not isinstance(layer.__dict__.get(PLACE), Strided | Padded | None):  # set by other code
        return None
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    if kernel == (1, 1) and stride != (1, 1) and padding in BARE:
        few = layer.in_channels != 1 and layer.in_channels < BLOCK[instructions()]  # 0: lazy
        assert isinstance(layer, nn.Conv2d)
        return Strided(layer) if few and layer.groups == 1 else None
    if not instructions().startswith("avx512") or isinstance(padding, str):
        return None
    if padding[-1] == 0 or layer.padding_mode != "zeros" or min(kernel[-1], stride[-1]) == 1:
        return None
    return Padded(layer)


def calls_pytorchs(layer: nn.Module) -> bool:
    """Return whether a layer's class leaves the convolution to PyTorch's, in ``_conv_forward``.

    >>> calls_pytorchs(nn.Conv2d(2, 2, 3))
    True
    """
    theirs = (getattr(kind, PLACE) for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    return getattr(type(layer), PLACE, None) in theirs


def _may_hide_others(module: nn.Module) -> bool:
    """Whether a module may hold layers of the first kind that ``_conv_forward`` does not reach.

    It may have weights of that kind and its own forward. It may be a transposed convolution with
    such weights, since its gradient computes such a convolution. Or it may be compiled.
    """
    block = BLOCK[instructions()]
    own = [p for p in module.parameters(recurse=False) if not is_lazy(p)]
    if any(p.dim() == 4 and _is_narrow(p, block) for p in own):
        plain = isinstance(module, nn.Conv2d) and type(module).forward is nn.Conv2d.forward
        return not (plain and calls_pytorchs(module)) and not isinstance(module, StandIn)
    compiled = "_orig_mod" in module._modules or module._compiled_call_impl is not None
    return compiled and any(isinstance(way_around(m), Strided) for m in module.modules())


def _is_narrow(weight: Tensor, block: int) -> bool:
    """Whether weights are 1x1 and have less than a block of channels."""
    return weight.shape[1] < block and weight.shape[2:] == (1, 1)


class _Careful(TorchFunctionMode):
    """Gives every call of a convolution in Python the way around the first kind."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.conv2d:
            return _conv2d(self.block, *args, **(kwargs or {}))
        if func is F.conv_transpose2d:
            return _conv_transpose2d(self.block, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    block: int,
    input: Tensor,  # noqa: A002 (the names are PyTorch's)
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    bare = padding == "valid" or _is_zero(padding)
    if _is_narrow(weight, block) and groups == 1 and bare:
        return F.conv2d(_read(input, *pair(stride)), weight, bias)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose2d(
    block: int,
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    kind = _is_narrow(weight, block) and groups == 1
    if not kind or not _is_zero(padding) or _is_zero(output_padding):
        return F.conv_transpose2d(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    rows, columns = pair(output_padding)  # behind what is computed: the bias alone
    y = F.conv_transpose2d(input, weight, None, stride, padding, 0, groups, dilation)
    y = F.pad(y, (0, columns, 0, rows))
    return y if bias is None else y + bias.to(y.dtype).view(-1, 1, 1)


def _is_zero(padding: Any) -> bool:
    return not isinstance(padding, str) and pair(padding) == (0, 0)


@cache
def _told() -> list[str]:
    """Return the layers of the first kind that this process has reported."""
    return []


def _say_once(path: str, layer: nn.Module) -> None:
    if not _told():
        _told().append(path)
        assert isinstance(layer, nn.Conv2d)
        logging.getLogger("leanspike").warning(
            "layer %r (1x1, stride %s, %d input channels): for its gradient PyTorch %s can write "
            "outside its memory on this processor (%s); leanspike computes it in another way, "
            "which takes no longer; you need to do nothing",
            *(path, layer.stride, layer.in_channels, torch.__version__, instructions()),
        )
