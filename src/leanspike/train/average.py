"""Averages of a network's weights over the steps of its training, which a stage may end with."""

from __future__ import annotations

from typing import Any, final

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from leanspike.errors import LeanspikeError
from leanspike.train.lookahead import begin_at, slow_weights
from leanspike.train.stage import Stage


def averaging(network: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network that holds the average of its weights.

    After step n of the training, call ``update_parameters(network)``. Then ``module`` holds the
    average of every parameter: weights, biases, thresholds, leaks.

        w̄_1 = w_1,    w̄_n = decay · w̄_{n−1} + (1 − decay) · w_n

    The statistics of norms are averaged alike. About 1 / (1 − decay) steps count. PyTorch's
    ``AveragedModel`` does the work.

    Args:
        network: stays as it is. It must allow a deep copy.
        decay: above 0 and below 1.

    Raises:
        LeanspikeError: for another ``decay``.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> average = averaging(network, decay=0.75)
    >>> for value in (0.0, 8.0):
    ...     _ = nn.init.constant_(network.weight, value)
    ...     average.update_parameters(network)
    >>> average.module.weight.item()
    2.0
    """
    if not 0 < decay < 1:
        raise LeanspikeError(f"average is {decay}; give a decay above 0 and below 1, as 0.99")
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


@final
class Trained:
    """A network in training, and the one that answers for it: itself, or one of averaged weights.

    Args:
        network: trained in place.
        stage: says by ``average`` or ``lookahead`` which weights those are.

    Raises:
        LeanspikeError: for both, a decay out of range, or a stage too short for its lookahead.
    """

    def __init__(self, network: nn.Module, stage: Stage) -> None:
        self.network, self.lookahead = network, stage.lookahead
        self.average: AveragedModel | None = None
        if stage.average is not None:
            self.average = averaging(network, stage.average)
        if self.lookahead is not None:
            try:
                self.lookahead.check_alone(stage.average)
            except LeanspikeError as error:
                raise LeanspikeError(f"stage {stage.name}: {error}") from None
            total = stage.epochs * len(stage.train)
            self.lookahead.check(stage.name, total)
            self.average = slow_weights(network, self.lookahead, total)

    @property
    def answers(self) -> nn.Module:
        """The network that is validated, selected and kept."""
        return self.network if self.average is None else self.average.module

    def stepped(self, steps: int) -> None:
        """Tell the average that a step was taken; ``steps`` were taken so far."""
        if self.average is None:
            return
        if self.lookahead is None:
            self.average.update_parameters(self.network)
        elif steps % self.lookahead.steps == 0:
            self.average.update_parameters(self.network)
            begin_at(self.average.module, self.network)

    def end(self, best: dict[str, Any]) -> None:
        """Give the network the best weights, or those of the network that answers."""
        if best or self.average is not None:
            self.network.load_state_dict(best or self.answers.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        average = {} if self.average is None else self.average.state_dict()
        return {"network": self.network.state_dict(), "average": average}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume from a checkpoint; one from before averages existed has none."""
        self.network.load_state_dict(saved["network"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
