"""The user's network during the surgery: it is traced, rewritten, and proved after each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import Tensor, nn

from leanspike.errors import SurgeryError
from leanspike.graph.ops import Meaning, Operations, Signal
from leanspike.graph.replacement import Parts
from leanspike.graph.rewrite import Rewriting
from leanspike.graph.trace import check_inputs, trace
from leanspike.surgery.original import check_original, copy_of
from leanspike.surgery.proof_of_graph import prove_graph
from leanspike.surgery.proof_of_steps import prove_steps
from leanspike.surgery.reference import Reference, random_state_kept
from leanspike.temporal import Encoder


@final
class Subject:
    """A network under surgery.

    Attributes:
        root: the copy that is changed.
        graph: the graph that was traced in eval mode.
        fixed_shape: whether the example's shape decided a branch or a loop.
        by_type: the paths of modules in which the example's type or device decided a branch.
        replaced: the names in its ``state_dict`` of activations that are neurons now.
        held: the paths of the modules that its own ``train()`` leaves in eval mode.
    """

    def __init__(
        self, ann: nn.Module, sample: Tensor, operations: Operations, ops: Mapping[Any, Meaning]
    ) -> None:
        """Trace a copy of the network, and prove the graph beside another."""
        check_original(ann, ops)
        check_inputs(ann)
        self.ops, self.operations = ops, operations
        self.replaced: tuple[str, ...] = ()
        with random_state_kept():
            self.reference, self.root = Reference(copy_of(ann)), copy_of(ann)
            self.held = self.reference.held()
            traced = trace(self.root, self.reference.accepts(sample), operations)
            self.graph, self.fixed_shape = traced.graph, traced.fixed_shape
            self.by_type = traced.by_type
            self.fault: SurgeryError | None = None
            try:
                prove_graph(self.reference, self.root, self.graph, operations)
            except SurgeryError as error:
                self.fault = error

    def rewrite(self, parts: Parts, encoder: Encoder) -> None:
        """Put neurons and norms in, and prove that steps stay apart.

        What the table refuses by name is reported first: it is often not traced well, either.
        """
        rewriting = Rewriting(self.root, self.graph, parts)
        rewriting.run(Signal(encoder.timed, encoder.emits))
        self.replaced = rewriting.replaced
        if self.fault is not None:
            raise self.fault
        with random_state_kept():
            prove_steps(self.reference, rewriting, self.ops)
