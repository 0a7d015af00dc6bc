"""One step of training: forward, loss, backward, update; by one process or by several.

Several processes share every batch out among them and add up their gradients by PyTorch's
``DistributedDataParallel``. A batch may be cut into micro-batches, whose gradients are added.
"""

from __future__ import annotations

import logging
import math
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from leanspike.data.loader import generator_for
from leanspike.distributed import Share, sharing, split_batch
from leanspike.errors import LeanspikeError, one_line
from leanspike.evaluation.answers import outputs
from leanspike.evaluation.score import Labels
from leanspike.evaluation.task import UNKNOWN
from leanspike.execute import SpikingNetwork, readout
from leanspike.temporal.synchronise import synchronised
from leanspike.train.not_finite import Part, refuse
from leanspike.train.optim import set_learning_rate
from leanspike.train.stage import Position, Stage
from leanspike.train.whole_batch import WholeBatch


@final
class Stepper:
    """Takes the steps of a stage.

    Args:
        network: the network, which is trained in place.
        stage: how it is trained.

    Raises:
        LeanspikeError: where a process would have no samples of a micro-batch.
    """

    def __init__(self, network: nn.Module, stage: Stage) -> None:
        self.network, self.stage = network, stage
        self.told = Labels(stage.task)
        self._check_shares()
        self._whole = Whole(network, stage)
        self._parallel = self._wrapped() if stage.group.size > 1 else None

    def _check_shares(self) -> None:
        stage = self.stage
        parts, smallest = stage.accumulate * stage.group.size, stage.train.samples(0)
        if len(stage.train) and smallest < parts:
            raise LeanspikeError(
                f"stage {stage.name}: a batch of {smallest} images in {stage.accumulate} "
                f"micro-batches of {stage.group.size} processes leaves some without images; set "
                f"batch_size to {parts} or more, or lower accumulate or the number of processes"
            )

    def _wrapped(self) -> DistributedDataParallel:
        """Return network and objective with gradients that become the mean over the processes.

        Parameters that a step does not use, such as a leak at T = 1, stay without a gradient, as
        with one process. With ``find_unused_parameters`` the gradients also lie in the same buckets
        from the first step on. So a resumed run adds them in the same order. Each step begins with
        the first process's buffers. They are those of all processes, unless norms have statistics
        of their own.
        """
        device = next(self._whole.parameters()).device
        return DistributedDataParallel(
            self._whole,
            device_ids=None if device.type == "cpu" else [device],
            find_unused_parameters=True,
        )

    def take(self, position: Position, x: Tensor, labels: Tensor) -> tuple[float, float, int]:
        """Take a step on a batch, and return its loss, its right answers and its samples.

        ``x`` and ``labels`` are the batch, or this process's part of it. The three numbers are of
        the whole batch.

        Raises:
            LeanspikeError: when the loss or a gradient is no longer finite.
        """
        stage = self.stage
        self.network.train(True)
        step = position.epoch * len(stage.train) + position.step
        set_learning_rate(stage.optimizer, stage.schedule(step))
        stage.optimizer.zero_grad()
        samples = stage.train.samples(position.step)
        sums = self._gradients(position, samples, x, labels)
        bound = stage.max_gradient_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(stage.trained(), bound)
        # One transfer for all numbers: a GPU finishes all its work before it hands one over.
        numbers = torch.cat([stage.group.summed(sums), norm.detach().to(sums).view(1)])
        value, right, known, size = numbers.tolist()
        if not math.isfinite(value + size):
            rows = torch.cat([share.rows for share in self._shares(samples)])
            refuse(stage, position, (value, size), Part(x, labels, rows))
        stage.optimizer.step()
        if isinstance(self.network, SpikingNetwork):
            self.network.keep_in_range()
        return value, right * samples / max(1, known), samples

    def _gradients(self, position: Position, samples: int, x: Tensor, labels: Tensor) -> Tensor:
        """Run backward through all micro-batches, and return three sums.

        They are the loss, the right answers, and the answers that were asked for.
        """
        stage = self.stage
        key = (stage.number, position.epoch, position.step)
        seed = generator_for(stage.seed, *key).initial_seed()
        shares = self._shares(samples)
        sums, begin = [], 0
        for number, share in enumerate(shares):
            some = slice(begin, begin := begin + len(share.rows))
            last = number == len(shares) - 1
            with sharing(share if stage.is_shared else None), self._adding_up(last):
                torch.manual_seed(seed)
                sums.append(self._backward(share, x[self._along(some)], labels[some]))
        return torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]

    def _shares(self, samples: int) -> list[Share]:
        """Return what this process has of each micro-batch."""
        return split_batch(samples, self.stage.accumulate, self.stage.group)

    def _along(self, some: slice) -> tuple[slice, ...]:
        """Return an index of some samples, along the axis of the samples."""
        network = self.network
        axis = network.plan.encoder.batch_axis if isinstance(network, SpikingNetwork) else 0
        return *[slice(None)] * axis, some

    def _adding_up(self, last: bool) -> AbstractContextManager[None]:
        """Let the processes exchange their gradients only after the last micro-batch."""
        if last or self._parallel is None:
            return nullcontext()
        return self._parallel.no_sync()

    def _backward(self, share: Share, x: Tensor, labels: Tensor) -> Tensor:
        stage = self.stage
        try:
            loss, y_TNK = (self._parallel or self._whole)(x, labels)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # what batch norms say
                raise
            raise LeanspikeError(f"stage {stage.name}: {one_line(error)}") from error
        weight = share.weight * stage.group.size  # the processes' gradients are averaged, not added
        (loss if weight == 1 else loss * weight).backward()
        right, known = self._right(y_TNK, labels)
        wide = torch.promote_types(loss.dtype, torch.float32)
        if stage.is_shared:
            wide = torch.float64 if loss.device.type != "mps" else wide
        value = loss.detach().to(wide)
        value = value if share.weight == 1 else value * share.weight
        return torch.stack([value, right.to(value), known.to(value)])

    def _right(self, y_TN: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many answers are right, and how many answers were asked for."""
        stage, told = self.stage, self.told
        known = told.none
        task = told.task(y_TN, labels) if isinstance(y_TN, Tensor) else None
        if task is not None:
            targets = task.targets(labels, y_TN)
            right = (task.answers(readout(y_TN.detach(), "sum")[-1:])[0] == targets).sum()
            if targets.dim() == 1:
                return right, torch.tensor(len(labels))
            return right, (targets != UNKNOWN).sum()
        if stage.select == "best" and stage.val is not None and len(stage.val.split):
            raise LeanspikeError(
                f'stage {stage.name}: select is "best", by the accuracy on held-out data, and the '
                'targets are no labels; give select="last"'
            )
        if not known:
            logging.getLogger("leanspike").warning(
                f"stage {stage.name}: the targets are no labels, so no accuracy is measured"
            )
        return torch.zeros(()), torch.tensor(len(labels))

    def share_buffers(self, *networks: nn.Module) -> None:
        """Give each process the first one's running statistics, where each has its own."""
        if self._parallel is not None and not self.stage.synchronise_norms:
            for network in networks:
                for buffer in network.buffers():
                    torch.distributed.broadcast(buffer, 0)


@final
class Whole(nn.Module):
    """Network and objective as one module, from a batch to its loss and the outputs."""

    def __init__(self, network: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.network, self.objective, self.stage = network, stage.objective, stage
        # PyTorch warns where it looks for unused parameters and finds none.
        self.unused = nn.Parameter(next(network.parameters()).new_zeros(()))

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Any]:
        """Return the loss, as a mean over these samples, and the outputs ``[T, N, ...]``."""
        y_TNK = self.answers(x)
        loss: Tensor = self.objective(y_TNK, labels, x)
        return loss, y_TNK

    def answers(self, x: Tensor) -> Any:
        """Return the outputs, while the objective looks on."""
        stage = self.stage
        mixed = stage.dtype != torch.float32
        with ExitStack() as stack:
            stack.enter_context(stage.objective.watch(self.network))
            stack.enter_context(torch.autocast(x.device.type, stage.dtype, enabled=mixed))
            if stage.is_shared:
                stack.enter_context(synchronised(stage.synchronise_norms))
                stack.enter_context(WholeBatch())
            return outputs(self.network, x, stage.timesteps, stage.gradient)
