"""Readers that want a nir older than leanspike's, each in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from portable_networks import T

INSTALL = ("-m", "pip", "install", "--quiet", "--ignore-installed", "--no-deps")


def environment(folder: Path, *steps: Sequence[str]) -> Path:
    """The Python of a new environment that has torch and the rest from this one.

    ``steps`` are packages, or options of pip, that are installed one after the other.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    for packages in steps:
        subprocess.run([python, *INSTALL, *packages], check=True)
    (own,) = (folder / "lib").glob("python*/site-packages")
    (own / "zz_torch.pth").write_text(sysconfig.get_paths()["purelib"])
    return python


def assert_reads_the_same_spikes(python: Path, reader: Path, path: Path, snn: Any, x: Any) -> None:
    """What the reader computes of a file is the network's, if it is asked for one spike a step.

    By itself it emits several.
    """
    layers, ours = [name for name, _ in snn.neurons()], {}
    for layer, module in snn.neurons():
        module.register_forward_hook(
            lambda _, __, o, layer=layer: ours.__setitem__(layer, o.detach())
        )
    inputs = path.with_name("x.npz")
    np.savez(inputs, x=x.numpy(), steps=T, layers=layers)
    y = snn(x).detach()
    found = {}
    for spikes in ("single", "multiple"):
        out = path.with_name(f"{spikes}.npz")
        subprocess.run([python, reader, path, inputs, out, spikes], check=True)
        found[spikes] = np.load(out)
    for layer in layers:
        assert ours[layer].any()
        assert np.array_equal(found["single"][f"spikes {layer}"], ours[layer].numpy())
    np.testing.assert_allclose(found["single"]["outputs"], y.numpy(), atol=1e-5)
    assert found["multiple"][f"spikes {layers[0]}"].max() > 1, "by itself several a step"
