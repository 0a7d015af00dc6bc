"""Calibration sets thresholds from data, so that a trained ANN becomes a good start for an SNN.

A threshold is set from ALL calibration images before its layer fires for the first time. This is
the papers' layer-by-layer procedure: the batches halt in front of each layer
(:mod:`leanspike.surgery.sweep`). Nothing depends on the order or the size of the batches, and
memory is needed for one batch.

Shapes: T timesteps, N images; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from leanspike.batches import Source, images_of
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError, check_count, check_number
from leanspike.execute.answers import value_range
from leanspike.execute.network import SpikingNetwork
from leanspike.modes import eval_mode
from leanspike.neuron import Calibrated
from leanspike.notice import say
from leanspike.surgery.choices import (
    Choice,
    Method,
    Preset,
    Statistics,
    check_preset,
    choose_calibration,
)
from leanspike.surgery.percentile import PercentileRule
from leanspike.surgery.pixels import FirstNorm, tell_of_scale
from leanspike.surgery.reestimation import reestimate
from leanspike.surgery.sweep import Sweep
from leanspike.surgery.thresholds import calibrated, check_percentile, measure

LOW_AGREEMENT = 0.9
"""`calibrate` warns if SNN and ANN answer a smaller share of the images alike."""


@dataclass(frozen=True)
class CalibratedLayer:
    """A calibrated layer of neurons: its size per sample, the percentile found, the threshold set.

    ``threshold_before`` is the mean where thresholds are per channel or neuron.

    >>> CalibratedLayer("relu", 16, percentile_value=2.5, threshold_before=1.0, threshold=1.5).path
    'relu'
    """

    path: str
    neurons: int
    percentile_value: float
    threshold_before: float
    threshold: float


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration: its scale, a row per layer, and the norms measured again.

    ``agreement`` is the share of the images to which SNN and ANN give the same answer after the
    last step. A single output answers by its sign. Several outputs give the mean of their shares.
    ``choices`` says in words how the calibration was done, and why.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> _ = torch.manual_seed(0)
    >>> ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
    >>> found = calibrate(snn, torch.randn(256, 8), scale=(0.4, 0.8))
    >>> found.scale, found.agreement > 0.5, [row.path for row in found.layers]
    (0.4, True, ['1'])
    >>> found.choices
    'layer by layer, scale 0.4 of 2, for no batch norm and no branches meet spikes'
    """

    scale: float
    layers: tuple[CalibratedLayer, ...]
    norms: tuple[str, ...]
    agreement: float
    choices: str


@torch.no_grad()
def calibrate(
    snn: SpikingNetwork,
    images: Source,
    *,
    percentile: float = 99.7,
    percentile_rule: PercentileRule = "interpolated",
    scale: float | Sequence[float] | None = None,
    method: Method | None = None,
    statistics: Statistics | None = None,
    preset: Preset = "network",
    timesteps: int | None = None,
    batch_size: int = 64,
    group: Group = ALONE,
) -> Calibration:
    """Set each layer's threshold from its input: v = scale · percentile of the input current.

    The method "layerwise" is that of DIET-SNN's official code. It goes layer by layer, with leak 1
    and with the earlier thresholds in force, unscaled. It takes the largest of the steps'
    percentiles. The method "one_pass" measures the ANN's pre-activations, as if the neurons were
    ReLUs. It is cheaper by the factor T. It fits spikes of threshold height, which keep the ANN's
    scale.

    Unit spikes change the scale of every current, so the running statistics of batch norms no
    longer fit. The option "reestimate" measures them again, layer by layer, without labels. It
    uses the same images, with the thresholds in force.

    Options that are not given follow from the network, and one line on stderr names them. The
    method is "one_pass" if all neurons emit spikes of threshold height, else "layerwise". The
    statistics are "reestimate" if time reaches norms, else "keep". Several scales are tried if
    spikes have threshold height, if time reaches norms, or if branches meet. The scale whose
    answers agree best with the ANN's, in the mean over all steps, is taken. Otherwise the scale
    is 1. The same line says how often SNN and ANN agree at the last step. A warning follows if
    they seldom do.

    Args:
        snn: the network, changed in place: its thresholds, and the statistics of norms that time
            reaches. Its leaks stay as they are.
        images: the network's input ``[N, ...]``, as for a call, a tensor or array. 512 training
            images are enough. A DataLoader or a list of batches, with or without labels, works,
            too: its first 512 images are taken, and no more are read. The images are sent to the
            network's device. The calibration needs memory for a batch, and up to 1 GiB between
            layers. It needs more than that only if one bit for each spike of a layer takes more.
        percentile: p in (1, 100]. Among n entries it is that of rank p/100·(n − 1), from 0.
        percentile_rule: the value for a rank between two entries. "interpolated" is the value
            between them, as in ``numpy.percentile``. "nearest" (DIET-SNN's code) is the nearer
            entry.
        scale: the factor of the thresholds, above 0; smaller for fewer timesteps (papers: 0.2 to
            0.7 at T = 5 to 25). The best of several is taken, by agreement with
            the ANN's answers.
        method: "layerwise" or "one_pass".
        statistics: "keep" or "reestimate" the norms' running statistics.
        preset: "paper" makes the defaults DIET-SNN's: "layerwise", scale 1, "keep".
        timesteps: T of the calibration; default ``snn.timesteps`` (DIET-SNN's code: 100).
        batch_size: the number of images computed at a time. It is lower where one of their values
            would take more than 256 MiB. It changes the result by rounding only.
        group: processes that calibrate the same network on the same images together, each on whole
            batches in turn. Each sets the thresholds and statistics that one process would set.

    Returns:
        A row per layer: path, neurons, percentile, threshold before and after.

    Raises:
        LeanspikeError: for arguments out of range, and NaN or infinite images. Also for neurons
            that cannot be calibrated (a plain module), and for a layer whose inputs are not
            positive: it would never fire. The thresholds are then those of before.

    Example:
        >>> from torch import nn
        >>> from leanspike import spike
        >>> _ = torch.manual_seed(0)
        >>> ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
        >>> table = calibrate(snn, torch.randn(256, 8), percentile=99.7, scale=0.6)
        >>> round(table.layers[0].threshold / table.layers[0].percentile_value, 3)
        0.6
    """
    check_preset(preset)
    choice = choose_calibration(snn, preset, method, scale, statistics)
    steps = check_count("timesteps", snn.timesteps if timesteps is None else timesteps)
    check_count("batch_size", batch_size)
    check_percentile(check_number("percentile", percentile, 99.7))
    axis = snn.plan.encoder.batch_axis
    x = images_of(images, snn, axis)
    snn.check_input(x, axis, values=False)
    _check(x, percentile_rule, choice)
    seen = value_range(x)
    layers = calibrated(snn)
    before = {path: neuron.scale().mean().item() for path, neuron in layers.items()}
    with eval_mode(snn), _put_back_on_error(snn, x, axis):
        sweep = Sweep(snn, x, steps, batch_size, group)
        rows = measure(sweep, percentile, percentile_rule, choice.method)
        found = {row.path: row.percentile_value for row in rows}
        first = FirstNorm(snn)
        best, norms, agreement = _choose(sweep, choice, found, first)
    set_to = _set_thresholds(layers, found, best)
    table_rows = tuple(
        CalibratedLayer(r.path, r.neurons, r.percentile_value, before[r.path], v)
        for r, v in zip(rows, set_to, strict=True)
    )
    snn.input_range = seen
    snn.doubts.calibrated(training=snn.training)
    words = _in_words(choice, best, bool(norms))
    table = Calibration(best, table_rows, norms, agreement, words)
    _tell(table, x.shape[axis], x.shape[0] if axis else steps, choice)  # frames bring their steps
    tell_of_scale(first, x, seen)
    return table


@contextmanager
def _put_back_on_error(snn: SpikingNetwork, x: Tensor, axis: int) -> Iterator[None]:
    """Restore the neurons after an error, and explain it by the input."""
    kept = {path: deepcopy(module.state_dict()) for path, module in snn.neurons()}
    try:
        yield
    except (LeanspikeError, RuntimeError) as error:
        for path, module in snn.neurons():
            module.load_state_dict(kept[path])
        if isinstance(error, RuntimeError):
            snn.explain(error, x, axis)
        raise


def _in_words(choice: Choice, best: float, measured: bool) -> str:
    methods = {"layerwise": "layer by layer", "one_pass": "in one pass"}
    of = f" of {len(choice.scales)}" if len(choice.scales) > 1 else ""
    again = ", norm statistics measured again" if measured else ""
    return f"{methods[choice.method]}, scale {best:g}{of}{again}, {choice.reason}"


def _tell(table: Calibration, images: int, steps: int, choice: Choice) -> None:
    """Say in one line what was done; warn in a second one if the SNN is not like the ANN."""
    alike = f"{100 * table.agreement:.1f} % of {images} images alike at T = {steps}"
    say(f"calibrate: {table.choices}; SNN and ANN answer {alike}")
    if table.agreement >= LOW_AGREEMENT:
        return
    logging.getLogger("leanspike").warning(
        "SNN and ANN answer only %.1f %% of the images alike; %s, or train the SNN",
        *(100 * table.agreement, choice.way_out.format(more=2 * steps)),
    )


def _choose(
    sweep: Sweep, choice: Choice, found: dict[str, float], first: FirstNorm
) -> tuple[float, tuple[str, ...], float]:
    """Put the best scale and its statistics in force; return scale, norms and agreement.

    ``first`` sees the input of the ANN's first norm.
    """
    answers = [answer[-1] for answer in sweep.answers(first, relu=True)]
    tried = []
    for scale in choice.scales:  # each trial overwrites all that the one before it set
        _set_thresholds(calibrated(sweep.snn), found, scale)
        norms: tuple[str, ...] = ()
        own: list[Tensor] | None = None
        if choice.statistics == "reestimate":
            norms, own = reestimate(sweep)
        ours = sweep.answers() if own is None else own
        same = [ours_TN == theirs_N for ours_TN, theirs_N in zip(ours, answers, strict=True)]
        alike_T = torch.stack([each.double().flatten(1).mean(1) for each in same]).mean(0)
        state = {name: value.clone() for name, value in sweep.snn.state_dict().items()}
        rank = alike_T.mean() if choice.each_step else alike_T[-1]
        tried.append((rank.item(), scale, norms, state, alike_T[-1].item()))
    _, scale, norms, state, agreement = max(tried, key=lambda trial: trial[0])
    sweep.snn.load_state_dict(state)
    return scale, norms, agreement


def _set_thresholds(
    layers: dict[str, Calibrated], found: dict[str, float], scale: float
) -> list[float]:
    for path, value in found.items():
        layers[path].set_scale(value * scale)
    return [layers[path].scale().flatten()[0].item() for path in found]


def _check(images: Tensor, percentile_rule: str, choice: Choice) -> None:
    if not choice.scales or not all(scale > 0 and np.isfinite(scale) for scale in choice.scales):
        raise LeanspikeError(f"scale is {list(choice.scales)}; give numbers above 0")
    if percentile_rule not in get_args(PercentileRule):
        choices = ", ".join(get_args(PercentileRule))
        raise LeanspikeError(f"percentile_rule is {percentile_rule!r}; choose one of {choices}")
    if choice.method not in ("layerwise", "one_pass"):
        raise LeanspikeError(f"method is {choice.method!r}; choose one of layerwise, one_pass")
    if choice.statistics not in ("keep", "reestimate"):
        raise LeanspikeError(f"statistics is {choice.statistics!r}; choose one of keep, reestimate")
    if images.numel() == 0:
        raise LeanspikeError("no images to calibrate on; give some hundreds of training images")
