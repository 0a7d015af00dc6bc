"""How samples lie along axis 0, and which numbers grow with how many they are.

Networks lay windows, patches or heads of a sample along the batch axis for a while. A reshape keeps
elements in order. Samples stay apart, one after another, as long as axis 0 has the same number of
entries for each sample. These entries are its *pieces*. Shapes for two numbers of samples tell it.
"""

from __future__ import annotations

from typing import Any

from torch import fx


def samples_of(graph: fx.Graph) -> int:
    """Return how many samples the example has, where its shape is known."""
    image = next(iter(graph.nodes))
    return int(image.meta["shape"][0])


def pieces(node: fx.Node) -> int:
    """How many entries of axis 0 each sample has, one after another; 1 where nothing merges them.

    A node that the surgery puts in has no shape of its own. It has as many pieces as its input.

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
    """Whether each sample has as many entries on axis 0 as the others, and no other axis has any.

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
    """Return whether a node holds a number that changes with the number of samples."""
    return isinstance(value, fx.Node) and "grows" in value.meta
