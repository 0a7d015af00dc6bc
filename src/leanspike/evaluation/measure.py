"""All figures of an SNN: accuracy by step, spikes, operations, energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor, fx, nn

from leanspike.backends import watch_backends
from leanspike.batches import Source
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation.activity import SpikeCounter, neurons_of
from leanspike.evaluation.answered import Answered
from leanspike.evaluation.answers import batches_for
from leanspike.evaluation.early_exit import gamma_by_step
from leanspike.evaluation.energy import OperationCounter
from leanspike.evaluation.function_metric import Function
from leanspike.evaluation.metric import Metric, WatchingMetric
from leanspike.evaluation.origin import computed_by, provenance
from leanspike.evaluation.prices import Prices, price
from leanspike.evaluation.result import Provenance, Result
from leanspike.evaluation.rivals import compare_rivals
from leanspike.evaluation.task import Task, TaskName
from leanspike.evaluation.traffic import TrafficCounter
from leanspike.execute import SpikingNetwork
from leanspike.execute.observed import Observer
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
    readout: Literal["sum", "mean"] | None = None,
    task: Task | TaskName | None = None,
    metric: Function | None = None,
    metrics: Mapping[str, Metric] | None = None,
    origin: Provenance | None = None,
    progress: Callable[[int], None] | None = None,
    group: Group = ALONE,
) -> Result:
    """Measure an SNN, in float32: accuracy after every step, spikes, operations and energy.

    No time is measured: :func:`leanspike.evaluation.measure_times` does that. Its record belongs
    into the result as ``result.model_copy(update={"times": times})``.

    On CUDA, PyTorch rounds the inputs of convolutions to TF32, which moves some spikes.
    ``torch.backends.cudnn.allow_tf32 = False`` turns that off.

    Args:
        snn: evaluated in eval mode, at ``snn.timesteps`` steps, and put back after it.
        batches: a DataLoader, a list of batches or one pair: input ``[N, ...]`` and labels. They
            are tensors or arrays, which are sent to the network's device. They are gone through
            once. One pair is taken 128 samples at a time. Inputs alone will do: spikes, operations
            and energy need no labels, and ``accuracy`` is then empty.
        ann: the network the SNN came from, to be measured on the same data.
        name, classes: for the report.
        data, split, seed: the data set, which part of it this is ("test"), and the seed of the
            training. They are unknown where they are not given.
        start: what `leanspike.evaluation.readings` gave before the training, for the report.
        readout: "sum" or "mean" of the outputs so far. Accuracy does not depend on it; its default
            there is the sum. ``metric`` is given the mean by default, which is as large as an ANN's
            outputs.
        task: what the labels are of: "multiclass", "binary" or "multilabel", see
            :func:`leanspike.evaluation.accuracy`. "none" is for targets that are no labels, which
            may then be of any kind. Default: found by shapes and types, with a warning for targets
            that are no labels.
        metric: a function from outputs, as the ANN gives them, and targets of any kind to a number
            or a dict of numbers, such as ``torch.nn.functional.mse_loss``. It is measured after
            each step, and for the ANN. The result is the mean over the batches, weighted by their
            samples. With it no accuracy is measured, unless ``task`` is given.
        metrics: others, by name, such as those of :mod:`leanspike.metrics`:
            ``{"calibration_error": CalibrationError()}``. ``result.measured`` then holds what each
            found.
        origin: where the figures come from (default: this process), except for what computed them.
        progress: called with the number of samples after each batch.
        group: processes that each have batches of their own, in turn, as a :class:`Loader` of that
            group gives them. Each process gets the result of all.

    Raises:
        LeanspikeError: if there are no samples, or values that are not finite. Also for labels that
            do not fit these outputs, or are of more than one task. Also for ``classes`` or an ANN
            with another number of outputs, for a seed beside an origin (which has its own), and for
            a plain module in a neuron's place.

    Example:
        >>> from leanspike import spike
        >>> ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
        >>> result = evaluate(snn, [(torch.randn(32, 8), torch.randint(3, (32,)))], ann=ann)
        >>> len(result.accuracy), [layer.path for layer in result.neurons]
        (5, ['1'])
        >>> print(result.split, result.provenance.seed)  # nobody told
        None None
        >>> energy = evaluate(snn, torch.randn(32, 8))  # without labels
        >>> energy.accuracy, energy.energy.snn_pj > 0
        ((), True)
    """
    _check(snn, seed, origin)
    labelled = metric is None and task != "none"
    pairs = batches_for(snn, batches, "if any" if labelled else "of any kind")
    watch = _Watch(snn, Answered(task, metric, readout, classes, metrics, group, snn))
    with eval_mode(snn), eval_mode(snn if ann is None else ann), watch_backends() as ran:
        for x, targets in pairs:
            samples = x.shape[pairs.axis]
            if not samples:
                continue
            watch.see(x, targets, ann, samples)
            if progress is not None:
                progress(samples)
    watch.add_others(group)
    if watch.n == 0:
        raise pairs.nothing("to evaluate on")
    origin = origin or provenance(seed=seed, device=watch.device)
    return Result(
        name=name,
        data=data,
        split=split,
        classes=classes,
        encode=type(snn.plan.encoder).__name__.lower(),
        gammas=gamma_by_step(snn),
        example=None,
        provenance=computed_by(origin, ran),
        **watch.fields(start),
    )


@final
class _Watch:
    """Sees an SNN run, batch after batch: its spikes, operations, traffic and answers."""

    def __init__(self, snn: SpikingNetwork, answered: Answered) -> None:
        self.snn, self.answered = snn, answered
        self.spikes, self.operations = SpikeCounter(snn), OperationCounter(snn)
        self.traffic = TrafficCounter(snn, self.operations)
        self.counters = self.spikes, self.operations, self.traffic
        watching = (each for each in answered.shared if isinstance(each, WatchingMetric))
        self.observers: tuple[Observer, ...] = (
            *self.counters,
            *(metric.observe for metric in watching),
        )
        self.n, self.device = 0, torch.device("cpu")

    def see(self, x: Tensor, targets: Any, ann: nn.Module | None, samples: int) -> None:
        """Run it on a batch, and the ANN, if there is one."""
        self.answered.begin(self.snn.timesteps)
        self.operations.begin_batch(samples)
        y_TN = self.snn.run(x, observer=self._observe)
        self.answered.add(y_TN, targets, None if ann is None else ann(x))
        self.n, self.device = self.n + samples, x.device

    def _observe(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        for observer in self.observers:
            observer(node, values, value)

    def add_others(self, group: Group) -> None:
        """Count what all processes have seen, in each of them."""
        self.answered.add_others()  # first, as other processes may still show their batches
        self.n = sum(group.gathered(self.n))
        for counter in self.counters:
            counter.add_others(group)

    def fields(self, start: Mapping[str, Mapping[str, float]] | None) -> dict[str, Any]:
        """Return what a result says of all that was seen."""
        prices, steps = Prices(), self.answered.timesteps
        neurons = self.spikes.rows(start)
        fired = {layer.path: layer.spikes_per_neuron for layer in neurons}
        layers = self.operations.rows(prices, fired)
        if not layers:
            raise LeanspikeError(
                "the network has no layers with weights, whose work could be counted"
            )
        energy = price(layers, neurons, steps, prices, self.operations.norm_pj(prices))
        return {
            "n": self.n,
            "timesteps": steps,
            "neurons": neurons,
            "operations": layers,
            "energy": energy,
            "rivals": compare_rivals(layers, neurons, energy, self.traffic, steps),
            "uncounted": self.operations.uncounted(),
            **self.answered.fields(self.n),
        }


def _check(snn: SpikingNetwork, seed: int | None, origin: Provenance | None) -> None:
    """Raise unless these can be measured, and do not contradict each other."""
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
