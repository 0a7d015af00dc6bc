"""The passes by name, and how they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leanspike.errors import LeanspikeError
from leanspike.graph.plan import Plan
from leanspike.lower.convolutions import event_driven
from leanspike.lower.folding import fold_norms
from leanspike.lower.pooling import tiled_pooling

Pass = Callable[[Plan], Plan]
"""From a plan to another that gives the same answers; the plan itself stays as it is."""

PASSES: dict[str, Pass] = {
    "event_driven": event_driven,
    "tiled_pooling": tiled_pooling,
    "fold_norms": fold_norms,
}

DEFAULT = ("event_driven", "tiled_pooling")
"""What ``spike`` does where nothing is said: the same layers, that do with less work."""


def apply_passes(plan: Plan, passes: Iterable[str | Pass] = DEFAULT) -> Plan:
    """Return the plan after these passes, one after the other: names, or functions of one's own.

    >>> import torch
    >>> from leanspike import spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    >>> plan = spike(ann, example_input=torch.zeros(1, 2), lower=()).plan
    >>> apply_passes(plan, ["tiled_pooling"]).passes
    ('tiled_pooling',)
    >>> apply_passes(plan, ["faster"])
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: lower names 'faster'; choose of event_driven, ...
    """
    if isinstance(passes, str):
        raise LeanspikeError(f"lower is {passes!r}; give a list of passes, as lower=[{passes!r}]")
    for each in passes:
        if isinstance(each, str) and each not in PASSES:
            raise LeanspikeError(
                f"lower names {each!r}; choose of {', '.join(PASSES)}, or give a function from "
                "plan to plan"
            )
        lowered = (PASSES[each] if isinstance(each, str) else each)(plan)
        if not isinstance(lowered, Plan):
            raise LeanspikeError(f"the pass {each} gives {lowered!r}; return a Plan")
        plan = lowered
    return plan
