"""Spikes: how many, where and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, fx

from leanspike.evaluate.mistakes import portrait
from leanspike.evaluate.result import Example, NeuronActivity, Raster
from leanspike.neuron import LIF
from leanspike.surgery import SpikingNetwork, readout

SHOWN = 64
"""Neurons of a layer that a raster shows at most."""


@final
class SpikeCounter:
    """Counts the spikes of each layer and step: an observer of ``snn.run``.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> snn = spike(ann, example_input=torch.zeros(1, 1), neuron=LIF(threshold=1.0))
    >>> _ = torch.nn.init.constant_(snn.get_submodule("0").weight, 0.5)
    >>> counter = SpikeCounter(snn)
    >>> _ = snn.run(torch.ones(1, 1), timesteps=5, observer=counter)  # u = .5 1. 1.5 1. 1.5
    >>> counter.rows()[0].spikes_per_step
    (0.0, 0.0, 1.0, 0.0, 1.0)
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        self.snn = snn
        self._spikes: dict[str, Tensor] = {}
        self._neurons: dict[str, int] = {}
        self._samples: dict[str, int] = {}

    def __call__(self, node: fx.Node, _values: Mapping[fx.Node, Any], value: Any) -> None:
        """After an operation: count what a layer of neurons fired."""
        if not node.meta.get("neuron"):
            return
        path = str(node.target)
        fired_T = torch.stack([torch.count_nonzero(o_N) for o_N in value]).double()
        self._spikes[path] = self._spikes.get(path, 0.0) + fired_T
        self._neurons[path] = value[0, 0].numel()
        self._samples[path] = self._samples.get(path, 0) + value.shape[1]

    def rows(
        self, start: Mapping[str, tuple[float, float]] | None = None
    ) -> tuple[NeuronActivity, ...]:
        """A row per layer; ``start`` holds threshold and leak before the training, by path."""
        rows = []
        for path, module in self.snn.neurons():
            if not isinstance(module, LIF):
                continue
            cells = self._neurons[path] * self._samples[path]
            before = (start or {}).get(path, (None, None))
            rows.append(
                NeuronActivity(
                    path=path,
                    neurons=self._neurons[path],
                    spikes_per_step=tuple(n / cells for n in self._spikes[path].tolist()),
                    threshold=module.threshold.item(),
                    leak=module.leak.item(),
                    threshold_start=before[0],
                    leak_start=before[1],
                )
            )
        return tuple(rows)


@torch.no_grad()
def record_example(snn: SpikingNetwork, x: Tensor, pixels: Tensor, label: int) -> Example:
    """Everything the network does on one image.

    Args:
        snn: in eval mode.
        x: the image as network input ``[1, C, H, W]``; frames as ``[T, 1, C, H, W]``.
        pixels: the image itself, uint8 ``[C, H, W]``, or the frames ``[T, C, H, W]``.
        label: its class.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> pixels = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    >>> snn = spike(ann, example_input=torch.zeros(1, 1, 2, 2), timesteps=5)
    >>> example = record_example(snn, pixels[None] / 255, pixels, label=0)
    >>> len(example.probabilities), [raster.path for raster in example.rasters]
    (5, ['2'])
    """
    rasters = []

    def record(node: fx.Node, _values: Mapping[fx.Node, Any], value: Any) -> None:
        if node.meta.get("neuron"):
            rasters.append(_raster(str(node.target), value[:, 0].flatten(1)))

    y_TNK = snn.run(x, observer=record)
    probabilities_TK = readout(y_TNK, "sum")[:, 0].softmax(-1)
    framed = pixels.dim() == 4
    return Example(
        pixels=(portrait(pixels) if framed else pixels).permute(1, 2, 0).tolist(),
        frames=pixels.tolist() if framed and pixels.shape[1] == 2 else None,
        label=label,
        probabilities=probabilities_TK.tolist(),
        rasters=tuple(rasters),
    )


def _raster(path: str, spikes: Tensor) -> Raster:
    neurons = spikes.shape[1]
    shown = min(SHOWN, neurons)
    chosen = torch.arange(shown) * neurons // shown
    fired = spikes[:, chosen.to(spikes.device)].nonzero().tolist()
    return Raster(path=path, neurons=neurons, shown=shown, spikes=tuple(map(tuple, fired)))
