"""What training minimises: objects from the outputs of all steps and the labels to a scalar.

Each is a module, so that what it learns itself (the adapters of a feature distillation) is trained,
and saved in checkpoints, with the network, but is no part of it. They add up in :class:`Weighted`.
Shapes: T timesteps (1 for an ANN), N samples, K classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.evaluation.score import Labels, no_labels
from leanspike.evaluation.task import Task, TaskName
from leanspike.execute.answers import check_readout
from leanspike.neuron import Neuron
from leanspike.surgery import SpikingNetwork, readout
from leanspike.train.watch import hooks

Readout = Literal["sum", "mean"]


class Objective(nn.Module, ABC):
    """A loss: outputs ``y_TNK`` ``[T, N, K]``, ``labels``, as ``[N]``, the input, to a scalar."""

    @abstractmethod
    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
        """The loss, as a mean over the batch, in float32."""

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:  # noqa: ARG002
        """While ``network`` runs: see in it what the loss needs besides its outputs."""
        yield


@final
class CrossEntropy(Objective):
    """Cross-entropy of the last answer: of Σ_t y_t (DIET-SNN) or of its mean (BNTT).

    Of one output, or of several labels, it is the binary one, with logits; its labels may be
    probabilities.

    Args:
        readout: "sum" or "mean".
        label_smoothing: in [0, 1).
        task: what the labels are of, see :func:`leanspike.evaluation.accuracy`; default: what those
            of the first batch show.

    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    >>> loss = CrossEntropy("sum")(y_TNK, torch.tensor([0]), torch.zeros(1))
    >>> round(loss.item(), 4)  # log(1 + e**-2)
    0.1269
    >>> loss = CrossEntropy("sum")(torch.tensor([[[2.0]]]), torch.tensor([1]), torch.zeros(1))
    >>> round(loss.item(), 4)  # one logit, above 0: the same
    0.1269
    """

    def __init__(
        self,
        readout: Readout = "sum",
        label_smoothing: float = 0.0,
        task: Task | TaskName | None = None,
    ) -> None:
        super().__init__()
        check_readout(readout)
        _check_smoothing(label_smoothing)
        self.readout, self.label_smoothing = readout, label_smoothing
        self.labels = Labels(task)

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """See :class:`Objective`."""
        logits_NK = readout(y_TNK, self.readout)[-1]
        task = task_of(self.labels, y_TNK, labels)
        return task.loss(logits_NK, labels, self.label_smoothing)


@final
class TET(Objective):
    """Temporal efficient training: every step's output has to answer by itself.

        (1 − ρ) · mean_t CE(y_t, label) + ρ · mean (y_t − φ)²

    (Deng et al., ICLR 2022, arXiv 2202.11946, eqs. 7 to 9, where ρ is called λ.) The second term
    keeps outliers of single steps down; ρ = 0 leaves it out. Read such a network out by "mean".

    Args:
        regularisation: ρ, in [0, 1).
        target: φ, the level that outputs are drawn to.
        label_smoothing: in [0, 1).
        task: as in :class:`CrossEntropy`.

    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]])
    >>> loss = TET(regularisation=0.0)(y_TNK, torch.tensor([0]), torch.zeros(1))
    >>> round(loss.item(), 4)  # the mean of log(1 + e**-1) and log(1 + e**-3)
    0.1809
    """

    def __init__(
        self,
        regularisation: float = 0.05,
        target: float = 1.0,
        label_smoothing: float = 0.0,
        task: Task | TaskName | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= regularisation < 1:
            raise LeanspikeError(f"regularisation is {regularisation}; give a number in [0, 1)")
        if not math.isfinite(target):
            raise LeanspikeError(f"target is {target}; give a finite number")
        _check_smoothing(label_smoothing)
        self.regularisation, self.target = regularisation, target
        self.label_smoothing = label_smoothing
        self.labels = Labels(task)

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """See :class:`Objective`."""
        y_TNK = widened(y_TNK)
        task = task_of(self.labels, y_TNK, labels)
        each = labels.repeat(len(y_TNK), *[1] * (labels.dim() - 1))
        entropy = task.loss(y_TNK.flatten(0, 1), each, self.label_smoothing)
        spread = (y_TNK - self.target).square().mean()
        return (1 - self.regularisation) * entropy + self.regularisation * spread


@final
class SquaredError(Objective):
    """The mean squared error of the last answer, for targets that are numbers.

        mean (y − target)²              y the sum or the mean of the steps' outputs

    Args:
        readout: "sum" or "mean".

    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[3.0, 2.0]]])
    >>> SquaredError("mean")(y_TNK, torch.tensor([[2.0, 3.0]]), torch.zeros(1)).item()
    2.0
    """

    def __init__(self, readout: Readout = "sum") -> None:
        super().__init__()
        check_readout(readout)
        self.readout = readout

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """See :class:`Objective`."""
        return mean_squared_error(widened(readout(y_TNK, self.readout)[-1]), labels)


def mean_squared_error(y_N: Tensor, targets: Tensor) -> Tensor:
    """The mean of (y − target)² over a batch, ``[N]`` standing for ``[N, 1]`` and the reverse.

    Raises:
        LeanspikeError: for targets of another shape than the outputs'.

    >>> mean_squared_error(torch.ones(2, 1), torch.tensor([1.0, 3.0])).item()
    2.0
    """
    if targets.numel() != y_N.numel() or len(targets) != len(y_N):
        raise LeanspikeError(
            f"targets of shape {list(targets.shape)} for outputs {list(y_N.shape)}; a squared "
            "error needs a number for each output"
        )
    return (y_N - targets.reshape(y_N.shape).to(y_N.dtype)).square().mean()


@final
class SpikeRate(Objective):
    """The spikes per neuron over all steps, as a price on them; of neurons that spike.

        R = Σ_l Σ_t spikes of layer l at t / Σ_l neurons of layer l          over all samples

    whatever the height of a spike, which neither R nor its gradient depends on.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> snn, x, rate = spike(ann, example_input=torch.zeros(1, 2)), torch.rand(4, 2), SpikeRate()
    >>> with rate.watch(snn):
    ...     y_TNK = snn(x)
    >>> 0 <= rate(y_TNK, torch.zeros(4), x).item() <= 5
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self._spikes: list[Tensor] = []
        self._neurons = 0

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        """See :meth:`Objective.watch`."""
        if not isinstance(network, SpikingNetwork):
            raise LeanspikeError("a spike rate needs a spiking network; leave it out of the ANN's")
        self._spikes, self._neurons = [], 0

        def count(module: nn.Module, _args: Any, o_TN: Any) -> None:
            assert isinstance(module, Neuron)
            self._spikes.append(_spikes(o_TN, module.spike_height()))
            self._neurons += o_TN[0].numel()

        with hooks([(layer, count) for layer in _spiking(network)]):
            yield

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """See :class:`Objective`."""
        if not self._neurons:
            raise LeanspikeError(
                "no spikes were seen; run the network inside watch(network) before each loss"
            )
        rate = torch.stack(self._spikes).sum() / self._neurons
        self._spikes, self._neurons = [], 0
        return rate


@final
class Weighted(Objective):
    """A sum of objectives, each with its weight.

    >>> loss = Weighted(((0.25, CrossEntropy()), (0.75, CrossEntropy())))
    >>> round(loss(torch.zeros(1, 1, 2), torch.tensor([0]), torch.zeros(1)).item(), 4)  # log 2
    0.6931
    """

    def __init__(self, terms: Sequence[tuple[float, Objective]]) -> None:
        super().__init__()
        for term in terms:
            if not (isinstance(term, tuple) and len(term) == 2 and isinstance(term[1], Objective)):
                raise LeanspikeError(f"a term is {term!r}; give pairs (weight, objective)")
            if not math.isfinite(term[0]):
                raise LeanspikeError(f"a weight is {term[0]}; give a finite number")
        if not terms:
            raise LeanspikeError("no objectives; give at least one pair (weight, objective)")
        self.weights = tuple(weight for weight, _ in terms)
        self.objectives = nn.ModuleList(objective for _, objective in terms)

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        """See :meth:`Objective.watch`."""
        with ExitStack() as stack:
            for objective in self.objectives:
                assert isinstance(objective, Objective)
                stack.enter_context(objective.watch(network))
            yield

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
        """See :class:`Objective`."""
        losses = [objective(y_TNK, labels, x) for objective in self.objectives]
        return torch.stack([w * loss for w, loss in zip(self.weights, losses, strict=True)]).sum()


def task_of(told: Labels, y_TN: Tensor, labels: Tensor) -> Task:
    """What labels are of; LeanspikeError for targets that are none.

    >>> task_of(Labels(), torch.zeros(5, 2, 3), torch.tensor([0, 2])).name
    'multiclass'
    """
    task = told.task(y_TN, labels)
    if task is None:
        raise LeanspikeError(
            f"{no_labels(y_TN, labels)}; take squared_error (SquaredError) for numbers, or write "
            "an Objective of your own, with their loss"
        )
    return task


def _spiking(network: SpikingNetwork) -> list[Neuron]:
    """The neurons of a network, all of which spike."""
    found = []
    for path, module in network.neurons():
        if not isinstance(module, Neuron) or module.spike_height() is None:
            raise LeanspikeError(
                f"neurons {path}: what a {type(module).__name__} emits are no spikes, whose rate "
                "could have a price; leave spike_rate out, or put neurons that spike in its place"
            )
        found.append(module)
    return found


def _spikes(o_TN: Tensor, height: Tensor | None) -> Tensor:
    """How many, with a gradient that does not depend on their height.

    That is not detached: the threshold in the outputs v·o has to cancel in the gradient too.
    """
    assert height is not None
    dtype = torch.promote_types(o_TN.dtype, torch.float32)
    if height.ndim == 0:
        return o_TN.sum(dtype=dtype) / height
    return (o_TN.sum(0, dtype=dtype) / height).sum()


def widened(y_TNK: Tensor) -> Tensor:
    """In float32 at least.

    >>> widened(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return y_TNK.to(torch.promote_types(y_TNK.dtype, torch.float32))


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise LeanspikeError(f"label_smoothing is {label_smoothing}; give a number in [0, 1)")
