"""The proof at conversion that timesteps do not mix, as the samples of a batch do not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any, final

import torch
from torch import Tensor, fx

from leanspike.errors import SurgeryError
from leanspike.graph.ops import Signal
from leanspike.graph.outputs import tensors
from leanspike.graph.rewrite import Rewriting
from leanspike.surgery.reference import (
    Reference,
    Run,
    alike,
    answer_of,
    difference,
    note,
    random_like,
    seeded,
    tolerance,
)
from leanspike.temporal import broadcast, repeat, stack, unstack

FACTOR = 8
"""The factor by which two runs may differ more if their batches are not of the same size."""


def prove_steps(reference: Reference, rewriting: Rewriting, declared: Collection[Any]) -> None:
    """Raise SurgeryError unless timesteps stay apart in the rewritten graph.

    Activations, dropouts and norms are put back into their places. The first sample lies between
    random timesteps. The graph must answer to it as the network answers to it alone. ``declared``
    are the operations that the user declared to be safe.
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
        found = [y_TN[2] for y_TN in tensors(answer_of(steps.answer, "several steps"))]
    same = alike(expected.outputs, found, factor=FACTOR)
    entered = next(steps.entered_otherwise(expected), None) if same else None
    if same and entered is None:
        return
    how = difference(expected.outputs, found) if entered is None else entered
    names = ", ".join(getattr(op, "__name__", repr(op)) for op in declared)
    spoken = f"one of those declared ({names})" if names else "something in it"
    raise SurgeryError(
        f"the answer to a sample depends on the other samples of the batch ({how}), and an SNN "
        f"stacks its timesteps there: {spoken} mixes them; take it out, or write it for each "
        "sample by itself"
    )


@final
class _Steps(fx.Interpreter):
    """Runs the rewritten graph for timesteps with different ``inputs``.

    The part of the graph that is the same at each step runs for each input by itself. Where it
    meets time, each step gets its own value. The inputs of modules in step ``number``, counted
    from 0, are noted.
    """

    def __init__(self, rewriting: Rewriting, inputs: tuple[Tensor, ...], number: int) -> None:
        super().__init__(rewriting.root, graph=rewriting.graph)
        self.extra_traceback = self.garbage_collect_values = False
        self.originals = rewriting.replacement.originals
        self.inputs, self.number = inputs, number
        self.static: list[dict[fx.Node, Any]] = [{} for _ in inputs]
        self.found = Run([])
        self.entries: dict[str, int] = {}

    def answer(self) -> Any:
        """Return the graph's answer to these inputs, one for each step."""
        return self.run(torch.cat(self.inputs), len(self.inputs))

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, with the originals of what was put in, and each input's static values."""
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
        """Yield the modules whose input differs from that in a run of the sample alone.

        A fault far from the output may be too small to be seen there.
        """
        bound = tolerance(self.inputs[0]) * FACTOR
        for path, lengths in self.found.arriving.items():
            theirs = expected.arriving.get(path, [])
            nought = bound * math.sqrt(self.entries[path])  # what is left of sums that are 0
            pairs = zip(theirs, lengths, strict=False)
            close = (math.isclose(a, b, rel_tol=bound, abs_tol=nought) for a, b in pairs)
            if len(theirs) == len(lengths) and not all(close):
                yield f"module {path} gets another input"

    def _note(self, n: fx.Node, of_step: int | None = None) -> None:
        """Note what enters the module of a node in the watched step."""
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
