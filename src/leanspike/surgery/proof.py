"""The proof at conversion: what was traced, and what was made of it, answers as the network does.

Tracing sees what a network's code does with a tensor. It does not see what Python does around it:
contexts, ``__call__``, random numbers that are not torch's. So the network itself, a copy that
nobody has touched, is run beside the graph.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.errors import SurgeryError, one_line
from leanspike.graph.ops import Operations, Signal
from leanspike.graph.outputs import tensors
from leanspike.graph.rewrite import Rewriting
from leanspike.modes import buffers_kept
from leanspike.surgery.reference import (
    Reference,
    Run,
    alike,
    completed,
    entering,
    note,
    random_like,
    seeded,
    tolerance,
)
from leanspike.temporal import broadcast, repeat, stack, unstack

LOST = (
    "contexts as autocast, a __call__ of its own, isinstance(x, torch.Tensor), numbers that "
    "Python, NumPy or torch.rand draw: write that into modules, or take it out"
)

FACTOR = 8
"""By how much more two runs may differ whose batches are not of the same size."""


def prove_graph(
    reference: Reference, root: nn.Module, graph: fx.Graph, operations: Operations
) -> None:
    """Raise SurgeryError unless the graph answers as the network does, to rounding.

    In eval mode, on the example; and in training mode, on two samples with the same dropouts, where
    the network can be run so: the same answers, statistics and paths of gradients.
    """
    kinds = {path: type(module) for module, path in reference.paths.items()}
    calls = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    called = {path for path in calls if type(root.get_submodule(path)) is kinds.get(path)}
    traced = _Traced(root, graph, operations, called)
    x = reference.example
    found = traced.run_as(x, training=False)
    _forget_caches(reference, traced, found)
    _compare(reference.answer, found, "in eval mode", x)
    try:
        several = _training_run(reference)
        if several is not None:
            x_N, expected = several
            _compare(expected, traced.run_as(x_N, training=True), "in training mode", x)
    finally:
        root.eval()


def _training_run(reference: Reference) -> tuple[Tensor, Run] | None:
    """Samples that the network takes in training mode, with what it gives; None, and it is said."""
    x = reference.example
    failed = ""
    for x_N in (torch.cat([x[:1], random_like(x[:1])]), torch.cat([x, random_like(x)])):
        try:
            return x_N, reference.run(x_N, training=True)
        except Exception as error:  # it is not defined for so many, or for random ones
            failed = one_line(error)[:160]
    logging.getLogger("leanspike").warning(
        f"the network does not run in training mode ({failed}), so that only its eval mode was "
        "compared with its graph; mend that before you train the SNN"
    )
    return None


def prove_steps(reference: Reference, rewriting: Rewriting, declared: Collection[Any]) -> None:
    """Raise SurgeryError unless timesteps stay apart in the rewritten graph.

    Activations, dropouts and norms are put back into their places. The first sample lies between
    timesteps that are random. To it the graph must answer as the network does to it alone.
    ``declared`` are the operations that the user spoke for.
    """
    first, expected = reference.example[:1], reference.answer
    if len(reference.example) > 1:
        try:
            expected = reference.run(first, training=False)
        except Exception:  # it takes no sample by itself
            first = reference.example
    with seeded(rewriting.root, training=False):
        other = random_like(first)  # and its negative, since activations may let nothing through
        steps = _Steps(rewriting, (other, -other, first, other), number=2)
        found = [y_TN[2] for y_TN in tensors(_answer(steps.answer, "several steps"))]
    same = alike(expected.outputs, found, factor=FACTOR)
    entered = next(steps.entered_otherwise(expected), None) if same else None
    if same and entered is None:
        return
    how = _difference(expected.outputs, found) if entered is None else entered
    names = ", ".join(getattr(op, "__name__", repr(op)) for op in declared)
    spoken = f"one of those declared ({names})" if names else "something in it"
    raise SurgeryError(
        f"the answer to a sample depends on the other samples of the batch, among which an SNN has "
        f"its timesteps ({how}): {spoken} mixes them; take it "
        "out, or write it for each sample by itself"
    )


@final
class _Traced(fx.Interpreter):
    """Runs the traced graph in the mode asked for, and tells what enters its modules."""

    def __init__(
        self, root: nn.Module, graph: fx.Graph, operations: Operations, watched: Collection[str]
    ) -> None:
        super().__init__(root, graph=graph)
        self.extra_traceback = False
        self.root, self.operations, self.watched = root, operations, watched
        self.training = False
        self.caches: set[str] = set()
        self.found = Run([])

    def run_as(self, x: Tensor, *, training: bool) -> Run:
        """One run, which leaves the buffers as they were."""
        self.training, self.found = training, Run([])
        self.root.train(training)
        with buffers_kept(self.root), seeded(self.root, training):
            answer = _answer(lambda: self.run(entering(x, training)), f"{len(x)} samples")
            run = completed(self.found, answer, self.root)
        for name in self.caches:
            del run.buffers[name]
        return run

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As usual, and tell what enters."""
        if target in self.watched:
            note(self.found, target, args)
        return super().call_module(target, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As usual; functional dropouts, which were traced in eval mode, drop in training."""
        if self.training and self.operations.row(target).dropout and kwargs.get("p") != 0:
            kwargs = {**kwargs, "training": True}
        return super().call_function(target, args, kwargs)


def _answer(run: Callable[[], Any], what: str) -> Any:
    """What a run gives; SurgeryError where it fails, as the network itself does not."""
    try:
        return run()
    except Exception as error:
        raise SurgeryError(
            f"the network's graph does not run for {what} ({one_line(error)[:160]}): something in "
            "it takes as many samples as the example alone; write it for any number"
        ) from error


def _compare(expected: Run, found: Run, mode: str, x: Tensor) -> None:
    for path, calls in found.arriving.items():
        theirs = expected.arriving.get(path, [])
        if 0 < len(theirs) < len(calls):
            _differ(
                mode, f"module {path} is called {len(theirs)} times, and in the graph more often"
            )
        if len(theirs) == len(calls) and not all(
            math.isclose(a, b, rel_tol=tolerance(x), abs_tol=1e-30)
            for a, b in zip(theirs, calls, strict=True)
        ):
            _differ(mode, f"something else enters module {path}")
    if not alike(expected.outputs, found.outputs):
        _differ(mode, _difference(expected.outputs, found.outputs))
    for name in _written(expected, found):
        _differ(mode, f"its forward writes to the buffer {name}")
    if expected.gradients != found.gradients:
        more = (found.gradients - expected.gradients) or expected.gradients
        entering = "torch::autograd::AccumulateGrad"
        names = sorted((n for n in more if n != entering), key=lambda n: ("Backward" in n, n))
        raise SurgeryError(
            f"the network stops gradients, or has some of its own, where its graph has those of "
            f"{', '.join(names[:3])}: torch.no_grad and autograd functions are not traced; write "
            "x.detach() for what is to have no gradient, or put the code into a module of its own "
            "and declare that with ops={ThatModule: 'analog'}"
        )


def _written(expected: Run, found: Run) -> list[str]:
    """The buffers that hold something else; what counts batches is read for the statistics only."""
    return [
        name
        for name, value in found.buffers.items()
        if name in expected.buffers and not name.endswith("num_batches_tracked")
        if not alike([expected.buffers[name]], [value])
    ]


def _forget_caches(reference: Reference, traced: _Traced, found: Run) -> None:
    """Take buffers out of the comparison in which the network keeps what no input changes.

    The graph computes that anew. After another input the buffers hold the same, and the network,
    which reads them by then, answers as the graph does.
    """
    read = {str(node.target) for node in traced.graph.nodes if node.op == "get_attr"}
    written = [name for name in _written(reference.answer, found) if name not in read]
    if not written:
        return
    other = random_like(reference.example)
    later, same = reference.run_after_the_example(other), traced.run_as(other, training=False)
    kept, again = ([run.buffers[n] for n in written] for run in (reference.answer, later))
    if alike(kept, again) and alike(later.outputs, same.outputs):
        traced.caches.update(written)
        for name in written:
            del found.buffers[name]


def _differ(mode: str, what: str) -> None:
    raise SurgeryError(
        f"the network's graph is not the network: {mode}, {what}; torch.fx does not see {LOST}"
    )


def _difference(expected: list[Tensor], found: list[Tensor]) -> str:
    for a, b in zip(expected, found, strict=False):
        if a.shape != b.shape or a.dtype != b.dtype:
            return (
                f"it answers {tuple(a.shape)} of {a.dtype}, the graph {tuple(b.shape)} of {b.dtype}"
            )
        if not alike([a], [b]):
            most = (a - b).abs().max().item()
            return (
                f"the answers differ by {most:.3g}, and are as large as {a.abs().max().item():.3g}"
            )
    return f"it gives {len(expected)} tensors, the graph {len(found)}"


@final
class _Steps(fx.Interpreter):
    """Runs the rewritten graph for timesteps that have different ``inputs``.

    What is the same at each step is run for each input by itself; where it meets time, each step
    gets its own. Of step ``number``, counted from 0, what enters modules is noted.
    """

    def __init__(self, rewriting: Rewriting, inputs: tuple[Tensor, ...], number: int) -> None:
        super().__init__(rewriting.root, graph=rewriting.graph)
        self.extra_traceback = self.garbage_collect_values = False
        self.originals = rewriting.originals
        self.inputs, self.number = inputs, number
        self.static: list[dict[fx.Node, Any]] = [{} for _ in inputs]
        self.found = Run([])
        self.entries: dict[str, int] = {}

    def answer(self) -> Any:
        """What the graph gives for these inputs, one a step."""
        return self.run(torch.cat(self.inputs), len(self.inputs))

    def run_node(self, n: fx.Node) -> Any:
        """As usual, but for what was put in and what is the same at each step in a real run."""
        signal: Signal = n.meta["signal"]
        if n.target in (broadcast, repeat) and signal.timed:
            steps = [values[n.all_input_nodes[0]] for values in self.static]
            return torch.stack(steps) if n.target is broadcast else torch.cat(steps)
        if signal.timed:
            self._note(n)
            return self._run(n)
        timed_values = self.env
        for number, values in enumerate(self.static):
            self.env = values
            self._note(n, of_step=number)
            image = n.op == "placeholder" and signal.kind is not None
            values[n] = self.inputs[number].clone() if image else self._run(n)
        self.env = timed_values
        return self.static[0][n]

    def entered_otherwise(self, expected: Run) -> Iterator[str]:
        """The modules that something else entered than in that run of the sample alone.

        A fault far from the output may be too small to be seen there.
        """
        bound = tolerance(self.inputs[0]) * FACTOR
        for path, lengths in self.found.arriving.items():
            theirs = expected.arriving.get(path, [])
            nought = bound * math.sqrt(self.entries[path])  # what is left of sums that are 0
            pairs = zip(theirs, lengths, strict=False)
            close = (math.isclose(a, b, rel_tol=bound, abs_tol=nought) for a, b in pairs)
            if len(theirs) == len(lengths) and not all(close):
                yield f"something else enters module {path}"

    def _note(self, n: fx.Node, of_step: int | None = None) -> None:
        """Note what enters the module of a node, of the step that is watched."""
        if n.op != "call_module" or n in self.originals or of_step not in (None, self.number):
            return
        (x, *_), _ = self.fetch_args_kwargs_from_env(n)
        if isinstance(x, Tensor):
            alone = of_step is not None or n.all_input_nodes[0].meta["signal"].kind == "constant"
            own = x if alone else unstack(x, len(self.inputs))[self.number]
            note(self.found, str(n.target), (own,))
            self.entries[str(n.target)] = own.numel()

    def _run(self, n: fx.Node) -> Any:
        if n.op == "placeholder":
            return torch.cat(self.inputs) if n.meta["signal"].timed else len(self.inputs)
        original = self.originals.get(n)
        if original is None:
            return super().run_node(n)
        (x_TN, *_), _ = self.fetch_args_kwargs_from_env(n)
        return unstack(original(stack(x_TN), self.env.__getitem__), len(x_TN))
