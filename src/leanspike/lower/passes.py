"""The passes by name, and their application."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leanspike.errors import LeanspikeError
from leanspike.graph.plan import Plan
from leanspike.lower.convolutions import event_driven
from leanspike.lower.folding import fold_norms
from leanspike.lower.pooling import tiled_pooling

Pass = Callable[[Plan], Plan]
"""A function from a plan to another with the same answers. The plan itself does not change."""

PASSES: dict[str, Pass] = {
    "event_driven": event_driven,
    "tiled_pooling": tiled_pooling,
    "fold_norms": fold_norms,
}

DEFAULT = ("event_driven", "tiled_pooling")
"""The passes of ``spike`` by default: they put in the same layers with less work."""


def apply_passes(plan: Plan, passes: Iterable[str | Pass] = DEFAULT) -> Plan:
    """Apply passes to a plan, one after the other. Each is a name or a function from plan to plan.

    >>> import torch
    >>> from leanspike import spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    >>> plan = spike(ann, example_input=torch.zeros(1, 2), lower=()).plan
    >>> apply_passes(plan, ["tiled_pooling"]).passes
    ('tiled_pooling',)
    >>> apply_passes(plan, ["faster"])
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: lower names 'faster'; choose one of event_driven, ...
    """
    if isinstance(passes, str):
        raise LeanspikeError(f"lower is {passes!r}; give a list of passes, as lower=[{passes!r}]")
    for each in passes:
        if isinstance(each, str) and each not in PASSES:
            raise LeanspikeError(
                f"lower names {each!r}; choose one of {', '.join(PASSES)}, or give a function from "
                "plan to plan"
            )
        lowered = (PASSES[each] if isinstance(each, str) else each)(plan)
        if not isinstance(lowered, Plan):
            raise LeanspikeError(f"the pass {each} gives {lowered!r}; return a Plan")
        plan = lowered
    return plan
