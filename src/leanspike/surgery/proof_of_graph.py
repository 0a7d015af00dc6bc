"""The proof at conversion that the traced graph answers as the network does.

Tracing sees what a network's code does with a tensor. It does not see what Python does around it:
contexts, ``__call__``, random numbers that are not torch's. So an untouched copy of the network is
run beside the graph.
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
    "contexts such as autocast, a __call__ of its own, isinstance(x, torch.Tensor), and numbers "
    "that Python, NumPy or torch.rand draw: write that into modules, or take it out"
)


def prove_graph(
    reference: Reference, root: nn.Module, graph: fx.Graph, operations: Operations
) -> None:
    """Raise SurgeryError unless the graph answers as the network does, to rounding.

    Answers, statistics and paths of gradients are compared. Both run on the example in eval mode.
    If the network runs in training mode, both run there, too: on two samples, with the same
    dropout masks.
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
    """Return samples that the network takes in training mode, and its run; else warn."""
    x = reference.example
    failed = ""
    for x_N in (torch.cat([x[:1], random_like(x[:1])]), torch.cat([x, random_like(x)])):
        try:
            return x_N, reference.run(x_N, training=True)
        except Exception as error:  # not defined for that number, or for random ones
            failed = one_line(error)[:160]
    logging.getLogger("leanspike").warning(
        f"the network does not run in training mode ({failed}), so only its eval mode was "
        "compared with its graph; mend that before you train the SNN"
    )
    return None


@final
class _Traced(fx.Interpreter):
    """Runs the traced graph in the mode asked for, and notes what enters its modules."""

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
        """Run the graph once, and leave its buffers as they were."""
        self.training, self.found = training, Run([])
        self.root.train(training)
        with buffers_kept(self.root), seeded(self.root, training):
            answer = answer_of(lambda: self.run(entering(x, training)), f"{len(x)} samples")
            run = completed(self.found, answer, self.root)
        for name in self.caches:
            del run.buffers[name]
        return run

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the module as usual, and note what enters."""
        if target in self.watched:
            note(self.found, target, args)
        return super().call_module(target, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call as usual; let functional dropouts, traced in eval mode, drop in training."""
        if self.training and self.operations.row(target).dropout and kwargs.get("p") != 0:
            kwargs = {**kwargs, "training": True}
        return super().call_function(target, args, kwargs)


def _compare(expected: Run, found: Run, mode: str, x: Tensor) -> None:
    for path, calls in found.arriving.items():
        theirs = expected.arriving.get(path, [])
        if 0 < len(theirs) < len(calls):
            _differ(
                mode, f"module {path} is called {len(theirs)} times, but {len(calls)} in the graph"
            )
        if len(theirs) == len(calls) and not all(
            math.isclose(a, b, rel_tol=tolerance(x), abs_tol=1e-30)
            for a, b in zip(theirs, calls, strict=True)
        ):
            _differ(mode, f"module {path} gets another input")
    if not alike(expected.outputs, found.outputs):
        _differ(mode, difference(expected.outputs, found.outputs))
    for name in _written(expected, found):
        _differ(mode, f"its forward writes to the buffer {name}")
    if expected.gradients != found.gradients:
        more = (found.gradients - expected.gradients) or expected.gradients
        entering = "torch::autograd::AccumulateGrad"
        names = sorted((n for n in more if n != entering), key=lambda n: ("Backward" in n, n))
        raise SurgeryError(
            f"the network's gradients differ from its graph's at {', '.join(names[:3])}: "
            "torch.no_grad and autograd functions are not traced; write x.detach() for a tensor "
            "without gradient, or put the code into a module of its own and declare that with "
            "ops={ThatModule: 'analog'}"
        )


def _written(expected: Run, found: Run) -> list[str]:
    """Return the buffers that differ, without counts of batches, which serve statistics only."""
    return [
        name
        for name, value in found.buffers.items()
        if name in expected.buffers and not name.endswith("num_batches_tracked")
        if not alike([expected.buffers[name]], [value])
    ]


def _forget_caches(reference: Reference, traced: _Traced, found: Run) -> None:
    """Leave buffers out of the comparison if the network keeps there what no input changes.

    The graph computes that anew. After another input such buffers hold the same. The network reads
    them by then, and answers as the graph does.
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
