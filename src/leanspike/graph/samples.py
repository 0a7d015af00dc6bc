"""How samples lie along axis 0, and which numbers grow with the number of samples.

Networks lay windows, patches or heads of a sample along the batch axis for a while. A reshape keeps
elements in order. Samples stay apart, one after another, as long as axis 0 has the same number of
entries for each sample. These entries are the sample's *pieces*. They follow from the shapes for
two numbers of samples.
"""

from __future__ import annotations

from typing import Any

from torch import fx


def samples_of(graph: fx.Graph) -> int:
    """Return the number of samples of the example input."""
    image = next(iter(graph.nodes))
    return int(image.meta["shape"][0])


def pieces(node: fx.Node) -> int:
    """Return the number of entries on axis 0 for each sample, which is 1 unless axes are merged.

    A node that the surgery puts in has no shape. It has as many pieces as its input.

    >>> from torch import Size
    >>> graph = fx.Graph()
    >>> image = graph.placeholder("x")
    >>> windows = graph.call_method("reshape", (image, -1, 4))
    >>> image.meta["shape"], windows.meta["shape"] = Size([2, 8]), Size([4, 4])
    >>> pieces(windows), pieces(graph.call_method("chunk", (windows, 2, 1)))
    (2, 2)
    """
    shape = node.meta.get("shape")
    if shape:
        return int(shape[0]) // samples_of(node.graph)
    return next((pieces(source) for source in node.all_input_nodes), 1)


def keeps_apart(node: fx.Node) -> bool:
    """Return whether axis 0, and no other, holds the same number of entries for each sample.

    >>> from torch import Size
    >>> graph = fx.Graph()
    >>> image = graph.placeholder("x")
    >>> image.meta["shape"], image.meta["more"] = Size([4, 3]), Size([8, 3])
    >>> keeps_apart(image)  # one sample more has four entries more, and the first has four
    False
    """
    shape, more, samples = node.meta.get("shape"), node.meta.get("more"), samples_of(node.graph)
    if not shape or not more or shape[1:] != more[1:]:
        return False
    whole = shape[0] % samples == 0
    return bool(whole and shape[0] * (samples + 1) == more[0] * samples)


def counts_samples(value: Any) -> bool:
    """Return whether a value is a node whose number changes with the number of samples."""
    return isinstance(value, fx.Node) and "grows" in value.meta
