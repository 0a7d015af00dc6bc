"""The whole answer about an SNN: accuracy by step, spikes, operations, energy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from leanspike.backend import watch_backends
from leanspike.errors import LeanspikeError
from leanspike.evaluate.accuracy import accuracy, count_correct
from leanspike.evaluate.activity import SpikeCounter
from leanspike.evaluate.early_exit import gamma_by_step
from leanspike.evaluate.energy import OperationCounter, Prices, price
from leanspike.evaluate.provenance import computed_by, provenance
from leanspike.evaluate.result import Provenance, Result
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork

Batches = Iterable[tuple[Tensor, Tensor]]


@torch.no_grad()
def evaluate(
    snn: SpikingNetwork,
    batches: Batches,
    *,
    ann: nn.Module | None = None,
    name: str = "snn",
    data: str | None = None,
    split: str | None = None,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    start: Mapping[str, tuple[float, float]] | None = None,
    readout: Literal["sum", "mean"] = "sum",
    origin: Provenance | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Measure an SNN, in float32: accuracy after every step, spikes, operations and energy.

    (On CUDA, PyTorch rounds the inputs of convolutions to TF32, which moves some spikes, unless
    ``torch.backends.cudnn.allow_tf32 = False``.)

    Args:
        snn: evaluated in eval mode, at ``snn.timesteps`` steps, and put back after it.
        batches: pairs of input ``[N, ...]`` and labels ``[N]``; gone through once, twice with
            ``ann``, so pass a list or another re-iterable.
        ann: the network the SNN came from, to be measured on the same data.
        name, classes: for the report.
        data, split, seed: the data set, which part of it this is ("test"), and the seed of the
            training; unknown where they are not given.
        start: threshold and leak before training by neuron path, for the report.
        readout: "sum" or "mean" of the outputs (their argmax is the same).
        origin: where the figures come from (default: this process), but for what computed them.
        progress: called with the number of samples after each batch.

    Raises:
        LeanspikeError: if there are no samples, or values that are not finite; for a seed beside
            an origin, which has its own.

    Example:
        >>> from leanspike import spike
        >>> ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
        >>> result = evaluate(snn, [(torch.randn(32, 8), torch.randint(3, (32,)))], ann=ann)
        >>> len(result.accuracy), [layer.path for layer in result.neurons]
        (5, ['1'])
        >>> print(result.split, result.provenance.seed)  # nobody told
        None None
    """
    _check(snn, batches, ann, seed, origin)
    spikes, operations = SpikeCounter(snn), OperationCounter(snn)

    def observe(node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        spikes(node, values, value)
        operations(node, values, value)

    correct_T: Tensor | None = None
    n = 0
    with eval_mode(snn), watch_backends() as ran:
        for x, labels in batches:
            operations.begin_batch(len(labels))
            right = count_correct(snn.run(x, observer=observe), labels, readout)
            correct_T = right if correct_T is None else correct_T + right
            n += len(labels)
            if progress is not None:
                progress(len(labels))
    if correct_T is None or n == 0:
        raise LeanspikeError("no samples to evaluate on; the split is empty")
    origin = origin or provenance(seed=seed, device=correct_T.device)
    prices = Prices()
    neurons = spikes.rows(start)
    fired = {layer.path: layer.spikes_per_neuron for layer in neurons}
    layers = operations.rows(prices, fired)
    if not neurons or not layers:
        raise LeanspikeError("the network has no neurons that spike, or no layers with weights")
    return Result(
        name=name,
        data=data,
        split=split,
        n=n,
        classes=classes,
        timesteps=len(correct_T),
        encode=type(snn.plan.encoder).__name__.lower(),
        ann_accuracy=accuracy(ann, batches)[0] if ann is not None else None,
        accuracy=tuple(count / n for count in correct_T.tolist()),
        neurons=neurons,
        operations=layers,
        energy=price(layers, neurons, len(correct_T), prices, operations.norm_pj(prices)),
        gammas=gamma_by_step(snn),
        example=None,
        provenance=computed_by(origin, ran),
    )


def _check(
    snn: SpikingNetwork,
    batches: Batches,
    ann: nn.Module | None,
    seed: int | None,
    origin: Provenance | None,
) -> None:
    """That these can be measured, and do not contradict each other."""
    if not isinstance(snn, SpikingNetwork):
        raise LeanspikeError(
            f"a {type(snn).__name__} has no spikes to count; make it spike first, or measure its "
            "accuracy()"
        )
    if origin is not None and seed is not None:
        raise LeanspikeError(f"seed is {seed}, and origin has {origin.seed}; give one of the two")
    for path, value in snn.state_dict().items():
        if not value.isfinite().all():
            raise LeanspikeError(f"{path} has values that are NaN or infinite; train it again")
    if ann is not None and isinstance(batches, Iterator):
        raise LeanspikeError("batches can be gone through only once; with ann=, give a list")
