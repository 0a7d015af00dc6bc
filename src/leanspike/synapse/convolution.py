"""Convolutions that work where there are events: what is 0 costs nothing.

A dense convolution multiplies each weight by each input; most inputs of a spiking layer are 0.
The native code (``src/native/convolution.h``) lists the others, pixel by pixel, and adds up the
rows of weights that they meet; the gradient of the weights adds up the rows of dL/dy likewise.
dL/dx is dense, since neurons below their threshold have gradients too, and stays PyTorch's.

Sums are float32, as PyTorch's, in another order: results agree to rounding. (Products of 0 with
infinite weights or gradients, NaN elsewhere, are nothing here.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, final

import torch
from torch import Tensor, nn

from leanspike import native
from leanspike.backend import note_backend
from leanspike.synapse.onednn import is_stepped_around
from leanspike.synapse.stand_in import StandIn
from leanspike.transforms import is_transformed

DENSEST = {torch.float32: 0.4, torch.bfloat16: 0.15}
"""The share of inputs that are not 0 above which PyTorch's dense convolution is faster."""

PACKING = {torch.float32: 75, torch.bfloat16: 250}
"""Input pixels whose dense convolution takes as long as laying out the weights for events."""

OUTPUTS = 64
"""Output channels that the native code computes together, needed or not."""

STREAM = 4
"""Steps that a stream is expected to take: its weights are laid out once for all of them."""

LEAST_WORK = 1_000_000
"""Multiplications of a dense convolution below which the choice costs more than it brings."""


@final
class EventConv2d(StandIn, nn.Conv2d):
    """A convolution of spikes: an ``nn.Conv2d`` that is event-driven where that is faster.

    Same parameters, same results to rounding, same gradients. It is event-driven on the CPU in
    channels_last, in float32 and bfloat16 (autocast included), where few enough of the inputs are
    not 0 (`DENSEST`; a sample is counted); else, and under ``torch.compile``, it is PyTorch's.

    Example:
        >>> conv = nn.Conv2d(64, 64, 3, padding=1)
        >>> spikes = (torch.rand(8, 64, 16, 16) < 0.1).float()
        >>> spikes = spikes.to(memory_format=torch.channels_last)
        >>> torch.allclose(EventConv2d.of(conv)(spikes), conv(spikes), atol=1e-5)
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` as of ``nn.Conv2d``."""
        if torch.compiler.is_compiling() or not self._is_known(x):
            return super().forward(x)
        autocast = torch.is_autocast_enabled("cpu")  # then as torch's own convolution does
        dtype = torch.get_autocast_dtype("cpu") if autocast else self.weight.dtype
        x = x.to(dtype) if autocast else x
        stream = None if torch.is_grad_enabled() else _stream.get()
        packed = None if stream is None else stream.get(self, dtype)
        laying_out = 1.0 if stream is None else 0.0 if packed is not None else 1 / STREAM
        if x.dtype != dtype or not is_worth_it(x, self.weight, laying_out):
            return super().forward(x)
        note_backend("native")
        weight, bias = self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
        assert not isinstance(self.padding, str)
        how = list(self.stride), list(self.padding)
        if stream is not None:
            if packed is None:
                packed = pack(x, weight, bias)
                stream.put(self, dtype, packed)
            return _run_forward(x, weight, bias, *how, packed)
        y: Tensor = torch.ops.leanspike.convolution(x, weight, bias, *how)
        return y

    def _is_known(self, x: Tensor) -> bool:
        """Whether the native code has this kind of convolution, and takes this kind of tensor."""
        return (
            type(x) is Tensor
            and not is_transformed(x)
            and x.device.type == self.weight.device.type == "cpu"
            and x.dtype in DENSEST
            and self.groups == 1
            and self.dilation == (1, 1)
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and not is_stepped_around(self, x)
        )


@final
class Stream:
    """Weights laid out for events, kept from step to step of a stream by layer.

    A layer whose weights are changed on the way, moved or put into another type, is laid out again.
    (In-place changes through ``.data`` are not seen; begin the stream anew after them.) A copy, or
    what was pickled, begins empty.

    >>> conv = EventConv2d(8, 8, 3)
    >>> Stream().get(conv, torch.float32) is None
    True
    """

    def __init__(self) -> None:
        self._found: dict[EventConv2d, tuple[object, Tensor]] = {}

    def get(self, layer: EventConv2d, dtype: torch.dtype) -> Tensor | None:
        """What was laid out of a layer for input of a type, if its weights are the same still."""
        version, packed = self._found.get(layer, (None, None))
        return packed if version == _version(layer, dtype) else None

    def put(self, layer: EventConv2d, dtype: torch.dtype, packed: Tensor) -> None:
        """Keep what was laid out of a layer."""
        if not layer.weight.is_inference():  # which does not count its changes
            self._found[layer] = _version(layer, dtype), packed

    def __reduce__(self) -> tuple[type[Stream], tuple[()]]:
        return Stream, ()


def _version(layer: EventConv2d, dtype: torch.dtype) -> object:
    """Another where the weights are."""
    tensors = [t for t in (layer.weight, layer.bias) if t is not None and not t.is_inference()]
    return dtype, [(t.data_ptr(), t._version) for t in tensors]


_stream: ContextVar[Stream | None] = ContextVar("leanspike_stream", default=None)


@contextmanager
def streaming(stream: Stream) -> Iterator[None]:
    """For as long as the context lasts event-driven convolutions keep their weights laid out there.

    >>> conv = EventConv2d.of(nn.Conv2d(64, 64, 3, padding=1)).requires_grad_(False)
    >>> spikes = (torch.rand(1, 64, 16, 16) < 0.1).float()
    >>> stream, spikes = Stream(), spikes.to(memory_format=torch.channels_last)
    >>> with streaming(stream), torch.no_grad():
    ...     y = conv(spikes)
    >>> torch.allclose(y, conv(spikes), atol=1e-5)
    True
    """
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


def is_worth_it(x: Tensor, weight: Tensor, laying_out: float = 1.0) -> bool:
    """Whether an input ``[N, C, H, W]`` is of a kind that the native code takes, and sparse enough.

    ``laying_out`` is the share of the work of laying out the weights that this call has to bear.

    >>> is_worth_it(torch.ones(8, 64, 16, 16), torch.ones(64, 64, 3, 3))
    False
    """
    if x.dtype not in DENSEST or x.dim() != 4 or not native.is_chosen():
        return False
    if x.shape[1] != weight.shape[1]:
        return False  # and torch says so
    pixels = x.numel() // max(1, x.shape[1])
    if not x.is_contiguous(memory_format=torch.channels_last) or x.is_contiguous():
        return False
    packing = PACKING[x.dtype] * laying_out
    if pixels <= packing or pixels * weight.numel() < LEAST_WORK:
        return False
    if native.available_instructions() == ("plain",) or max(x.shape[2:]) > 2**15:
        return False
    if x.dtype == torch.bfloat16 and _has_matrix_units():
        return False
    needed = len(weight) / (-(-len(weight) // OUTPUTS) * OUTPUTS)
    return density(x) <= DENSEST[x.dtype] * needed * (1 - packing / pixels)


def density(x: Tensor) -> float:
    """The share of elements that are not 0, in a sample of a dense tensor, spread evenly.

    >>> density(torch.tensor([0.0, 1.0, 0.0, 1.0]))
    0.5
    """
    bf16 = ctypes.c_int32(x.dtype == torch.bfloat16)
    size, address = ctypes.c_int64(x.numel()), ctypes.c_void_p(x.data_ptr())
    share: float = native.library().leanspike_density(address, size, bf16)
    return share


@cache
def _has_matrix_units() -> bool:
    return bool(native.library().leanspike_has_matrix_units())


# The operators that torch sees, for whatever density and layout.

torch.library.define(
    "leanspike::convolution",
    "(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding) -> Tensor",
)
torch.library.define(
    "leanspike::convolution_weight_gradient",
    "(Tensor grad, Tensor x, Tensor weight, int[] padding) -> Tensor",
)


@torch.library.impl("leanspike::convolution", "CPU")
def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
) -> Tensor:
    return _run_forward(x, weight, bias, stride, padding, None)


def _run_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    packed: Tensor | None,
) -> Tensor:
    """The convolution, with weights and bias as `pack` laid them out, if it did."""
    y = _output_like(x, weight, bias, stride, padding)
    x, weight = x.contiguous(memory_format=torch.channels_last), weight.float()
    bias = None if bias is None else bias.float().contiguous()
    call = _call(x, weight, stride, padding, y)
    call.weight, call.y = weight.data_ptr(), y.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()
    call.packed = None if packed is None else packed.data_ptr()
    _run(call)
    return y


def pack(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Weights and bias laid out for events such as those of ``x``."""
    weight = weight.detach().float()
    bias = None if bias is None else bias.detach().float().contiguous()
    call = _call(x, weight, (1, 1), (0, 0), x)
    call.weight = weight.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()
    packed = weight.new_empty(native.library().leanspike_convolution_room(ctypes.byref(call)))
    if (
        native.library().leanspike_convolution_pack(
            ctypes.byref(call), ctypes.c_void_p(packed.data_ptr())
        )
        != 0
    ):
        raise MemoryError("the native convolution found no memory to work in")
    return packed


@torch.library.impl("leanspike::convolution_weight_gradient", "CPU")
def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
    grad, x = (t.contiguous(memory_format=torch.channels_last) for t in (grad, x))
    found = torch.empty_like(weight, dtype=torch.float32)
    call = _call(x, found, [1, 1], padding, grad)
    call.grad, call.grad_weight = grad.data_ptr(), found.data_ptr()
    _run(call)
    return found.to(weight.dtype)


def _output_like(
    x: Tensor, weight: Tensor, _bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    height, width = (
        (x.shape[2 + i] + 2 * padding[i] - weight.shape[2 + i]) // stride[i] + 1 for i in (0, 1)
    )
    if x.shape[1] != weight.shape[1] or min(height, width) < 1:
        raise RuntimeError(
            f"input of shape {tuple(x.shape)}, padded by {tuple(padding)}, does not fit weights of "
            f"shape {tuple(weight.shape)}"
        )
    shape = (x.shape[0], weight.shape[0], height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, weight, bias, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(x, weight)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
    by_events = wants_weight and ctx.stride == [1, 1]
    dense = wants_x, wants_weight and not by_events, wants_bias
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        *(grad, x, weight, [len(weight)] if ctx.has_bias else None),
        *(ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, dense),
    )
    if by_events:
        grad_weight = torch.ops.leanspike.convolution_weight_gradient(grad, x, weight, ctx.padding)
    return grad_x, grad_weight, grad_bias, None, None


torch.library.register_fake("leanspike::convolution", _output_like)
torch.library.register_fake(
    "leanspike::convolution_weight_gradient",
    lambda _grad, _x, weight, _padding: torch.empty_like(weight),
)
torch.library.register_autograd("leanspike::convolution", _backward, setup_context=_save)
torch.library.register_autograd(
    "leanspike::convolution_weight_gradient", native.refuse_second_derivatives
)


class _Axis(ctypes.Structure):
    """``convolution_axis`` of convolution.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64) for name in ("input", "output", "kernel", "stride", "padding")
    )


class _Call(ctypes.Structure):
    """``convolution_call`` of convolution.h."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("x", "weight", "bias", "y", "packed", "grad", "grad_weight")
        ),
        *((name, ctypes.c_int64) for name in ("images", "channels", "outputs")),
        ("rows", _Axis),
        ("columns", _Axis),
        ("strides", ctypes.c_int64 * 4),
        ("means", native.Means),
        ("bf16", ctypes.c_int32),
    )


def _call(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], output: Tensor
) -> _Call:
    rows, columns = (
        _Axis(x.shape[2 + i], output.shape[2 + i], weight.shape[2 + i], stride[i], padding[i])
        for i in (0, 1)
    )
    images, channels, outputs = x.shape[0], x.shape[1], weight.shape[0]
    call = _Call(images=images, channels=channels, outputs=outputs, rows=rows, columns=columns)
    call.x, call.means, call.bf16 = x.data_ptr(), native.means(), x.dtype == torch.bfloat16
    call.strides = (ctypes.c_int64 * 4)(*weight.stride())
    return call


def _run(call: _Call) -> None:
    if native.library().leanspike_convolution(ctypes.byref(call)) != 0:
        raise MemoryError("the native convolution found no memory to work in")
