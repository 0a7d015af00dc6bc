"""The readers of NIR, and what each of them keeps, in one record for each.

The records were read in the sources of the versions that they name. Tests read files back with the
readers that can be installed. Files for the others follow these rules and are marked "not read
back".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leanspike.errors import LeanspikeError
from leanspike.registry import nearest

LAYERS = frozenset({"Conv2d", "Affine", "Flatten", "SumPool2d"})


@dataclass(frozen=True)
class Target:
    """The facts of a reader of NIR: what it reads, and how it computes that.

    Attributes:
        title: the reader's name in sentences.
        reads: the primitives with weights and shapes that the reader knows.
        integrate: the primitive with which neurons without a leak keep their reset.
        leaky: the primitive with which neurons with a leak keep it; None if it has no leaks.
        resets: the resets that the reader has.
        decay: a leak is 1 − dt/τ ("euler"), or exp(−1/τ) with τ in steps ("exponential").
        filtered: "may" if synapses can have a leak, "must" if each has one, "no" if none has.
        uniform: whether thresholds and leaks are one number for a layer.
        branches: which edges may lead into a node beside its first. "any": all may. "identity":
            a second branch may have no nodes of its own, because the reader walks depth first and
            misses them (nirtorch.load). "none": no other edge may.
        flat_leaks: whether its reader takes leaks of vectors only, and fails on leaks of images.
        clamps: whether it holds the membranes of its "IF" at −v and above.
        v_reset: whether its nir is new enough (1.0.6) to read that field.
        package: the reader's distribution on PyPI; None if files are not read back.
        version: the version of the sources from which this record was taken.
        reading: the code that reads a file with the trained reset.
    """

    title: str
    reads: frozenset[str]
    integrate: Literal["IF", "CubaLIF"]
    leaky: Literal["LIF", "CubaLIF"] | None
    resets: frozenset[str]
    reading: str
    decay: Literal["euler", "exponential"] = "euler"
    filtered: Literal["no", "may", "must"] = "no"
    uniform: bool = False
    branches: Literal["any", "identity", "none"] = "any"
    flat_leaks: bool = False
    clamps: bool = False
    v_reset: bool = False
    package: str | None = None
    version: str = ""


SOFT, HARD = frozenset({"soft"}), frozenset({"hard"})

TARGETS = {
    "norse": Target(
        "Norse",
        LAYERS | {"Linear"},
        integrate="CubaLIF",
        leaky="CubaLIF",
        resets=SOFT | HARD,
        reading="norse.torch.from_nir(nir.read(FILE), reset_method=reset_subtract, dt=1e-4)",
        filtered="may",
        branches="identity",
        v_reset=True,
        package="norse",
        version="1.1.0",
    ),
    "spikingjelly": Target(
        "SpikingJelly",
        LAYERS | {"Linear", "Conv1d"},
        integrate="CubaLIF",
        leaky="CubaLIF",
        resets=HARD,
        reading="spikingjelly.activation_based.nir_exchange.import_from_nir(FILE, dt=1e-4)",
        filtered="may",
        uniform=True,
        v_reset=True,
        package="spikingjelly",
        version="2.0.0",
    ),
    "snntorch": Target(
        "snnTorch",
        LAYERS | {"Linear"},
        integrate="CubaLIF",
        leaky="CubaLIF",
        resets=HARD,
        reading="snntorch.import_nir.import_from_nir(nir.read(FILE))",
        filtered="may",
        uniform=True,
        v_reset=True,
        package="snntorch",
        version="1.0.0",
    ),
    "sinabs": Target(
        "sinabs",
        LAYERS,
        integrate="IF",
        leaky="LIF",
        resets=SOFT,
        reading="sinabs.from_nir(nir.read(FILE), num_timesteps=T), spike_fn = SingleSpike",
        decay="exponential",
        branches="identity",
        flat_leaks=True,  # any(node.v_leak)
        clamps=True,
        package="sinabs",
        version="3.1.3",
    ),
    "speck": Target(
        "Speck",
        LAYERS,
        integrate="IF",
        leaky=None,
        resets=SOFT,
        reading="sinabs.from_nir as above, then sinabs.backend.dynapcnn.DynapcnnNetwork",
        branches="none",
        clamps=True,
        version="sinabs 3.1.3",
    ),
    "spinnaker2": Target(  # py-spinnaker2 is not on PyPI
        "SpiNNaker2",
        LAYERS | {"Linear", "Conv1d"},
        integrate="IF",
        leaky="LIF",
        resets=SOFT | HARD,
        reading="spinnaker2.s2_nir.from_nir",
        filtered="may",
    ),
    "lava": Target(  # its neurons are lava.proc.lif of lava-nc 0.10.0; its reader is not on PyPI
        "Lava",
        LAYERS | {"Linear"},
        integrate="IF",
        leaky="LIF",
        resets=HARD,
        reading="nir_to_lava.import_from_nir",
        filtered="may",
    ),
    "xylo": Target(
        "Xylo",
        frozenset({"Affine", "Linear"}),
        integrate="CubaLIF",  # its reader fails on a LIF: it asks for a tau_mem
        leaky="CubaLIF",
        resets=SOFT,
        reading="rockpool.nn.modules.from_nir(nir.read(FILE)), max_spikes_per_dt = 1",
        decay="exponential",
        filtered="must",
        branches="none",
        package="rockpool",
        version="rockpool 3.1.0",
    ),
}


def target_of(name: str) -> Target:
    """Return the target of that name.

    >>> target_of("norse").title
    'Norse'
    >>> target_of("nors")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: target is 'nors'; choose one of ...; did you mean 'norse'?
    """
    if name not in TARGETS:
        raise LeanspikeError(f"target is {name!r}; {nearest(name, TARGETS)}")
    return TARGETS[name]
