"""Making a trained network ready for inference."""

from __future__ import annotations

from copy import deepcopy
from warnings import warn

from torch import fx

from leanspike import lower
from leanspike.execute import SpikingNetwork


def fold_norms(snn: SpikingNetwork) -> SpikingNetwork:
    """Return a copy for inference that has no norms and gives the same answers (to rounding).

    See the pass :func:`leanspike.lower.fold_norms`.

    Raises:
        SurgeryError: for a batch norm without running statistics.

    >>> import torch
    >>> from torch import nn
    >>> from leanspike import spike
    >>> hidden = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), *hidden)
    >>> snn = spike(ann, example_input=torch.zeros(1, 2), norm="bntt").eval()
    >>> folded, x = fold_norms(snn), torch.randn(4, 2)
    >>> type(folded.get_submodule("3")).__name__, bool((folded(x) == snn(x)).float().mean() > 0.99)
    ('Affine', True)
    """
    folded = deepcopy(snn).eval()
    return folded.replanned(lower.apply_passes(folded.plan, ["fold_norms"]))


def remaining_norms(snn: SpikingNetwork) -> dict[fx.Node, bool]:
    """Return the old name of :func:`leanspike.lower.remaining_norms`, for one more version.

    >>> import pytest, torch
    >>> from leanspike import spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    >>> with pytest.warns(FutureWarning):
    ...     remaining_norms(spike(ann, example_input=torch.zeros(1, 2)))
    {}
    """
    warn(
        "leanspike.surgery.remaining_norms(snn) is leanspike.lower.remaining_norms(snn.plan) now",
        FutureWarning,
        stacklevel=2,
    )
    return lower.remaining_norms(snn.plan)
