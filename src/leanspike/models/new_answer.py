"""Starting from the weights of a network for other classes, without its answer layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from leanspike.errors import LeanspikeError


def load_but_answer(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> str:
    """Copy ``weights`` into ``network``, except those of its answer layer, which does not change.

    The answer layer is the last layer with weights, in the order of the network's modules. Its
    outputs are the classes. All other names and shapes must be exactly those of ``network``.

    Args:
        path: the source of the weights, for messages.

    Returns:
        The path of the answer layer.

    Raises:
        LeanspikeError: for weights of another network, with the difference.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 7))
    >>> theirs = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 100)).state_dict()
    >>> load_but_answer(net, theirs, Path("theirs.pt")), torch.equal(net[0].bias, theirs["0.bias"])
    ('2', True)
    """
    answer = _answer_layer(network)
    ours = network.state_dict()
    taken = {name: value for name, value in weights.items() if _layer(name) != answer}
    for name, value in ours.items():
        if _layer(name) == answer or (name.endswith("num_batches_tracked") and name not in taken):
            continue
        found = taken.get(name)
        if found is None or found.shape != value.shape:
            is_now = "missing" if found is None else f"{list(found.shape)}, not {list(value.shape)}"
            raise LeanspikeError(
                f"{path} holds the weights of another network ({name} is {is_now}); new_answer "
                f"leaves out {answer} only: build the network they were trained in"
            )
    more = sorted(taken.keys() - ours.keys())
    if more or answer not in {_layer(name) for name in weights}:
        odd = f"{more[0]} has no place there" if more else f"{answer} is missing"
        raise LeanspikeError(
            f"{path} holds the weights of another network ({odd}); build the network they were "
            "trained in"
        )
    network.load_state_dict(taken, strict=False)
    return answer


def _answer_layer(network: nn.Module) -> str:
    """Return the path of the last module with a weight of two axes or more."""
    found: list[str] = [
        path
        for path, module in network.named_modules()
        for name, value in module.named_parameters(recurse=False)
        if name == "weight" and value.dim() > 1
    ]
    if not found:
        raise LeanspikeError("new_answer: the network has no layer with weights; leave it out")
    return found[-1]


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
