"""Rules and costs of products: of signals with fixed weights, and of two signals.

Products of two signals occur in attention and in gates.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch import fx

from leanspike.graph.costs import Work, signal_nodes
from leanspike.graph.signal import Call
from leanspike.neuron import Cost

# -- what must not be --------------------------------------------------------------------------


def multiplied(call: Call) -> None:
    """Refuse a matrix product that mixes samples: of two signals, or of one and a constant."""
    signals = signal_nodes(call.node)
    ranks = [len(node.meta["shape"]) for node in signals]
    if len(signals) < 2:
        fixed = [s for s in call.node.all_input_nodes if s not in signals]
        below = all(len(node.meta["shape"]) <= max(2, ranks[0] - 1) for node in fixed)
        before = call.operands()[0] not in signals
        if not below or ranks[0] < (3 if before else 2):
            call.refuse(
                "multiplies the batch by a constant of another batch",
                "give the constant two axes, and the batch its own axis 0",
            )
    elif ranks[0] != ranks[1] or ranks[0] < 3:
        call.refuse(
            f"multiplies signals of {ranks[0]} and {ranks[1]} axes, where samples would meet",
            "give both the axes [N, ..., rows, columns], as x.unsqueeze(1)",
        )


def weighted(call: Call) -> None:
    """Refuse a convolution or a linear map whose weights depend on the input."""
    if len(signal_nodes(call.node)) > 1:
        call.refuse(
            "takes weights that depend on the input",
            "write a product of two signals as torch.matmul, with the samples on axis 0",
        )


def einsum(call: Call) -> None:
    """Refuse an einsum unless its signals and result begin with the letter of the samples."""
    equation, operands = einsum_of(call.argument)
    inputs, _, output = str(equation).replace(" ", "").partition("->")
    letters = [
        (part, isinstance(operand, fx.Node) and operand.meta["signal"].kind != "constant")
        for part, operand in zip(inputs.split(","), operands, strict=True)
    ]
    first = output[:1]
    apart = first.isalpha() and "." not in equation
    apart = apart and all(part[:1] == first for part, signal in letters if signal)
    if not apart or any(first in part for part, signal in letters if not signal):
        call.refuse(
            f"mixes samples by {equation!r}",
            "begin each signal and the result with the letter of the samples, as 'nid,njd->nij'",
        )


def attended(call: Call) -> None:
    """Refuse dot-product attention unless query, key and value have the same axes."""
    signals = signal_nodes(call.node)
    ranks = {len(node.meta["shape"]) for node in signals}
    if len(signals) < 3 or len(ranks) > 1 or min(ranks) < 3:
        call.refuse(
            "takes query, key and value of different axes",
            "give all three the axes [N, ..., length, features], with the samples on axis 0",
        )


def attention(call: Call) -> None:
    """Refuse nn.MultiheadAttention with the samples on axis 1, or with dropout."""
    drops = bool(call.argument(0, "dropout"))
    moved = not call.argument(0, "batch_first")
    dropless = "setattr(m, 'dropout', 0)" if drops else ""
    first = "setattr(m, 'batch_first', True)" if moved else ""
    say = ", ".join(filter(None, (first, dropless)))
    say = f"[({say}) for m in net.modules() if isinstance(m, nn.MultiheadAttention)] before spike"
    if moved:
        call.refuse(
            "takes the samples on axis 1, where timesteps and samples lie on axis 0",
            f"give it [N, length, features], and say {say}",
        )
    if drops:
        call.refuse("drops anew at each step", f"say {say}")


# -- what they cost ----------------------------------------------------------------------------


def squared(work: Work) -> Cost:
    """Count a multiplication of each entry with itself."""
    return Cost(macs=work.entries if work.signals else 0)


def product(work: Work) -> Cost:
    """Count a multiplication per entry of two signals. Fixed factors cost nothing: they fold."""
    return Cost(macs=work.entries if len(work.signals) > 1 else 0)


def matrix_product(work: Work) -> Cost:
    """Count ``[N, ..., L, D] @ [N, ..., D, K]``: D multiply-accumulates for each entry."""
    inner = work.signals[0].shape[-1] if len(work.signals) > 1 else 0
    return Cost(macs=work.entries * inner)


def einsum_cost(work: Work) -> Cost:
    """Count, for each operand after the first, as many products as the letters span."""
    equation, operands = einsum_of(work.argument)
    if len(work.signals) < 2:
        return Cost()
    inputs = equation.replace(" ", "").split("->")[0].split(",")
    sizes = {
        letter: size
        for letters, operand in zip(inputs, operands, strict=True)
        for letter, size in zip(letters, operand.shape, strict=True)
    }
    return Cost(macs=(len(operands) - 1) * prod(sizes.values()))


def einsum_of(argument: Callable[..., Any]) -> tuple[str, tuple[Any, ...]]:
    """Return the equation and the operands of an einsum, given one by one or as a list."""
    equation, operands = argument(0, "equation"), []
    for place in range(1, 9):
        operand = argument(place, "")
        if isinstance(operand, (tuple, list)):
            return equation, tuple(operand)
        if operand is not None:
            operands.append(operand)
    return equation, tuple(operands)


def attention_cost(work: Work) -> Cost:
    """Count q·kᵀ and a·v of dot-product attention, masked entries included."""
    q, k, v = (work.argument(place, name) for place, name in enumerate(("query", "key", "value")))
    pairs = q.shape[:-1].numel() * k.shape[-2]
    return Cost(macs=pairs * (q.shape[-1] + v.shape[-1]))
