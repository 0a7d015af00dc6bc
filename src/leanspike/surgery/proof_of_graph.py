"""The proof at conversion: what was traced, and what was made of it, answers as the network does.

Tracing sees what a network's code does with a tensor. It does not see what Python does around it:
contexts, ``__call__``, random numbers that are not torch's. So the network itself, a copy that
nobody has touched, is run beside the graph.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.errors import SurgeryError, one_line
from leanspike.graph.ops import Operations
from leanspike.modes import buffers_kept
from leanspike.surgery.reference import (
    Reference,
    Run,
    alike,
    answer_of,
    completed,
    difference,
    entering,
    note,
    random_like,
    seeded,
    tolerance,
)

LOST = (
    "contexts as autocast, a __call__ of its own, isinstance(x, torch.Tensor), numbers that "
    "Python, NumPy or torch.rand draw: write that into modules, or take it out"
)


def prove_graph(
    reference: Reference, root: nn.Module, graph: fx.Graph, operations: Operations
) -> None:
    """Raise SurgeryError unless the graph answers as the network does, to rounding.

    Answers, statistics and paths of gradients are compared. Both run on the example in eval mode.
    Where the network can be run so, both run in training mode, too: on two samples, with the same
    dropouts.
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
            answer = answer_of(lambda: self.run(entering(x, training)), f"{len(x)} samples")
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
        _differ(mode, difference(expected.outputs, found.outputs))
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
