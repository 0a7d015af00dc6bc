"""sinabs reads the files, in an environment of its own: its nir is older than leanspike's."""

from __future__ import annotations

from pathlib import Path

import pytest
from old_readers import assert_reads_the_same_spikes, environment

from leanspike import to_nir
from leanspike.export import write_nir
from portable_networks import images, portable_network

pytest.importorskip("nir")
READER = Path(__file__).with_name("sinabs_reader.py")
PACKAGES = ("sinabs==3.1.3", "nir==1.0.4", "nirtorch==1.0", "samna>=0.33", "pbr")


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    return environment(tmp_path_factory.mktemp("sinabs"), PACKAGES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "neuron"), [("pooled", "floor"), ("dense", "soft leaky"), ("skip", "floor")]
)
def test_sinabs_computes_the_same_spikes_where_one_a_step_is_asked_for(
    name, neuron, python, tmp_path
):
    snn = portable_network(name, neuron)
    path = write_nir(to_nir(snn, "sinabs"), tmp_path / "net.nir", "sinabs")
    assert_reads_the_same_spikes(python, READER, path, snn, images(name))
