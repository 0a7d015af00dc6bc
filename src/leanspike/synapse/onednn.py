"""Convolutions whose gradients oneDNN, PyTorch's library for them, gets wrong, and ways around.

`benchmarks/convolution_gradients.py` found them, in each of torch 2.6.0, 2.13.0, 2.14.1 and 2.15.0
(oneDNN 3.5 to 3.13): no version is taken to be free of them.

- 1x1 convolutions with a stride and more than one input channel but less than a block of them (16
  with AVX-512, 8 with AVX2), in channels_last, where the stride divides the image: the gradient of
  the weights writes outside its memory (a crash, a loop without end, wrong weights), with AVX-512
  in several threads only. Without the pixels behind the last that the layer reads, the stride does
  not divide the image, and another kernel computes the same.
- Padded convolutions with a stride, of images narrower than that, in bfloat16 with AVX-512: the
  gradient of the weights is memory that nobody wrote. With zeros on the right, which are padding
  already, the image is as wide as the stride.

Both are done to the input, in a hook before the layer's forward pass: its class, its parameters and
their paths stay as they are. Other layers have no hook, and none has one on other processors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from leanspike.processor import instructions
from leanspike.synapse.pooling import pair

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]

BLOCK = {"none": 0, "avx2": 8, "avx512": 16, "avx512_bf16": 16}
"""The channels that oneDNN computes together, by its instructions: with less it goes wrong."""


def step_around(network: nn.Module) -> None:
    """Keep a network's layers from what oneDNN gets wrong here, for good; say so once.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 1, stride=2))
    >>> step_around(network)
    >>> x = torch.randn(2, 3, 6, 6)
    >>> expected = F.conv2d(x, network[0].weight, network[0].bias, stride=2)
    >>> torch.allclose(network(x), expected, atol=1e-5)
    True
    """
    for path, layer in network.named_modules():
        hook = _needed(layer)
        if hook is not None:
            layer.register_forward_pre_hook(hook, with_kwargs=True)
        if hook is _leave_out:
            _say_once(path, layer)


@contextmanager
def stepping_around(*networks: nn.Module) -> Iterator[None]:
    """The same for as long as the context lasts, and for convolutions that are no modules, too.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 1, stride=2))
    >>> with stepping_around(network):
    ...     network(torch.randn(2, 3, 6, 6)).sum().backward()
    >>> len(network[0]._forward_pre_hooks)
    0
    """
    modules = [module for network in networks for module in network.modules()]
    with ExitStack() as stack:
        for module in modules:
            hook = _needed(module)
            if hook is not None:
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
        if any(map(_may_hide_others, modules)):
            stack.enter_context(_Careful(BLOCK[instructions()]))
        yield


def _needed(layer: nn.Module) -> Hook | None:
    """The hook that a layer lacks."""
    hook = _way_around(layer) if isinstance(layer, Convolution) else None
    return None if hook in layer._forward_pre_hooks.values() else hook


def _way_around(layer: Convolution) -> Hook | None:
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    if kernel == (1, 1) and stride != (1, 1) and padding in ((0, 0), "valid"):
        few = layer.in_channels != 1 and layer.in_channels < BLOCK[instructions()]
        return _leave_out if few and layer.groups == 1 else None
    if not instructions().startswith("avx512") or isinstance(padding, str):
        return None
    padded = padding[-1] > 0 and layer.padding_mode == "zeros"
    return _widen if padded and kernel[-1] > 1 and stride[-1] > 1 else None


def _leave_out(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Before a layer of the first kind: without the pixels that it does not read anyway."""
    assert isinstance(layer, nn.Conv2d)
    rows, columns = layer.stride
    return _with_input(lambda x: _read(x, rows, columns), args, kwargs)


def _widen(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Before a layer of the second kind: as wide as its stride, where the output is the same."""
    assert isinstance(layer, Convolution)
    assert not isinstance(layer.padding, str)
    stride, reach = layer.stride[-1], layer.dilation[-1] * (layer.kernel_size[-1] - 1) + 1
    spare = 2 * layer.padding[-1] - reach

    def widened(x: Tensor) -> Tensor:
        width = x.shape[-1]
        same = (width + spare) // stride == (stride + spare) // stride
        return F.pad(x, (0, stride - width)) if 0 < width < stride and same else x

    return _with_input(widened, args, kwargs)


def _with_input(
    change: Callable[[Tensor], Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a layer's call with another input."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "input": change(kwargs["input"])}


def _read(x: Tensor, rows: int, columns: int) -> Tensor:
    """An image without what lies behind the last pixel that a 1x1 convolution reads."""
    height, width = x.shape[-2:]
    if height % rows or width % columns or x.device.type != "cpu":
        return x
    return x[..., : height - rows + 1, : width - columns + 1]


def _may_hide_others(module: nn.Module) -> bool:
    """Whether layers of the first kind may be in it that a new hook does not reach.

    Its own weights are of that kind, but it is a transposed convolution, whose output becomes the
    input where gradients are computed, or computes something itself; or what calls it is compiled.
    """
    block = BLOCK[instructions()]
    own = [p for p in module.parameters(recurse=False) if not is_lazy(p)]
    if any(p.dim() == 4 and _is_narrow(p, block) for p in own):
        return not isinstance(module, nn.Conv2d)
    compiled = "_orig_mod" in module._modules or module._compiled_call_impl is not None
    return compiled and any(map(_is_left_out, module.modules()))


def _is_left_out(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and _way_around(layer) is _leave_out


def _is_narrow(weight: Tensor, block: int) -> bool:
    """Whether weights are 1x1, of less than a block of channels."""
    return weight.shape[1] < block and weight.shape[2:] == (1, 1)


class _Careful(TorchFunctionMode):
    """Every call of a convolution in Python, with the way around the first kind."""

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
    kind = _is_narrow(weight, block) and groups == 1 and (padding == "valid" or _is_zero(padding))
    x = _read(input, *pair(stride)) if kind and pair(stride) != (1, 1) else input
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


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
    """The layers of the first kind that this process has told of."""
    return []


def _say_once(path: str, layer: nn.Module) -> None:
    if not _told():
        _told().append(path)
        assert isinstance(layer, nn.Conv2d)
        logging.getLogger("leanspike").warning(
            "layer %r (1x1, stride %s, %d input channels): for its gradient PyTorch %s can write "
            "outside its memory on this processor (%s); leanspike works around it, which may "
            "double the time of such layers; there is nothing to do",
            *(path, layer.stride, layer.in_channels, torch.__version__, instructions()),
        )
