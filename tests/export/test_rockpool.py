"""Rockpool, by which Xylo is programmed, reads the files, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from old_readers import assert_reads_the_same_spikes, environment

from leanspike import to_nir
from leanspike.export import write_nir
from portable_networks import images, portable_network

pytest.importorskip("nir")
READER = Path(__file__).with_name("rockpool_reader.py")
TOOLS = ("setuptools>=77", "wheel")
PACKAGES = ("nir==1.0.4", "nirtorch==1.0", "rockpool==3.1.0")


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rockpool")
    return environment(folder, TOOLS, ("--no-build-isolation", *PACKAGES))


@pytest.mark.slow
@pytest.mark.parametrize("neuron", ["current", "channels current"])
def test_rockpool_computes_the_same_spikes_where_one_a_step_is_asked_for(neuron, python, tmp_path):
    snn = portable_network("dense", neuron)
    path = write_nir(to_nir(snn, "xylo"), tmp_path / "net.nir")
    assert_reads_the_same_spikes(python, READER, path, snn, images("dense"))
