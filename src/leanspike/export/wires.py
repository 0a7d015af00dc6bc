"""Wires between parts: sums of the outputs of parts, each times a factor.

NIR's spikes are 1, and its pools are sums. Therefore the height of a spike and the 1/k² of an
average become factors of wires, until weights take them up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from leanspike.export.parts import Shape


@dataclass(frozen=True, eq=False)
class Term:
    """The output of a part times a factor: one number, ``[C, 1, ...]``, or one for each entry."""

    source: str
    factor: Tensor

    @property
    def plain(self) -> bool:
        """Whether the factor is 1."""
        return bool((self.factor == 1).all())


@dataclass(frozen=True, eq=False)
class Wire:
    """The sum of its terms, in the shape of one sample."""

    terms: tuple[Term, ...]
    shape: Shape

    @property
    def sources(self) -> tuple[str, ...]:
        """The parts that it sums."""
        return tuple(term.source for term in self.terms)

    @property
    def common(self) -> Tensor | None:
        """The factor that all terms share, or None if they differ."""
        first, *others = (term.factor for term in self.terms)
        return first if all(_same(first, other) for other in others) else None

    def times(self, factor: Tensor | float) -> Wire:
        """Return the wire times a factor."""
        by = torch.as_tensor(factor, dtype=torch.float64)
        terms = tuple(replace(term, factor=term.factor * by) for term in self.terms)
        return replace(self, terms=terms)

    def shaped(self, shape: Shape) -> Wire:
        """Return the wire in another shape, with factors for each entry reshaped, too."""
        terms = (replace(t, factor=_reshaped(t.factor, self.shape, shape)) for t in self.terms)
        return Wire(tuple(terms), shape)


def source(name: str, shape: Shape, factor: Tensor | float = 1.0) -> Wire:
    """Return the wire of a part's output.

    >>> source("conv", (8,)).sources
    ('conv',)
    """
    return Wire((Term(name, torch.as_tensor(factor, dtype=torch.float64)),), shape)


def added(wires: Iterable[Wire]) -> Wire:
    """Return the sum of wires. Terms of one part are merged by adding their factors.

    >>> added([source("a", (8,)), source("b", (8,)), source("a", (8,))]).terms[0].factor.item()
    2.0
    """
    wires = list(wires)
    factors: dict[str, Tensor] = {}
    for term in (term for wire in wires for term in wire.terms):
        before = factors.get(term.source)
        factors[term.source] = term.factor if before is None else before + term.factor
    return Wire(tuple(Term(*pair) for pair in factors.items()), wires[0].shape)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _reshaped(factor: Tensor, before: Shape, after: Shape) -> Tensor:
    return factor if factor.ndim == 0 else factor.expand(before).reshape(after)
