"""Runs of a network over all calibration images, batch by batch, in the memory of one batch.

Shapes: T timesteps, n images of a batch, N of all, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, final

import torch
from torch import Tensor, fx

from leanspike.distributed import ALONE, Group
from leanspike.execute.answers import readout
from leanspike.execute.network import SpikingNetwork
from leanspike.execute.observed import Execution, Observer
from leanspike.neuron import Calibrated
from leanspike.surgery.frontier import pack, packed_bytes, unpack
from leanspike.temporal import broadcast

ROOM = 2**30
"""Bytes that halted batches may take together. Batches that would take more halt where they take
least, and what follows is computed again."""

LARGEST = 2**28
"""Bytes that a batch's largest value may take. Fewer of larger images are computed at a time."""

Visit = Callable[[fx.Node, Iterable[Tensor]], None]
"""A function of a node and its input, batch by batch, which it may iterate over repeatedly."""


@final
class Sweep:
    """Runs a network over all images.

    Args:
        snn: the network. Its thresholds and statistics may change between two nodes.
        images: ``[N, ...]``, or ``[T, N, ...]``.
        timesteps: T.
        batch_size: the number of images computed at a time, at most.
        group: processes, each of which computes whole batches in turn, if there are enough.
    """

    def __init__(
        self,
        snn: SpikingNetwork,
        images: Tensor,
        timesteps: int,
        batch_size: int,
        group: Group = ALONE,
    ) -> None:
        self.snn = snn
        self.timesteps = timesteps
        self.nodes = list(snn.plan.graph.nodes)
        self.axis = snn.plan.encoder.batch_axis
        size = min(batch_size, self._fitting(images))
        chunks = torch.split(images, size, dim=self.axis)
        self.group = group if len(chunks) >= group.size else ALONE
        self.chunks = tuple(self.group.own(chunks))

    def answers(self, observer: Observer | None = None, *, relu: bool = False) -> list[Tensor]:
        """Return each output's answers at each step, ``[T, N, ...]``, in the order of the images.

        Outputs that no neuron reaches are left out. With ``relu`` the neurons act as the ANN's
        activations, and there is one step. ``observer`` sees each operation of each batch.
        """
        found = []
        for chunk in self.chunks:
            execution = self.execution(observer, relu=relu)
            execution.args_iter = iter(self.entering(chunk, relu=relu))
            found.append(self.finish(execution, 0))
        return self._joined(found)

    def halting(self, stops: Collection[fx.Node], visit: Visit) -> list[Tensor]:
        """Return the answers of a run that halts all batches before each of ``stops``.

        There ``visit`` sees the batches. What it sets is in force for all images from there on.
        """
        halted = Halted(self, stops)
        for place, node in enumerate(self.nodes):
            if node in stops:
                halted.stop = place
                visit(node, halted)
        return self._joined(list(halted.answers()))

    def finish(self, execution: Execution, place: int) -> list[Tensor]:
        """Run a batch from a place to its end; return the answers of each output."""
        *inner, output = self.nodes
        for node in inner[place:]:
            _run_node(execution, node)
        leaves = [node for node in output.all_input_nodes if node.target is not broadcast]
        return [_answers(execution.env[leaf]) for leaf in leaves]

    def execution(self, observer: Observer | None = None, *, relu: bool = False) -> Execution:
        """Return a run of the network's graph."""
        return (_Activations if relu else Execution)(self.snn, self.snn.plan, observer)

    def entering(self, chunk: Tensor, *, relu: bool = False) -> tuple[Tensor, int]:
        """Return a batch as the graph takes it: its input and the number of steps."""
        if relu and self.axis == 0:  # the ANN sees the analog input
            return self.snn.layout.enter(chunk)[0], 1
        sequence, steps = self.snn.plan.encoder.sequence(chunk, self.timesteps, training=False)
        return self.snn.layout.enter(sequence)[0], steps

    def _joined(self, found: list[list[Tensor]]) -> list[Tensor]:
        """Return the answers of all batches for each output, those of other processes, too."""
        own = [[chunk.cpu() for chunk in batch] for batch in found]
        every = found if self.group.size == 1 else self.group.in_turn(own)
        return [torch.cat(chunks, dim=1) for chunks in zip(*every, strict=True)]

    def _fitting(self, images: Tensor) -> int:
        """Return how many images may be computed at a time, by the ANN's values for one image."""
        sizes = [0]

        def observe(_node: fx.Node, _values: Any, value: Any) -> None:
            if isinstance(value, Tensor):
                sizes.append(value.numel() * value.element_size())

        one = images.narrow(self.axis, 0, 1)
        self.execution(observe, relu=True).run(*self.entering(one, relu=True))
        steps = self.timesteps if self.axis == 0 else 1  # frames bring theirs
        return max(1, LARGEST // max(1, steps * max(sizes)))


@final
class Halted:
    """All batches, halted before a node. Iterating yields what will enter the node.

    A batch is kept as the values that are still needed at some place before the node. This is the
    last place where all batches fit into `ROOM`. If there is none, it is where they take least:
    behind neurons, whose spikes take a bit each. Each iteration resumes the batches from there.
    """

    def __init__(self, sweep: Sweep, stops: Collection[fx.Node]) -> None:
        self.sweep = sweep
        self.stop = self.place = 0
        self.kept: list[dict[fx.Node, Any]] = [{} for _ in sweep.chunks]
        targets = [node.target for node in stops]
        self.called_again = {node for node in stops if targets.count(node.target) > 1}
        self.passed: list[int] = []

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the input of the node for each batch."""
        node, begin, cut = self.sweep.nodes[self.stop], self.place, -1
        for i in range(len(self.kept)):
            execution = self._resumed(i)
            if i == 0:
                cut, env = self._best_place(execution)
            else:
                self._run(execution, begin, cut)
                env = dict(execution.env)
                self._run(execution, cut, self.stop)
            if cut != begin:
                self.kept[i] = pack(env)
            env = {}
            (x, *_), _ = execution.fetch_args_kwargs_from_env(node)
            del execution  # before the next batch begins
            yield x
        self.place = cut
        if self.stop not in self.passed:
            self.passed.append(self.stop)

    def answers(self) -> Iterator[list[Tensor]]:
        """Run each batch to its end."""
        for i in range(len(self.kept)):
            execution = self._resumed(i)
            self.kept[i] = {}
            yield self.sweep.finish(execution, self.place)

    def _resumed(self, i: int) -> Execution:
        """Return the execution of a batch that was kept, or of one that has not begun."""
        execution = self.sweep.execution()
        if self.place == 0:
            execution.args_iter = iter(self.sweep.entering(self.sweep.chunks[i]))
        else:
            execution.env = unpack(self.kept[i])
        return execution

    def _run(self, execution: Execution, begin: int, end: int) -> None:
        for node in self.sweep.nodes[begin:end]:
            _run_node(execution, node)

    def _best_place(self, execution: Execution) -> tuple[int, dict[fx.Node, Any]]:
        """Find where to keep batches while the first one runs; return its values there, too."""
        best, least, values = -1, 0, dict[fx.Node, Any]()
        for place in range(self.place, self.stop + 1):
            if place > self.place:
                _run_node(execution, self.sweep.nodes[place - 1])
            if place < self._first_place():
                continue
            needed = packed_bytes(execution.env) if place else 0
            fits = needed * len(self.kept) <= ROOM
            if best < 0 or fits or needed <= least:
                best, least, values = place, needed, dict(execution.env)
        return best, values

    def _first_place(self) -> int:
        """Return the first place where batches may be kept, lest much is computed repeatedly.

        If a layer is called again, its earlier calls must keep the settings that they ran with.
        """
        since = [stop for stop in self.passed if self.place <= stop < self.stop]
        again = [stop for stop in since if self.sweep.nodes[stop] in self.called_again]
        if again or len(since) > 1:
            return since[-1] + 1
        return self.place


def _run_node(execution: Execution, node: fx.Node) -> None:
    """Run one operation, and free the values that no operation needs any more."""
    execution.env[node] = execution.run_node(node)
    for done in execution.user_to_last_uses.get(node, ()):
        del execution.env[done]


def _answers(y_TN: Tensor) -> Tensor:
    """Return the class of the largest sum at each step; for one output whether it is positive."""
    y_TN = readout(y_TN, "sum")
    return y_TN.argmax(2) if y_TN.dim() > 2 and y_TN.shape[2] > 1 else y_TN > 0


@final
class _Activations(Execution):
    """An execution in which each neuron acts as the activation that it stands for."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a neuron as its activation, and any other module as usual."""
        module = self.fetch_attr(target)
        if isinstance(module, Calibrated):
            return module.as_activation(args[0])
        return super().call_module(target, args, kwargs)
