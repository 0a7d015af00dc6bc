"""What was counted for single layers: layers of neurons, and layers with weights.

Every quantity is for ONE sample, averaged over all samples.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from leanspike.evaluation.record import Record


class NeuronActivity(Record):
    """One layer of neurons.

    ``spikes_per_step[t]`` is the mean number of spikes that one neuron of the layer fires at step
    t, in [0, 1]. Summed over t it is the papers' "spikes per neuron". ``readings`` are what the
    neurons show of themselves, such as threshold and leak, as means over the layer. ``ranges``
    holds the lowest and the highest of the readings that differ within the layer.
    ``readings_start`` are the readings before the training of the SNN; it is empty if the SNN was
    not trained. ``update_macs`` and ``update_acs`` are what a step costs one neuron.
    """

    path: str
    neurons: int
    spikes_per_step: tuple[float, ...]
    readings: dict[str, float] = Field({})
    ranges: dict[str, tuple[float, float]] = Field({})
    readings_start: dict[str, float] = Field({})
    update_macs: float
    update_acs: float

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, value: Any) -> Any:
        """Read older records, in which a layer has a threshold and a leak but no readings."""
        if not isinstance(value, dict) or "threshold" not in value:
            return value
        new = dict(value)
        shown = {name: new.pop(name) for name in ("threshold", "leak") if name in new}
        start = {name: new.pop(f"{name}_start", None) for name in shown}
        known = {name: number for name, number in start.items() if number is not None}
        leaks = shown.get("leak") != 1
        cost = {"update_macs": float(leaks), "update_acs": float(not leaks)}
        return {"readings": shown, "readings_start": known, **cost, **new}

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron, summed over the timesteps.

        >>> NeuronActivity(path="relu", neurons=4, spikes_per_step=(0.25, 0.5), threshold=1.0,
        ...                leak=1.0).spikes_per_neuron
        0.75
        """
        return sum(self.spikes_per_step)


class LayerOperations(Record):
    """The arithmetic of one layer with weights, or of one product of signals.

    ``edge`` is the kind of signal that enters: ``analog``, ``spike`` or ``graded``. It ends in
    ``, multiplied`` if the spikes underneath are not known, and the layer pays for products. It is
    ``product`` for two signals, and ``inside`` for a module that was declared with ``ops=``.
    ``static`` says whether the signal is the same at every step; it is then computed once.
    ``dense_macs`` is the textbook count for one ANN pass, padding included. ``ann_macs`` leaves out
    the multiplications with zero padding. So do ``snn_macs`` and ``snn_acs``, which count all
    steps. ``spike_rate`` is the rate of the neurons whose spikes enter, summed over all steps. It
    is None if the layer multiplies, and in results of versions that did not record it.
    """

    path: str
    edge: str
    static: bool
    dense_macs: float
    ann_macs: float
    snn_macs: float
    snn_acs: float
    ann_pj: float
    snn_pj: float
    spike_rate: float | None = None


class Uncounted(Record):
    """A module, or a function, whose work could not be counted, or not all of it.

    ``path`` is its place, ``kind`` its class. ``share``, in [0, 1], is the part of the network's
    weights that is in none of the numbers for that reason.
    """

    path: str
    kind: str
    share: float
