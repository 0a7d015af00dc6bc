"""Rockpool, by which Xylo is programmed, reads the files, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from leanspike import to_nir
from leanspike.export import write_nir
from portable_networks import T, images, portable_network

pytest.importorskip("nir")
READER = Path(__file__).with_name("rockpool_reader.py")
TOOLS = ("setuptools>=77", "wheel")
PACKAGES = ("nir==1.0.4", "nirtorch==1.0", "rockpool==3.1.0")


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An environment whose nir is old, and that has torch and the rest from this one."""
    folder = tmp_path_factory.mktemp("rockpool")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    install = [found, "-m", "pip", "install", "--quiet", "--ignore-installed", "--no-deps"]
    subprocess.run([*install, *TOOLS], check=True)
    subprocess.run([*install, "--no-build-isolation", *PACKAGES], check=True)
    (own,) = (folder / "lib").glob("python*/site-packages")
    (own / "zz_torch.pth").write_text(sysconfig.get_paths()["purelib"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("neuron", ["current", "channels current"])
def test_rockpool_computes_the_same_spikes_where_one_a_step_is_asked_for(neuron, python, tmp_path):
    snn, x = portable_network("dense", neuron), images("dense")
    path = write_nir(to_nir(snn, "xylo"), tmp_path / "net.nir")
    layers, ours = [path for path, _ in snn.neurons()], {}
    for layer, module in snn.neurons():
        module.register_forward_hook(
            lambda _, __, o, layer=layer: ours.__setitem__(layer, o.detach())
        )
    np.savez(tmp_path / "x.npz", x=x.numpy(), steps=T, layers=layers)
    y = snn(x).detach()
    found = {}
    for spikes in ("single", "multiple"):
        out = tmp_path / f"{spikes}.npz"
        subprocess.run([python, READER, path, tmp_path / "x.npz", out, spikes], check=True)
        found[spikes] = np.load(out)
    for layer in layers:
        assert ours[layer].any()
        assert np.array_equal(found["single"][f"spikes {layer}"], ours[layer].numpy())
    np.testing.assert_allclose(found["single"]["outputs"], y.numpy(), atol=1e-5)
    assert found["multiple"][f"spikes {layers[0]}"].max() > 1, "by itself several a step"
