"""The proof at conversion: what was traced, and what was made of it, answers as the network does.

Tracing sees what a network's code does with a tensor. It does not see what Python does around it:
contexts, ``__call__``, random numbers that are not torch's. So the network itself, a copy that
nobody has touched, is run beside the graph.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
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
    _compare(reference.answer, traced.run_as(x, training=False), "in eval mode", x)
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
        answer = _answer(_Steps(rewriting, (other, -other, first, other)).answer, "several steps")
    found = [y_TN[2] for y_TN in tensors(answer)]
    if alike(expected.outputs, found, factor=8):
        return
    names = ", ".join(getattr(op, "__name__", repr(op)) for op in declared)
    spoken = f"one of those declared ({names})" if names else "something in it"
    raise SurgeryError(
        f"the answer to a sample depends on the other samples of the batch, among which an SNN has "
        f"its timesteps ({_difference(expected.outputs, found)}): {spoken} mixes them; take it "
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
        self.found = Run([])

    def run_as(self, x: Tensor, *, training: bool) -> Run:
        """One run, which leaves the buffers as they were."""
        self.training, self.found = training, Run([])
        self.root.train(training)
        with buffers_kept(self.root), seeded(self.root, training):
            answer = _answer(lambda: self.run(entering(x, training)), f"{len(x)} samples")
            return completed(self.found, answer, self.root)

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
    for name, value in found.buffers.items():
        theirs_ = expected.buffers.get(name)
        if name.endswith("num_batches_tracked"):  # which is read for nothing but the statistics
            continue
        if theirs_ is not None and not alike([theirs_], [value]):
            _differ(mode, f"its forward writes to the buffer {name}")
    if expected.gradients != found.gradients:
        more = (found.gradients - expected.gradients) or expected.gradients
        entering = ("CloneBackward0", "torch::autograd::AccumulateGrad")
        names = sorted((n for n in more if n not in entering), key=lambda n: ("Backward" in n, n))
        raise SurgeryError(
            f"the network stops gradients, or has some of its own, where its graph has those of "
            f"{', '.join(names[:3])}: torch.no_grad and autograd functions are not traced; write "
            "x.detach() for what is to have no gradient, or put the code into a module of its own "
            "and declare that with ops={ThatModule: 'analog'}"
        )


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
    gets its own.
    """

    def __init__(self, rewriting: Rewriting, inputs: tuple[Tensor, ...]) -> None:
        super().__init__(rewriting.root, graph=rewriting.graph)
        self.extra_traceback = self.garbage_collect_values = False
        self.originals = rewriting.originals
        self.inputs = inputs
        self.static: list[dict[fx.Node, Any]] = [{} for _ in inputs]

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
            return self._run(n)
        timed_values = self.env
        for number, values in enumerate(self.static):
            self.env = values
            image = n.op == "placeholder" and signal.kind is not None
            values[n] = self.inputs[number].clone() if image else self._run(n)
        self.env = timed_values
        return self.static[0][n]

    def _run(self, n: fx.Node) -> Any:
        if n.op == "placeholder":
            return torch.cat(self.inputs) if n.meta["signal"].timed else len(self.inputs)
        original = self.originals.get(n)
        if original is None:
            return super().run_node(n)
        (x_TN, *_), _ = self.fetch_args_kwargs_from_env(n)
        return unstack(original(stack(x_TN), self.env.__getitem__), len(x_TN))
