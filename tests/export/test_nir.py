"""Networks out to NIR: what stands in the files, and what their own readers make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leanspike import LIF, LeanspikeError, SpikingNetwork, spike, to_nir
from leanspike.errors import LeanspikeError as Error
from leanspike.export import TARGETS, exporters, prove, write, write_nir
from portable_networks import NETWORKS, T, images, portable_network

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the libraries that read
nir = pytest.importorskip("nir")


def read_back(snn: SpikingNetwork, target: str, name: str, folder: Path, approximate: bool = False):
    path = write_nir(to_nir(snn, target, approximate=approximate), folder / "net.nir", target)
    x = images(name)
    return prove(snn, path, target, [(x[:4], torch.arange(4) % 3), (x[4:], torch.arange(4) % 3)])


@pytest.mark.parametrize(
    "neuron", ["soft", "soft leaky", "hard leaky", "high", "channels", "current"]
)
@pytest.mark.parametrize("name", ["pooled", "dense"])
def test_norse_computes_the_same_spikes(name, neuron, tmp_path):
    pytest.importorskip("norse")
    proof = read_back(portable_network(name, neuron), "norse", name, tmp_path)
    assert proof.mismatches == 0
    assert all(min(layer.spikes) > 0 for layer in proof.layers[:-1])
    assert proof.apart < 1e-5
    assert proof.samples == 8
    assert proof.ours == proof.theirs


@pytest.mark.parametrize("neuron", ["soft", "hard"])
def test_norse_reads_shortcuts(neuron, tmp_path):
    pytest.importorskip("norse")
    assert read_back(portable_network("skip", neuron), "norse", "skip", tmp_path).mismatches == 0


@pytest.mark.parametrize("target", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize(
    ("name", "neuron"),
    [
        *(("pooled", "hard"), ("pooled", "hard current"), ("dense", "hard leaky")),
        *(("skip", "hard high"), ("parallel", "hard"), ("parallel", "hard high")),
    ],
)
def test_readers_that_reset_to_0_compute_the_same_where_the_network_does(
    target, name, neuron, tmp_path
):
    pytest.importorskip(target)
    proof = read_back(portable_network(name, neuron), target, name, tmp_path)
    assert proof.mismatches == 0
    assert sum(proof.layers[0].spikes) > 0


@pytest.mark.parametrize("target", ["spikingjelly", "snntorch"])
def test_an_approximation_says_what_it_costs(target, tmp_path):
    pytest.importorskip(target)
    snn = portable_network("pooled", "soft")
    graph = to_nir(snn, target, approximate=True)
    assert "module 1: it subtracts the threshold" in graph.metadata["approximated"]
    proof = read_back(snn, target, "pooled", tmp_path, approximate=True)
    assert proof.mismatches > 0
    assert proof.layers[0].mismatches[:2] == (0, 0)  # by which no reset has told yet
    assert sum(proof.layers[0].mismatches) > 0


def test_heights_and_averages_are_in_the_next_weights():
    snn = portable_network("pooled", "high")
    graph = to_nir(snn, "norse")
    v = snn.get_submodule("1").threshold.item()
    weight = snn.get_submodule("3").weight.detach().numpy() * np.float64(v / 4)
    grouped = graph.nodes["3"].weight
    assert graph.nodes["3"].groups == 1
    np.testing.assert_array_equal(grouped[:4, :4], weight[:4].astype(np.float32))
    np.testing.assert_array_equal(grouped[4:, 4:], weight[4:].astype(np.float32))
    assert not grouped[:4, 4:].any()
    assert type(graph.nodes["2"]).__name__ == "SumPool2d"
    assert graph.nodes["5"].kernel_size.tolist() == [2, 2]
    assert (graph.nodes["6"].start_dim, graph.nodes["6"].end_dim) == (-3, -1)


def test_a_neuron_without_a_leak_keeps_its_membrane_whatever_the_reader_computes_in():
    node = to_nir(portable_network("dense", "soft"), "norse").nodes["1"]
    one = np.float32(1)
    assert np.float32(1e-4) / np.float32(node.tau_mem[0]) * np.float32(node.r[0]) == one
    assert (node.tau_syn == 1e-4).all()
    assert (1 - 1e-4 / node.tau_mem == 1).all()
    assert node.metadata == {"reset": "soft"}


def test_the_graph_says_what_it_is_of():
    graph = to_nir(portable_network("dense", "soft"), "sinabs")
    said = {"dt": 1e-4, "timesteps": T, "target": "sinabs", "decay": "exponential"}
    assert graph.metadata == said
    assert {type(node).__name__ for node in graph.nodes.values()} == {
        *("Input", "Output", "Affine", "IF")
    }


def test_sums_of_one_thing_and_halves_are_factors():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.relu, self.two = nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)
            self.register_buffer("gain", torch.tensor([1.0, 2.0, 4.0, 8.0]))

        def forward(self, x):
            x = self.relu(self.one(x))
            return self.two((x + x) * self.gain - x / 2)

    snn = spike(Twice().eval(), example_input=torch.zeros(1, 2), neuron=LIF(), timesteps=2)
    graph = to_nir(snn)
    factors = 2 * snn.get_buffer("gain").numpy() - 0.5
    two = snn.get_submodule("two").weight.detach().numpy()
    np.testing.assert_array_equal(graph.nodes["two"].weight, two * factors)
    assert sorted(graph.edges)[-1] == ("two", "output")


def test_shortcuts_of_resnets_are_convolutions_of_one_pixel():
    from leanspike.models import create_model

    ann = create_model("cifar_resnet20", 10, width=0.25).eval()
    snn = spike(ann, example_input=torch.zeros(1, 3, 8, 8), neuron=LIF(reset="hard"), norm="keep")
    nodes = to_nir(snn, "snntorch").nodes
    sliced, padded = nodes["layer2.0.getitem"], nodes["layer2.0.pad"]
    assert tuple(sliced.stride) == (2, 2)
    np.testing.assert_array_equal(sliced.weight[:, :, 0, 0], np.eye(4))
    np.testing.assert_array_equal(padded.weight[2:6, :, 0, 0], np.eye(4))
    assert padded.weight.sum() == 4


def test_a_norm_is_folded_and_the_network_stays_as_it_was():
    ann = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    ann[1].running_mean.fill_(0.5)
    snn = spike(ann, example_input=torch.zeros(1, 2), neuron=LIF(), norm="keep")
    before = {key: value.clone() for key, value in snn.state_dict().items()}
    assert snn.training
    graph = to_nir(snn)
    assert sorted(graph.nodes) == ["0", "2", "3", "input", "output"]
    np.testing.assert_allclose(graph.nodes["0"].bias, ann[0].bias.detach() - 0.5, atol=1e-5)
    assert snn.training
    assert all(torch.equal(value, snn.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("target", TARGETS)
def test_files_leave_out_v_reset_where_the_reader_is_old(target, tmp_path):
    import h5py

    kind = "current" if TARGETS[target].filtered == "must" else "soft"
    snn = portable_network("dense", kind if "soft" in TARGETS[target].resets else "hard")
    path = write(snn, tmp_path / "net.nir", "nir", {"target": target})
    with h5py.File(path) as file:
        neuron = file["node/nodes/1"]
        assert ("v_reset" in neuron) == TARGETS[target].v_reset
        assert file["node/metadata/target"][()].decode() == target
    assert list(tmp_path.iterdir()) == [path]
    same = write_nir(to_nir(snn, target), tmp_path / "same.nir")  # for the target of the graph
    with h5py.File(same) as file:
        assert ("v_reset" in file["node/nodes/1"]) == TARGETS[target].v_reset
    assert np.array_equal(nir.read(path).nodes["0"].weight, snn.get_submodule("0").weight.detach())


def test_the_exporter_is_in_the_registry():
    assert "nir" in exporters.names()
    with pytest.raises(Error, match="exporter nir has no option 'goal'; valid are target, approx"):
        exporters.create("nir", {"goal": "norse"})
    with pytest.raises(Error, match="exporter nir: target is 'loihi'"):
        exporters.create("nir", {"target": "loihi"})


def test_every_target_that_the_record_names_can_be_chosen():
    from typing import get_args

    from leanspike.export.nir import TargetName

    assert set(get_args(TargetName)) == set(TARGETS)


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    graph = to_nir(portable_network("dense"))
    (tmp_path / "file").write_text("")
    with pytest.raises(LeanspikeError, match=r"cannot write .*; make room or give another place"):
        write_nir(graph, tmp_path / "file" / "net.nir")


def test_names_that_readers_make_alike_stay_apart():
    class Alike(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(nn.Linear(2, 2))
            self.a_0, self.input, self.relu = nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()

        def forward(self, x):
            return self.a_0(self.relu(self.input(self.a(x))))

    graph = to_nir(spike(Alike().eval(), example_input=torch.zeros(1, 2), neuron=LIF()))
    assert {"a.0", "a_0_2", "input_2", "relu"} < set(graph.nodes)


def test_all_networks_of_these_tests_fire():
    for name in NETWORKS:
        snn = portable_network(name)
        assert (snn(images(name)).std(0) > 0).any()
