"""NIR in: what leanspike wrote comes back exactly, what others wrote computes what they do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from leanspike import LeanspikeError, compile_engine, evaluate, from_nir, load, save, to_nir
from leanspike.export import TARGETS, write_nir
from portable_networks import NETWORKS, NEURONS, T, images, portable_network

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the libraries that write
h5py = pytest.importorskip("h5py")
nir = pytest.importorskip("nir")


def assert_same(one, other):
    """Node by node, number by number."""
    assert one.nodes.keys() == other.nodes.keys()
    assert sorted(one.edges) == sorted(other.edges)
    assert one.metadata == other.metadata
    for name, node in one.nodes.items():
        assert type(node) is type(other.nodes[name])
        for field, value in vars(node).items():
            theirs = vars(other.nodes[name])[field]
            if isinstance(value, dict):
                assert all(np.array_equal(value[key], theirs[key]) for key in value)
            else:
                np.testing.assert_array_equal(value, theirs, err_msg=f"{name}.{field}")


def pairs():
    """Each target with networks and neurons that it can have."""
    for number, (target, record) in enumerate(TARGETS.items()):
        reset = "soft" if "soft" in record.resets else "hard"
        networks = ["pooled", "dense", *["parallel"] * (record.branches == "any")]
        if record.filtered != "must":
            yield target, networks[number % len(networks)], reset
        if record.leaky and record.filtered != "must":
            yield target, "dense", {"soft": "soft leaky", "hard": "hard leaky"}[reset]
        if record.filtered != "no":
            yield target, "dense", {"soft": "current", "hard": "hard current"}[reset]
    yield "norse", "dense", "channels"
    yield "norse", "skip", "soft"


@pytest.mark.parametrize(("target", "name", "neuron"), list(pairs()))
def test_what_was_written_is_read_exactly(target, name, neuron, tmp_path):
    snn = portable_network(name, neuron)
    graph = to_nir(snn, target)
    back = from_nir(write_nir(graph, tmp_path / "net.nir", target))
    assert_same(to_nir(back, target), graph)
    x = images(name)
    assert torch.equal(back(x), snn(x)), "on a grid nothing is rounded"
    assert back.timesteps == T
    assert not back.training


def test_every_neuron_of_these_tests_leaves_and_returns():
    for neuron in NEURONS.keys() - {"floor"}:
        snn = portable_network("dense", neuron)
        assert torch.equal(from_nir(to_nir(snn))(images("dense")), snn(images("dense")))


def test_it_is_a_network_like_any_other(tmp_path):
    file = write_nir(to_nir(portable_network("skip")), tmp_path / "net.nir")
    snn, x = from_nir(file), images("skip", 16)
    assert [path for path, _ in snn.neurons()] == ["relu1", "relu2", "relu3"]
    result = evaluate(snn, [(x, torch.arange(16) % 3)])
    assert result.energy is not None
    before = snn(x).detach()
    nn.functional.cross_entropy(snn(x).mean(0), torch.arange(16) % 3).backward()
    with torch.no_grad():
        for parameter in snn.parameters():
            parameter -= 0.1 * parameter.grad if parameter.grad is not None else 0.0
    assert not torch.equal(snn(x), before)
    save(snn, tmp_path / "trained")
    again = load(tmp_path / "trained", from_nir(file))
    assert torch.equal(again(x), snn(x))
    assert_same(to_nir(again), to_nir(snn))


def test_a_floor_leaves_and_returns(caplog):
    caplog.set_level("INFO", "leanspike")
    snn = portable_network("dense", "floor")
    graph = to_nir(snn, "sinabs")
    assert "sinabs holds" not in caplog.text
    assert_same(to_nir(from_nir(graph), "sinabs"), graph)
    assert from_nir(graph).get_submodule("1").dynamics.floor == 1.0
    graph.nodes["1"].metadata["floor"] = "deep"
    with pytest.raises(LeanspikeError, match="node 1: its metadata says floor 'deep'"):
        from_nir(graph)


def test_where_membranes_are_held_unasked_it_is_said(caplog):
    caplog.set_level("INFO", "leanspike")
    to_nir(portable_network("dense"), "sinabs")
    assert "sinabs holds membranes without a leak at minus the threshold" in caplog.text


def graph_of(*nodes, **others):
    """A chain of nodes that reads 4 numbers."""
    return nir.NIRGraph(
        {"input": nir.Input(np.array([4])), **dict(nodes), "output": nir.Output(np.array([4]))},
        others.get("edges", [("input", nodes[0][0]), (nodes[-1][0], "output")]),
        type_check=False,
    )


def wide():
    """A small file of a layer that would need 64 GB."""
    graph = graph_of(("n", nir.Conv2d((4000, 4000), np.ones((1024, 1, 1, 1)), 1, 0, 1, 1, None)))
    graph.nodes["input"].input_type["input"] = np.array([1, 4000, 4000])
    return graph


def convolving(stride=1, padding=0, groups=1):
    """A convolution along 8 numbers."""
    weight, bias = np.ones((2, 2, 1)), np.zeros(2)
    node = nir.Conv1d(8, weight, 1, 0, 1, 1, bias)
    node.stride, node.padding, node.groups = stride, padding, groups
    graph = graph_of(("n", node))
    graph.nodes["input"].input_type["input"] = np.array([2, 8])
    return graph


def full(value):
    return np.full(4, value, dtype=np.float64)


def membranes(snn):
    """Threshold and leak of the only layer."""
    ((_, neuron),) = snn.neurons()
    return neuron.threshold.item(), neuron.leak.item(), neuron.record().reset


@pytest.mark.parametrize(
    ("node", "given", "expected"),
    [
        (("IF", {"r": full(1), "v_threshold": full(0.5)}), {}, (0.5, 1.0, "hard")),
        (("IF", {"r": full(1e4), "v_threshold": full(0.5)}), {}, (0.5, 1.0, "hard")),
        (("IF", {"r": full(500), "v_threshold": full(0.5)}), {"dt": 1e-3}, (1.0, 1.0, "hard")),
        (
            ("LIF", {"tau": full(4e-4), "r": full(4), "v_leak": full(0), "v_threshold": full(0.5)}),
            {"reset": "soft"},
            (0.5, 0.75, "soft"),
        ),
        (
            ("LIF", {"tau": full(4e-4), "r": full(1), "v_leak": full(0), "v_threshold": full(0.5)}),
            {},
            (2.0, 0.75, "hard"),
        ),
        (("Threshold", {"threshold": full(0.5)}), {}, (0.5, 0.0, "hard")),
    ],
)
def test_equations_become_thresholds_and_leaks(node, given, expected):
    kind, fields = node
    *numbers, reset = membranes(from_nir(graph_of(("n", vars(nir.ir)[kind](**fields))), 3, **given))
    assert numbers == pytest.approx(expected[:2])
    assert reset == expected[2]


def test_a_graph_inside_a_graph_is_read():
    inner = nir.NIRGraph(
        {
            "input": nir.Input(np.array([4])),
            "fc": nir.Affine(np.eye(4, dtype=np.float32), np.ones(4, dtype=np.float32)),
            "output": nir.Output(np.array([4])),
        },
        [("input", "fc"), ("fc", "output")],
    )
    graph = graph_of(
        ("block", inner),
        ("if", nir.IF(full(1), full(0.5))),
        edges=[("input", "block"), ("block", "if"), ("if", "output")],
    )
    snn = from_nir(graph, 2)
    assert torch.equal(snn(torch.zeros(1, 4)), torch.ones(2, 1, 4))
    assert set(snn.state_dict()) == {
        "block.fc.weight",
        "block.fc.bias",
        "if_.threshold",
        "if_.leak",
    }


def test_scales_and_averages_are_read():
    nodes = {
        "input": nir.Input(np.array([2, 4, 4])),
        "scale": nir.Scale(np.arange(32.0).reshape(2, 4, 4)),
        "pool": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([2, 2, 2])}, 1, -1),
        "fc": nir.Linear(np.eye(8, dtype=np.float32)),
        "if": nir.IF(np.ones(8), np.full(8, 11.0)),
        "output": nir.Output(np.array([8])),
    }
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)
    y = from_nir(graph, 1)(torch.ones(1, 2, 4, 4))[0, 0]
    expected = nn.functional.avg_pool2d(torch.arange(32.0).view(1, 2, 4, 4), 2).flatten()
    assert torch.equal(y, (expected > 11).float())


def test_convolutions_in_groups_come_back_in_groups(tmp_path):
    snn = portable_network("pooled")
    back = from_nir(write_nir(to_nir(snn), tmp_path / "net.nir"))
    own, layer = snn.get_submodule("3"), back.get_submodule("3")
    assert layer.groups == own.groups == 2
    assert layer.weight.shape == own.weight.shape
    x = images("pooled")
    ours, theirs = (evaluate(network, [(x, torch.arange(8) % 3)]) for network in (snn, back))
    assert theirs.energy.snn_pj == pytest.approx(ours.energy.snn_pj)
    graph = to_nir(snn)
    graph.nodes["3"].weight[0, -1] = 1.0  # somebody let the groups meet
    assert from_nir(graph).get_submodule("3").groups == 1


def test_files_for_old_readers_hold_no_field_that_those_do_not_know(tmp_path):
    snn = portable_network("pooled", "floor")
    path = write_nir(to_nir(snn, "sinabs"), tmp_path / "net.nir")
    with h5py.File(path) as file:
        fields = {key for node in file["node/nodes"].values() for key in node}
        layer = file["node/nodes/3"]
        assert "v_reset" not in fields
        assert "metadata" not in layer
    back = from_nir(path)
    assert back.get_submodule("3").groups == 1
    x = images("pooled")
    assert torch.equal(back(x), snn(x))


@pytest.mark.parametrize("name", ["pooled", "skip", "parallel"])
def test_what_is_read_is_compiled(name):
    target = "spinnaker2"
    back, x = from_nir(to_nir(portable_network(name), target)), images(name)
    torch.testing.assert_close(compile_engine(back)(x), back(x).detach())


REFUSED = {
    "names of two lines": (
        lambda: (graph_of(("n\nm", nir.Linear(np.eye(4)))), {"timesteps": 2}),
        r"a node is named 'n\\nm'; give it a name of at most 200 letters, in one line",
    ),
    "more than memory holds": (
        lambda: (wide(), {"timesteps": 2}),
        "node n: up to it a sample takes 16,384,000,000 numbers, more than 268,435,456",
    ),
    "padding": (
        lambda: (convolving(padding="full"), {"timesteps": 2}),
        r"node n: its padding is 'full' with a stride of \(1,\); write valid, same",
    ),
    "padding of strides": (
        lambda: (convolving(padding="same", stride=2), {"timesteps": 2}),
        r"node n: its padding is 'same' with a stride of \(2,\); write valid, same",
    ),
    "groups": (
        lambda: (convolving(groups=0), {"timesteps": 2}),
        "node n: 0 are not sizes; write 1 whole numbers, 1 or more",
    ),
    "neurons of another shape": (
        lambda: (
            graph_of(("n", nir.IF(np.ones(3), np.arange(1.0, 4.0)))),
            {"timesteps": 2},
        ),
        r"node n: its numbers have the shape \(3,\), but \(4,\) arrive",
    ),
    "timesteps": (lambda: (graph_of(("n", nir.Linear(np.eye(4)))), {}), "give it, as from_nir"),
    "no neurons": (
        lambda: (graph_of(("n", nir.Linear(np.eye(4)))), {"timesteps": 2}),
        "the graph has no neurons; give one with IF, LIF, CubaLIF or Threshold",
    ),
    "li": (
        lambda: (graph_of(("n", nir.LI(full(1), full(1), full(0)))), {"timesteps": 2}),
        "node n: leanspike has no LI; write a graph of Affine",
    ),
    "leak potential": (
        lambda: (
            graph_of(("n", nir.LIF(full(1), full(1), full(0.5), full(1)))),
            {"timesteps": 2},
        ),
        "node n: v_leak is not 0",
    ),
    "short times": (
        lambda: (
            graph_of(("n", nir.LIF(full(1e-5), full(1), full(0), full(1)))),
            {"timesteps": 2},
        ),
        r"node n: tau is 1e-05 s, shorter than a step of dt = 0.0001 s; .* dt=1e-05 or less",
    ),
    "negative gains": (
        lambda: (graph_of(("n", nir.IF(full(-1), full(1)))), {"timesteps": 2}),
        "node n: its input is multiplied by",
    ),
    "not numbers": (
        lambda: (graph_of(("n", nir.IF(full(1), full(np.nan)))), {"timesteps": 2}),
        "node n: v_threshold is not finite",
    ),
    "thresholds below 0": (
        lambda: (graph_of(("n", nir.IF(full(1), full(-1)))), {"timesteps": 2}),
        "node n: a threshold is -1; give one above 0",
    ),
    "cycles": (
        lambda: (
            graph_of(
                ("n", nir.Linear(np.eye(4))),
                ("m", nir.Linear(np.eye(4))),
                edges=[("input", "n"), ("n", "m"), ("m", "n"), ("m", "output")],
            ),
            {"timesteps": 2},
        ),
        "the graph has a cycle through .*; leanspike's networks go forward",
    ),
    "other sizes": (
        lambda: (graph_of(("n", nir.Linear(np.eye(5)))), {"timesteps": 2}),
        r"node n: its weight reads 5 numbers, but \(4,\) arrive",
    ),
    "no node": (
        lambda: (
            graph_of(("n", nir.Linear(np.eye(4))), edges=[("input", "n"), ("n", "nowhere")]),
            {"timesteps": 2},
        ),
        "an edge leads to 'nowhere', which is no node",
    ),
    "loose ends": (
        lambda: (
            graph_of(
                ("n", nir.Linear(np.eye(4))),
                ("m", nir.Linear(np.eye(4))),
                edges=[("input", "n"), ("input", "m"), ("n", "output")],
            ),
            {"timesteps": 2},
        ),
        "the graph has 1 inputs and 2 outputs",
    ),
    "resets": (
        lambda: (graph_of(("n", nir.Linear(np.eye(4)))), {"timesteps": 2, "reset": "slow"}),
        "reset is 'slow'; choose one of soft, hard",
    ),
    "sources": (lambda: (7, {"timesteps": 2}), "source is a int; give a file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_leanspike_has_nothing_for_is_refused_by_its_name(what):
    make, message = REFUSED[what]
    source, given = make()
    with pytest.raises(LeanspikeError, match=message) as error:
        from_nir(source, **given)
    assert "\n" not in str(error.value)


def test_files_of_snntorch_are_read(tmp_path):
    snntorch = pytest.importorskip("snntorch")
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(0)

    def leaky(neurons, threshold):  # one number for each, or snnTorch writes no shape
        return snntorch.Leaky(
            torch.full((neurons,), 0.75),
            threshold=torch.full((neurons,), threshold),
            init_hidden=True,
            reset_mechanism="zero",
            reset_delay=False,
        )

    theirs = nn.Sequential(
        *(nn.Linear(4, 16), leaky(16, 0.5)),
        *(nn.Linear(16, 8), leaky(8, 0.25)),
    )
    nir.write(tmp_path / "net.nir", export_to_nir(theirs, torch.randn(1, 4), ignore_dims=[0]))
    ours, x = from_nir(tmp_path / "net.nir", timesteps=4), torch.randn(16, 4)
    for module in theirs:
        if isinstance(module, snntorch.Leaky):
            module.reset_mem()
    with torch.no_grad():
        expected = torch.stack([theirs(x) for _ in range(4)])
    assert torch.equal(ours(x), expected)
    assert 0 < expected.mean() < 1


def test_files_of_spikingjelly_are_read(tmp_path):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    torch.manual_seed(0)
    theirs = nn.Sequential(
        *(layer.Conv2d(3, 4, 3, padding=1), neuron.IFNode(v_threshold=0.5), layer.AvgPool2d(2)),
        *(layer.Flatten(), layer.Linear(64, 8), neuron.LIFNode(tau=4.0, v_threshold=0.25)),
    )
    nir.write(tmp_path / "net.nir", export_to_nir(theirs, torch.randn(1, 3, 8, 8), dt=1e-3))
    ours, x = from_nir(tmp_path / "net.nir", timesteps=4, dt=1e-3), torch.randn(16, 3, 8, 8)
    functional.reset_net(theirs)
    with torch.no_grad():
        expected = torch.stack([theirs(x) for _ in range(4)])
    assert torch.equal(ours(x), expected)
    assert 0 < expected.mean() < 1


def test_files_of_norse_are_read_with_its_times(tmp_path):
    norse = pytest.importorskip("norse.torch")

    torch.manual_seed(0)
    parameters = norse.LIFBoxParameters(
        tau_mem_inv=torch.full((16,), 250.0),
        v_leak=torch.zeros(16),
        v_th=torch.full((16,), 0.125),
    )
    theirs = norse.SequentialState(nn.Linear(4, 16), norse.LIFBoxCell(parameters), nn.Linear(16, 3))
    nir.write(tmp_path / "net.nir", norse.to_nir(theirs, torch.randn(4)))
    with pytest.raises(LeanspikeError, match="Norse writes its times in units of dt: dt=1e-6"):
        from_nir(tmp_path / "net.nir", timesteps=4)
    ours, x = from_nir(tmp_path / "net.nir", timesteps=4, dt=1e-6), torch.randn(16, 4)
    state, steps = None, []
    with torch.no_grad():
        for _ in range(4):
            y, state = theirs(x, state)
            steps.append(y)
    torch.testing.assert_close(ours(x), torch.stack(steps))
    assert membranes(ours)[1] == 0.75


def test_the_largest_network_of_these_tests_is_small():
    assert all(np.prod(shape) < 200 for _, shape in NETWORKS.values())
