"""The whole answer about an SNN: accuracy by step, spikes, operations, energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from leanspike.backends import watch_backends
from leanspike.batches import Source
from leanspike.errors import LeanspikeError
from leanspike.evaluation.activity import SpikeCounter, neurons_of
from leanspike.evaluation.answers import (
    batches_for,
    check_classes,
    check_labels,
    count_correct,
    outputs,
)
from leanspike.evaluation.early_exit import gamma_by_step
from leanspike.evaluation.energy import OperationCounter, Prices, price
from leanspike.evaluation.mistakes import MistakeFinder
from leanspike.evaluation.origin import computed_by, provenance
from leanspike.evaluation.result import Provenance, Result
from leanspike.execute import SpikingNetwork
from leanspike.execute import readout as read_out
from leanspike.modes import eval_mode


@torch.no_grad()
def evaluate(
    snn: SpikingNetwork,
    batches: Source,
    *,
    ann: nn.Module | None = None,
    name: str = "snn",
    data: str | None = None,
    split: str | None = None,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
    start: Mapping[str, Mapping[str, float]] | None = None,
    readout: Literal["sum", "mean"] = "sum",
    origin: Provenance | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Measure an SNN, in float32: accuracy after every step, spikes, operations and energy.

    No time is measured: that is :func:`leanspike.evaluation.measure_times`, whose record belongs
    into the result as ``result.model_copy(update={"times": times})``.

    (On CUDA, PyTorch rounds the inputs of convolutions to TF32, which moves some spikes, unless
    ``torch.backends.cudnn.allow_tf32 = False``.)

    Args:
        snn: evaluated in eval mode, at ``snn.timesteps`` steps, and put back after it.
        batches: a DataLoader, a list of batches or one pair: input ``[N, ...]`` and labels
            ``[N]``, tensors or arrays, which are sent to the network's device. Gone through once.
            One pair is taken 128 samples at a time.
        ann: the network the SNN came from, to be measured on the same data.
        name, classes: for the report.
        data, split, seed: the data set, which part of it this is ("test"), and the seed of the
            training; unknown where they are not given.
        start: what `leanspike.evaluation.readings` gave before the training, for the report.
        readout: "sum" or "mean" of the outputs (their argmax is the same).
        origin: where the figures come from (default: this process), but for what computed them.
        progress: called with the number of samples after each batch.

    Raises:
        LeanspikeError: if there are no samples, or values that are not finite; for labels that
            are no numbers of outputs, and ``classes`` or an ANN of other than as many; for a
            seed beside an origin, which has its own; for a plain module in a neuron's place.

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
    _check(snn, seed, origin)
    pairs = batches_for(snn, batches)
    spikes, operations, wrong = SpikeCounter(snn), OperationCounter(snn), MistakeFinder()

    def observe(node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        spikes(node, values, value)
        operations(node, values, value)

    correct_T: Tensor | None = None
    labels_K: Tensor | None = None
    n = 0
    with eval_mode(snn), eval_mode(snn if ann is None else ann), watch_backends() as ran:
        for x, labels in pairs:
            operations.begin_batch(len(labels))
            y_TNK = snn.run(x, observer=observe)
            right = count_correct(y_TNK, labels, readout)
            check_labels(labels, y_TNK.shape[2])
            counts = torch.bincount(labels, minlength=y_TNK.shape[2])
            labels_K = counts if labels_K is None else labels_K + counts
            if n == 0:
                _check_outputs(y_TNK, classes, ann, x.narrow(pairs.axis, 0, min(2, len(labels))))
            correct_T = right if correct_T is None else correct_T + right
            ours = read_out(y_TNK, readout)[-1].argmax(-1)
            wrong.add(labels, ours, None if ann is None else outputs(ann, x)[0].argmax(-1))
            n += len(labels)
            if progress is not None:
                progress(len(labels))
    if correct_T is None or labels_K is None or n == 0:
        raise pairs.nothing("to evaluate on")
    origin = origin or provenance(seed=seed, device=correct_T.device)
    prices = Prices()
    neurons = spikes.rows(start)
    fired = {layer.path: layer.spikes_per_neuron for layer in neurons}
    layers = operations.rows(prices, fired)
    if not layers:
        raise LeanspikeError("the network has no layers with weights, whose work could be counted")
    return Result(
        name=name,
        data=data,
        split=split,
        n=n,
        classes=classes,
        timesteps=len(correct_T),
        encode=type(snn.plan.encoder).__name__.lower(),
        ann_accuracy=None if ann is None else wrong.ann_right / n,
        accuracy=tuple(count / n for count in correct_T.tolist()),
        neurons=neurons,
        operations=layers,
        energy=price(layers, neurons, len(correct_T), prices, operations.norm_pj(prices)),
        gammas=gamma_by_step(snn),
        example=None,
        provenance=computed_by(origin, ran),
        chance=max(1 / len(labels_K), int(labels_K.max()) / n),
        mistakes=wrong.mistakes(),
    )


def _check(snn: SpikingNetwork, seed: int | None, origin: Provenance | None) -> None:
    """That these can be measured, and do not contradict each other."""
    if not isinstance(snn, SpikingNetwork):
        raise LeanspikeError(
            f"a {type(snn).__name__} has no spikes to count; make it spike first, or measure its "
            "accuracy()"
        )
    neurons_of(snn)
    if origin is not None and seed is not None:
        raise LeanspikeError(f"seed is {seed}, and origin has {origin.seed}; give one of the two")
    for path, value in snn.state_dict().items():
        if not value.isfinite().all():
            raise LeanspikeError(f"{path} has values that are NaN or infinite; train it again")


def _check_outputs(
    y_TNK: Tensor, classes: tuple[str, ...], ann: nn.Module | None, x: Tensor
) -> None:
    """That names and ANN are of the network's K outputs; ``x`` is a sample or two."""
    ours = y_TNK.shape[2]
    if classes and len(classes) != ours:
        raise LeanspikeError(
            f"classes has {len(classes)} names, and the network {ours} outputs; give a name for "
            "each output, in their order"
        )
    if ann is None:
        return
    theirs = outputs(ann, x)
    check_classes(theirs, "the ANN")
    if theirs.shape[2] != ours:
        raise LeanspikeError(
            f"the ANN has {theirs.shape[2]} outputs, and the SNN {ours}; give the ANN that the "
            "SNN was made from"
        )
