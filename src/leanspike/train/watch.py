"""Seeing what modules put out, for as long as a context lasts: no hook stays behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork, readout


@contextmanager
def hooks(watched: Iterable[tuple[nn.Module, Any]]) -> Iterator[None]:
    """Put forward hooks on these modules, for as long as the context lasts.

    >>> seen = []
    >>> layer = nn.Identity()
    >>> with hooks([(layer, lambda module, args, output: seen.append(output))]):
    ...     _ = layer(1)
    >>> layer(2), seen
    (2, [1])
    """
    handles = [module.register_forward_hook(hook) for module, hook in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def maps(
    network: nn.Module, paths: Iterable[str], found: dict[str, Tensor], each_step: bool = False
) -> Iterator[None]:
    """Write what the modules at ``paths`` put out into ``found``, while ``network`` runs.

    The outputs are float32 or wider, ``[N, ...]``. A :class:`SpikingNetwork`'s outputs are averaged
    over time. With ``each_step`` they are ``[T, N, ...]``, the averages over the steps so far; T is
    1 for an ANN.

    >>> net, found = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)), {}
    >>> with maps(net, ["0"], found):
    ...     _ = net(torch.tensor([[-1.0, 1.0]]))
    >>> found["0"].tolist()
    [[-1.0, 1.0]]
    """
    spiking = isinstance(network, SpikingNetwork)

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
            # A copy: the next module may write into it, as ReLU(inplace=True) does.
            wide = torch.promote_types(output.dtype, torch.float32)
            maps_TN = output.to(wide) if spiking else output.to(wide, copy=True)[None]
            found[path] = readout(maps_TN, "mean") if each_step else maps_TN.mean(0)

        return hook

    try:
        watched = [(network.get_submodule(path), keep(path)) for path in paths]
    except AttributeError as error:
        raise LeanspikeError(f"{error}; watch the network that the paths were named for") from None
    with hooks(watched):
        yield
