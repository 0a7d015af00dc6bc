"""The cases that check: neurons and norms first, then whole networks."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gpu import check_networks, check_neurons
from benchmarks.gpu.cases import Case, Options


def cases(options: Options) -> Sequence[Case]:
    """All of them; what has to be compiled comes last."""
    cases = [*check_neurons.cases(options.device), *check_networks.cases(options.device)]
    return sorted(cases, key=lambda case: case.limit)
