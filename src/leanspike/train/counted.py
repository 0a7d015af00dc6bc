"""The multiply-accumulates of a stage of training, counted on a copy of its network.

A step costs a + b·n for n samples: b for each of them, and a once, as for weights that are made of
others. Both follow from steps on 2 and on 4 samples, for each shape of inputs. So nothing is
counted while the network itself trains, whose bits do not change. The copy calls no hooks of the
user's, which are for the network in training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar, final

import torch
from rich.console import Console
from torch import Tensor, nn

from leanspike.distributed import ALONE
from leanspike.errors import LeanspikeError, one_line
from leanspike.evaluation.answers import outputs
from leanspike.evaluation.macs import MacCounter, Macs, Products
from leanspike.execute import SpikingNetwork
from leanspike.execute.doubts import Doubts
from leanspike.modes import eval_mode
from leanspike.train.stage import Position, Stage
from leanspike.train.step import Whole
from leanspike.train.teacher import Teacher

FEW, MORE = 2, 4
"""The samples of the two steps from which the count follows."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

Shape = tuple[int, ...]
T = TypeVar("T")


@final
class Counted:
    """Counts what the steps and the validation of a stage compute.

    Args:
        network: the network as it will be trained; it is copied here, and so is the objective.
        stage: how it will be trained.
        console: the console that is told if nothing can be counted.
    """

    def __init__(self, network: nn.Module, stage: Stage, console: Console) -> None:
        self.stage, self.console = stage, console
        self._whole = self._try(lambda: _copied(network, stage))
        self._axis = network.plan.encoder.batch_axis if isinstance(network, SpikingNetwork) else 0
        self._steps: dict[Shape, tuple[Macs, Macs] | None] = {}
        self._answers: dict[Shape, tuple[Macs, Macs] | None] = {}
        self._last: Tensor | None = None

    def step(self, position: Position, x: Tensor, labels: Tensor, samples: int) -> None:
        """Add a training step to the epoch's count: ``samples``, of which these are a part."""
        shape = self._shape(x)
        if shape not in self._steps:
            self._steps[shape] = self._line(lambda n: self._step(*self._some(n, x, labels)))
        line = self._steps[shape]
        if line is not None:
            position.macs = (Macs(**position.macs) + _at(line, samples)).model_dump()
            position.counted += samples

    def watched(self, batches: Iterator[tuple[Tensor, Any]]) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of a validation, whose shape is wanted afterwards."""
        for x, labels in batches:
            self._last = x
            yield x, labels

    def epoch(self, position: Position, held_out: int) -> dict[str, int] | None:
        """Return the count of an epoch that ended with a validation on ``held_out`` samples.

        It is None if anything was not counted, also by a version that could not count.
        """
        x, self._last = self._last, None
        if position.counted != position.seen:
            return None
        found = Macs(**position.macs)
        if held_out:
            if x is None:
                return None
            shape = self._shape(x)
            if shape not in self._answers:
                still = x  # for the closure, as x may be None
                self._answers[shape] = self._line(
                    lambda n: self._answer(self._rows(n, still, self._axis))
                )
            line = self._answers[shape]
            if line is None:
                return None
            found += _at(line, held_out)
        return found.model_dump()

    def _step(self, x: Tensor, labels: Tensor) -> Macs:
        """Take a step on the copy, without its update, and return what it computed."""
        assert self._whole is not None
        whole = self._whole.train()
        counters = forward, judged, backward = MacCounter(), MacCounter(), MacCounter()
        with forward:
            y_TNK = whole.answers(x)
        with judged:
            loss = whole.objective(y_TNK, labels, x)
        with backward:
            loss.backward()
        whole.zero_grad(set_to_none=True)
        _check(*counters)
        found = forward.products + judged.products
        teacher = judged.untracked
        return Macs(
            forward=found.macs - teacher.macs,
            teacher=teacher.macs,
            backward=backward.products.macs,
            padding=(found + backward.products).padding,
        )

    def _answer(self, x: Tensor) -> Macs:
        assert self._whole is not None
        network = self._whole.network
        with eval_mode(network), torch.no_grad(), MacCounter() as counter:
            outputs(network, x, self.stage.timesteps)
        _check(counter)
        found: Products = counter.products
        return Macs(validation=found.macs, padding=found.padding)

    def _line(self, count: Callable[[int], Macs]) -> tuple[Macs, Macs] | None:
        """Return what is computed once, and for each sample."""

        def both() -> tuple[Macs, Macs]:
            count(FEW)  # what is made once and kept is not of a step
            few, more = count(FEW), count(MORE)
            each = _map(lambda a, b: (b - a) // (MORE - FEW), few, more)
            return _map(lambda a, b: a - FEW * b, few, each), each

        if self._whole is None:
            return None
        with _apart(self._whole.unused.device):
            return self._try(both)

    def _try(self, count: Callable[[], T]) -> T | None:
        """Return what a function counts, or None with a line that says why it cannot."""
        try:
            return count()
        except Exception as error:  # whatever it is, the training itself goes on
            self.console.print(
                f"{self.stage.name}: multiply-accumulates are not counted ({one_line(error)})",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
            return None

    def _some(self, number: int, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self._rows(number, x, self._axis), self._rows(number, labels, 0)

    def _rows(self, number: int, x: Tensor, axis: int) -> Tensor:
        """Return that number of samples, each several times if there are fewer."""
        rows = torch.arange(number, device=x.device) % x.shape[axis]
        return x.index_select(axis, rows)

    def _shape(self, x: Tensor) -> Shape:
        return *x.shape[: self._axis], *x.shape[self._axis + 1 :]


def _copied(network: nn.Module, stage: Stage) -> Whole:
    """Return network and objective as one module, copied. Its teachers are not copied."""
    parts = [part for module in stage.objective.modules() for part in vars(module).values()]
    teachers = {id(part): part for part in parts if isinstance(part, Teacher)}
    ours, objective = deepcopy((network, stage.objective), teachers)
    for module in (*ours.modules(), *objective.modules()):
        for hooks in HOOKS:
            vars(module)[hooks].clear()
    if isinstance(ours, SpikingNetwork):
        ours.doubts = Doubts()  # the network itself gives its warnings
    return Whole(ours, replace(stage, objective=objective, group=ALONE, accumulate=1))


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Leave random numbers as they are, and compile nothing anew."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and it takes seconds to load
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _check(*counters: MacCounter) -> None:
    unknown = {name for counter in counters for name in counter.unknown}
    if unknown:
        raise LeanspikeError(f"the products inside {', '.join(sorted(unknown))} are not known")


def _at(line: tuple[Macs, Macs], samples: int) -> Macs:
    once, each = line
    return _map(lambda a, b: a + samples * b, once, each)


def _map(function: Callable[[int, int], int], a: Macs, b: Macs) -> Macs:
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in Macs.model_fields}
    return Macs(**{name: function(*pair) for name, pair in pairs.items()})
