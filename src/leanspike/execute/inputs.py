"""Checks of a network's input, and explanations of input that does not fit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leanspike.batches import check_dtype
from leanspike.errors import LeanspikeError, one_line
from leanspike.graph.plan import Plan

BRIGHTER, DIMMER = 10, 100
"""The factors by which input of another scale is larger or smaller than the calibration's."""


def check_samples(plan: Plan, x: Tensor, batch_axis: int) -> None:
    """Raise LeanspikeError unless ``x`` has the example input's shape and type, for any N."""
    if not isinstance(x, Tensor):
        raise LeanspikeError(
            f"input is a {type(x).__name__}; give a tensor, as torch.as_tensor(x).float()"
        )
    sample_shape = plan.sample_shape
    ranks_agree = x.dim() == len(sample_shape) + 1 + batch_axis
    if not ranks_agree or x.shape[1 + batch_axis] != sample_shape[0]:
        expected = ", ".join((*("T" * batch_axis), "N", *map(str, sample_shape)))
        raise LeanspikeError(f"input of shape {tuple(x.shape)}; expected [{expected}]")
    if plan.fixed_shape and x.shape[1 + batch_axis :] != sample_shape:
        raise LeanspikeError(
            f"input of shape {tuple(x.shape)}; the network's code branches on shapes, and was "
            f"traced for samples of shape {sample_shape}: give samples of that shape, or call "
            "spike with an example_input like this"
        )
    if not x.is_floating_point():
        raise LeanspikeError(
            f"input of type {x.dtype}; expected floating point (normalise the pixels)"
        )


def other_scale(
    here: tuple[float, float], calibrated: tuple[float, float], several: bool
) -> str | None:
    """Return a warning if the range of the input is far from that of the calibration, else None.

    Dim images cause a warning only if ``several`` are given: a single image may be dark.

    >>> other_scale((0.0, 1.2), (0.0, 1.0), several=True) is None
    True
    >>> other_scale((0.0, 255.0), (0.0, 1.0), several=True)[:50]
    'input of 0 to 255, but the network was calibrated '
    """
    (low, high), (lowest, highest) = here, calibrated
    seen, now = max(abs(lowest), abs(highest)), max(abs(low), abs(high))
    dark = 0 < now < seen / DIMMER and several
    if not dark and now <= seen * BRIGHTER:
        return None
    return (
        f"input of {low:.3g} to {high:.3g}, but the network was calibrated on images of "
        f"{lowest:.3g} to {highest:.3g}; scale the pixels alike "
        f"(as x {'*' if dark else '/'} 255), or calibrate on such images"
    )


def explain(
    network: nn.Module, plan: Plan, error: RuntimeError, x: Tensor, batch_axis: int
) -> None:
    """Raise LeanspikeError if the input's type, device or size explains the error."""
    check_dtype(x, network)
    place = next((p.device for p in network.parameters()), x.device)
    if place != x.device:
        raise LeanspikeError(
            f"input on {x.device}, but the network is on {place}; give x.to({str(place)!r})"
        ) from error
    own = next((p.dtype for p in network.parameters()), x.dtype)
    if own != x.dtype and not isinstance(error, torch.OutOfMemoryError):
        raise LeanspikeError(
            f"input of type {x.dtype}, but the network computes in {own}; give x.to({own})"
        ) from error
    same = x.shape[1 + batch_axis :] == plan.sample_shape
    if same or isinstance(error, torch.OutOfMemoryError):
        return
    raise LeanspikeError(
        f"input of shape {tuple(x.shape)} fails ({one_line(error)}); give samples of shape "
        f"{plan.sample_shape}, for which the network was made"
    ) from error
