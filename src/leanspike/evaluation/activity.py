"""Spikes: how many, where and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, fx

from leanspike.distributed import Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation.layers import NeuronActivity
from leanspike.evaluation.mistakes import portrait
from leanspike.evaluation.result import Example, Raster
from leanspike.evaluation.score import one_tensor
from leanspike.evaluation.task import Binary, Multiclass
from leanspike.graph.samples import pieces
from leanspike.neuron import Neuron
from leanspike.surgery import SpikingNetwork, readout

SHOWN = 64
"""The most neurons of a layer that a raster shows."""


@final
class SpikeCounter:
    """Counts the spikes of each layer and step: an observer of ``snn.run``.

    >>> from torch import nn
    >>> from leanspike import LIF, spike
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
        """Count what a layer of neurons fired, after each operation."""
        if not node.meta.get("neuron"):
            return
        path = str(node.target)
        fired_T = torch.stack([torch.count_nonzero(o_N) for o_N in value]).double()
        self._spikes[path] = self._spikes.get(path, 0.0) + fired_T
        self._neurons[path] = value[0, 0].numel() * pieces(node)
        self._samples[path] = self._samples.get(path, 0) + value.shape[1] // pieces(node)

    def add_others(self, group: Group) -> None:
        """Count what all processes have seen, in each of them."""
        if group.size == 1:
            return
        each = group.gathered((self._spikes, self._neurons, self._samples))
        self._spikes, self._samples = {}, {}
        for spikes, neurons, samples in each:
            self._neurons |= neurons
            for path, count_T in spikes.items():
                self._spikes[path] = self._spikes.get(path, 0.0) + count_T.cpu()
                self._samples[path] = self._samples.get(path, 0) + samples[path]

    def rows(
        self, start: Mapping[str, Mapping[str, float]] | None = None
    ) -> tuple[NeuronActivity, ...]:
        """Return a row per layer.

        ``start`` holds the `readings` from before the training, by path.
        """
        return tuple(
            self._row(path, neuron, (start or {}).get(path, {}))
            for path, neuron in neurons_of(self.snn)
        )

    def _row(self, path: str, neuron: Neuron, start: Mapping[str, float]) -> NeuronActivity:
        cells = self._neurons[path] * self._samples[path]
        found, cost = neuron.readings(), neuron.update_cost()
        return NeuronActivity(
            path=path,
            neurons=self._neurons[path],
            spikes_per_step=tuple(n / cells for n in self._spikes[path].tolist()),
            readings=means(found),
            ranges={
                name: (value.min().item(), value.max().item())
                for name, value in found.items()
                if value.numel() > 1
            },
            readings_start=dict(start),
            update_macs=cost.macs,
            update_acs=cost.acs,
        )


def neurons_of(snn: SpikingNetwork) -> list[tuple[str, Neuron]]:
    """Return the neurons with their paths, all of which say what they do and cost.

    Raises:
        LeanspikeError: for a plain module in a neuron's place, with its path.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    >>> neurons_of(spike(ann, example_input=torch.zeros(1, 1), neuron=nn.ReLU()))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: neurons 1: a ReLU does not say what it emits and costs; ...
    """
    found = []
    for path, module in snn.neurons():
        if not isinstance(module, Neuron):
            raise LeanspikeError(
                f"neurons {path}: a {type(module).__name__} does not say what it emits and costs; "
                "put neurons in its place, as spike(neuron=LIF()), or measure the accuracy() alone"
            )
        found.append((path, module))
    return found


def readings(snn: SpikingNetwork) -> dict[str, dict[str, float]]:
    """Return what each layer of neurons has to show, by path and name, as means over the layer.

    >>> from torch import nn
    >>> from leanspike import LIF, spike
    >>> ann = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    >>> readings(spike(ann, example_input=torch.zeros(1, 1), neuron=LIF(0.5)))
    {'1': {'threshold': 0.5, 'leak': 1.0}}
    """
    return {path: means(neuron.readings()) for path, neuron in neurons_of(snn)}


def means(found: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the mean of each reading.

    >>> means({"leak": torch.tensor([0.5, 1.0])})
    {'leak': 0.75}
    """
    return {name: value.double().mean().item() for name, value in found.items()}


@torch.no_grad()
def record_example(snn: SpikingNetwork, x: Tensor, pixels: Tensor, label: int) -> Example:
    """Return everything the network does on one image, and the probabilities of its classes.

    For one output the classes are no and yes.

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
            rasters.append(_raster(str(node.target), value.flatten(1)))

    y_TNK = one_tensor(snn.run(x, observer=record))
    single = y_TNK.dim() == 2 or y_TNK.shape[2] == 1
    if y_TNK.dim() > 3:
        raise LeanspikeError(
            f"outputs of shape {list(y_TNK.shape[1:])}; an example shows the probabilities of "
            "classes: give a network of outputs [N, K]"
        )
    logits_TNK = (Binary() if single else Multiclass()).logits(readout(y_TNK, "sum"))
    probabilities_TK = logits_TNK[:, 0].softmax(-1)
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
