"""NIR's nodes: their kinds, their paths in PyTorch, and the shapes of their outputs."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from leanspike.errors import LeanspikeError, one_line
from leanspike.export.layers import Shape

LARGEST = 1 << 28
"""The most numbers that all layers together may give for one sample."""


def path_of(name: str) -> str:
    """Return a path for PyTorch, which is the node's name if that is a valid path.

    >>> path_of("features.0"), path_of("if"), path_of("a-b")
    ('features.0', 'if_', 'a_b')
    """
    parts = [re.sub(r"\W", "_", part) or "_" for part in name.split(".")]
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in parts)


def ends(name: str, inside: Mapping[str, Any], kind: str) -> list[str]:
    """Return a node's name, or for an inner graph the nodes where edges enter or leave it."""
    if name not in inside:
        return [name]
    return [f"{name}.{n}" for n, node in inside[name].nodes.items() if kind_of(node) == kind]


def kind_of(node: Any) -> str:
    """Return NIR's name of a node's kind, as ``Conv2d``."""
    return type(node).__name__


def shape_of(name: str, value: Any) -> Shape:
    """Return the shape of an input from a file, after checking it."""
    sizes = np.asarray(value).reshape(-1).tolist() if value is not None else []
    good = all(isinstance(size, int) and size > 0 for size in sizes)
    if not 1 <= len(sizes) <= 3 or not good or np.prod([float(s) for s in sizes]) > LARGEST:
        raise LeanspikeError(
            f"node {name}: {sizes} is not the shape of an input; write one of 1 to 3 sizes"
        )
    return tuple(sizes)


def shape_after(name: str, layer: nn.Module, before: Shape) -> Shape:
    """Return the shape of a layer's output for an input shape, without computing it."""
    held = {key: tensor.to("meta") for key, tensor in layer.state_dict().items()}
    try:
        y = torch.func.functional_call(layer, held, (torch.empty(1, *before, device="meta"),))
    except (RuntimeError, ValueError, OverflowError) as error:
        raise LeanspikeError(
            f"node {name}: it cannot read {before} ({one_line(error)}); write sizes that fit"
        ) from None
    return tuple(y.shape[1:])
