"""The surgery: what becomes of a network's activations, values, names and edges."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LIF, LeanspikeError, Neuron, SurgeryError, calibrate, spike
from leanspike.graph.ops import Signal
from leanspike.neuron import Cost
from leanspike.temporal import TemporalDropout
from networks import NETWORKS, USERS, ZOO, Block, build, draw

every_network = pytest.mark.parametrize("name", NETWORKS)
every_small_network = pytest.mark.parametrize("name", [*USERS, *ZOO])
T, N = 3, 2


def relu_network(name, **options):
    """A network and the same with ReLUs in place of neurons."""
    ann = build(name)
    return ann, spike(ann, example_input=draw(name, 1), neuron=nn.ReLU(), timesteps=T, **options)


def paths(snn):
    return [path for path, _ in snn.neurons()]


def signals(snn):
    """(operation, timed, kind) of every edge, in order."""
    return [
        (getattr(n.target, "__name__", n.target), n.meta["signal"].timed, n.meta["signal"].kind)
        for n in snn.plan.graph.nodes
        if n.op != "output"
    ]


# -- the same answers --------------------------------------------------------------------------


@every_network
@torch.no_grad()
def test_with_relus_for_neurons_it_answers_as_the_ann_at_every_step(name):
    ann, snn = relu_network(name)
    x = draw(name, N)
    expected = ann(x.clone())
    assert expected.std() > 0.01
    y_TNK = snn(x.clone())
    assert y_TNK.shape == (T, N, 5)
    for y_NK in y_TNK:
        torch.testing.assert_close(y_NK, expected, rtol=1e-4, atol=1e-4)


@every_network
@torch.no_grad()
def test_each_frame_is_answered_as_the_ann_answers_it(name):
    ann = build(name)
    x_TN = draw(name, T, N)
    snn = spike(ann, example_input=x_TN[:, :1], encode="frames", neuron=nn.ReLU())
    y_TNK = snn(x_TN.clone())
    for y_NK, x_N in zip(y_TNK, x_TN, strict=True):
        torch.testing.assert_close(y_NK, ann(x_N.clone()), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_ann_comes_back_when_the_neurons_are_swapped_for_relus():
    ann = build("padded_shortcut")
    x = draw("padded_shortcut", N)
    snn = spike(ann, example_input=x[:1], timesteps=T)
    assert not torch.allclose(snn(x)[-1], ann(x))
    for path in paths(snn):
        snn.set_submodule(path, nn.ReLU())
    torch.testing.assert_close(snn(x)[-1], ann(x))


@every_small_network
def test_the_ann_and_the_example_are_left_untouched(name):
    ann, example = build(name), draw(name, 1)
    ann.train()
    modules = [(path, type(module), module.training) for path, module in ann.named_modules()]
    state = deepcopy(ann.state_dict())
    attributes = set(vars(ann))
    spike(ann, example_input=(kept := example.clone()))
    assert torch.equal(kept, example)
    assert modules == [(p, type(m), m.training) for p, m in ann.named_modules()]
    assert attributes == set(vars(ann))
    assert list(state) == list(ann.state_dict())
    assert all(torch.equal(value, ann.state_dict()[key]) for key, value in state.items())


def test_no_weight_is_shared_with_the_ann():
    ann, snn = relu_network("dense")
    theirs = {p.data_ptr() for p in (*ann.parameters(), *ann.buffers())}
    assert not theirs & {p.data_ptr() for p in (*snn.parameters(), *snn.buffers())}


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_that_of_the_ann(training):
    ann = build("dropouts").train(training)
    snn = spike(ann, example_input=draw("dropouts", 1))
    assert {module.training for module in snn.modules()} == {training}


# -- names -------------------------------------------------------------------------------------


PATHS = {
    "functional": ["neuron_0", "neuron_1", "neuron_2"],
    "reused_relu": ["neuron_0", "neuron_1", "head.neuron_0", "out_act"],
    "same_block_twice": ["block.neuron_0", "block.neuron_1", "block.neuron_2", "block.neuron_3"],
    "shared_block": [f"first.neuron_{k}" for k in range(8)],
    "dropouts": ["features.2", "neuron_0"],
    "vector": ["layers.0", "layers.3"],
    "vgg6": [*(f"features.relu{k}" for k in (1, 2, 3)), "classifier.relu1", "classifier.relu2"],
    "torchvision_resnet18": [
        "relu",
        *(f"layer{i}.{j}.neuron_{k}" for i in (1, 2, 3, 4) for j in (0, 1) for k in (0, 1)),
    ],
}


@pytest.mark.parametrize("name", PATHS)
def test_neurons_are_named_by_module_or_by_owner_and_call_order(name):
    _, snn = relu_network(name)
    assert paths(snn) == PATHS[name]


def test_names_do_not_depend_on_what_else_the_forward_computes():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return F.relu(self.fc(F.relu(self.fc(x))))

    class Detour(Plain):
        def forward(self, x):
            x = F.relu(self.fc(x) * 1.0 + 0.0)
            x.mean(1)
            return F.relu(self.fc(x.flatten(1)))

    x = torch.zeros(1, 4)
    states = [list(spike(net(), example_input=x).state_dict()) for net in (Plain, Detour)]
    assert states[0] == states[1]


def test_dropouts_are_named_like_neurons():
    _, snn = relu_network("dropouts")
    found = {path: m for path, m in snn.named_modules() if isinstance(m, TemporalDropout)}
    assert list(found) == ["features.0", "features.3", "dropout_0", "dropout_1"]
    assert [m.p for m in found.values()] == [0.25, 0.5, 0.1, 0.5]
    assert [m.drops for m in found.values()] == ["channels", "elements"] * 2


def test_a_dropout_called_twice_keeps_its_kind_at_both_calls():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout3d(0.25)

        def forward(self, x):
            return self.drop(F.relu(self.drop(x)))

    snn = spike(Twice(), example_input=torch.zeros(1, 2, 3, 3, 3))
    settings = [(m.p, m.drops) for m in (snn.dropout_0, snn.dropout_1)]
    assert settings == [(0.25, "channels")] * 2
    assert isinstance(snn.drop, nn.Identity)


def test_a_functional_dropout_that_never_drops_does_not_begin_to():
    class Off(nn.Module):
        def forward(self, x):
            return F.relu(F.dropout(x, 0.9, training=False))

    snn = spike(Off().train(), example_input=torch.ones(1, 50), neuron=nn.ReLU())
    assert (snn(torch.ones(2, 50)) == 1).all()


@every_small_network
def test_no_key_of_the_ann_is_lost_or_renamed(name):
    ann = build(name)
    snn = spike(ann, example_input=draw(name, 1), norm="keep")
    added = {
        f"{path}.{key}"
        for path, module in snn.named_modules(remove_duplicate=False)
        if isinstance(module, LIF)
        for key in ("leak", "threshold")
    }
    assert set(snn.state_dict()) == set(ann.state_dict()) | added
    assert len(paths(snn)) == len(set(paths(snn)))
    assert [path for path in paths(snn) if not isinstance(snn.get_submodule(path), LIF)] == []


def test_a_name_that_is_taken_is_not_overwritten():
    class Taken(nn.Module):
        def __init__(self, taken):
            super().__init__()
            self.block = nn.Module()
            self.neuron_0 = taken

        def forward(self, x):
            return F.relu(x)

    for taken in (nn.Linear(4, 4), 7):
        with pytest.raises(SurgeryError, match="neuron_0: Taken has an attribute of that name"):
            spike(Taken(taken), example_input=torch.zeros(1, 4))


@pytest.mark.parametrize("name", ["step", "neurons", "plan", "timesteps"])
def test_a_root_attribute_that_collides_with_the_spiking_network_is_refused(name):
    ann = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    ann.add_module(name, nn.Linear(4, 4))
    message = f"attribute '{name}' collides with one of SpikingNetwork; wrap the network: nn.Sequ"
    with pytest.raises(LeanspikeError, match=message):
        spike(ann, example_input=torch.zeros(1, 4))
    spike(nn.Sequential(ann), example_input=torch.zeros(1, 4))


# -- the parts ---------------------------------------------------------------------------------


def test_the_default_neuron_learns_leak_and_threshold():
    snn = spike(build("vector"), example_input=draw("vector", 1))
    for _, neuron in snn.neurons():
        assert isinstance(neuron, LIF)
        assert neuron.learn == ("leak", "threshold")


def test_each_call_gets_a_copy_of_the_neuron():
    template = LIF(threshold=0.3, leak=0.7, initial="half")
    snn = spike(build("functional"), example_input=draw("functional", 1), neuron=template)
    neurons = [neuron for _, neuron in snn.neurons()]
    assert len({id(neuron) for neuron in (template, *neurons)}) == 4
    assert len({neuron.threshold.data_ptr() for neuron in (template, *neurons)}) == 4
    for neuron in neurons:
        assert neuron.dynamics == template.dynamics
        assert torch.equal(neuron.threshold, template.threshold)


def test_a_neuron_may_be_made_by_a_function_of_the_path():
    seen = []

    def make(path):
        seen.append(path)
        return LIF(threshold=float(len(seen)))

    snn = spike(build("vgg6"), example_input=draw("vgg6", 1), neuron=make)
    assert seen == paths(snn) == PATHS["vgg6"]
    assert [neuron.threshold.item() for _, neuron in snn.neurons()] == [1, 2, 3, 4, 5]


def test_the_kind_of_a_neuron_of_ones_own_is_what_it_declares():
    class Graded(Neuron):
        def initial(self, x_N):
            return torch.zeros_like(x_N)

        def step(self, x_N, state):
            return x_N, state

        def spike_height(self):
            return None

        def update_cost(self):
            return Cost()

    for neuron, kind in ((Graded(), "graded"), (nn.ReLU(), "analog"), (LIF(), "spike")):
        snn = spike(build("vector"), example_input=draw("vector", 1), neuron=neuron)
        assert {n.meta["signal"] for n in snn.neuron_nodes()} == {Signal(True, kind)}


def test_a_constant_made_in_the_forward_becomes_a_buffer_that_is_not_saved():
    _, snn = relu_network("dense")
    assert [name for name, _ in snn.named_buffers() if "constant" in name]
    assert not [name for name in snn.state_dict() if "constant" in name]


def test_persistence_of_the_roots_own_buffers_is_kept():
    class Buffers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kept", torch.ones(4))
            self.register_buffer("forgotten", torch.ones(4), persistent=False)

        def forward(self, x):
            return F.relu(x * self.kept * self.forgotten)

    ann = Buffers()
    snn = spike(ann, example_input=torch.zeros(1, 4), neuron=nn.ReLU())
    assert list(snn.state_dict()) == list(ann.state_dict()) == ["kept"]


def test_a_module_that_nobody_calls_stays_as_it_is():
    ann = build("vector")
    ann.unused = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    snn = spike(ann, example_input=draw("vector", 1))
    assert isinstance(snn.unused[1], nn.ReLU)
    snn.load_ann(ann.state_dict())


# -- what is computed once ---------------------------------------------------------------------


def count(module):
    """The batch sizes with which a module is called."""
    sizes = []
    module.register_forward_hook(lambda _module, args, _out: sizes.append(args[0].shape[0]))
    return sizes


@torch.no_grad()
def test_what_precedes_the_first_neuron_is_computed_once_for_all_steps():
    _, snn = relu_network("padded_shortcut")
    static = [count(snn.conv1), count(snn.bn1)]
    timed = [count(snn.conv2), count(snn.bn2), count(snn.fc)]
    snn(draw("padded_shortcut", N), timesteps=7)
    assert static == [[N], [N]]
    assert timed == [[7 * N], [7 * N], [7 * N]]


@torch.no_grad()
def test_frames_go_through_every_layer_at_every_step():
    ann = build("padded_shortcut")
    x_TN = draw("padded_shortcut", 7, N)
    snn = spike(ann, example_input=x_TN[:, :1], encode="frames", neuron=nn.ReLU())
    sizes = [count(snn.conv1), count(snn.bn1), count(snn.fc)]
    snn(x_TN)
    assert sizes == [[7 * N]] * 3


def test_the_first_neuron_gets_a_view_that_is_not_copied():
    _, snn = relu_network("vgg6")
    strides = []
    snn.features.relu1.register_forward_hook(lambda _m, args, _o: strides.append(args[0].stride(0)))
    snn(draw("vgg6", N))
    assert strides == [0]


# -- the declared edges ------------------------------------------------------------------------


def test_every_edge_of_a_residual_network_is_declared():
    snn = spike(build("padded_shortcut"), example_input=draw("padded_shortcut", 1), norm="keep")
    assert signals(snn) == [
        ("x", False, "analog"),
        ("timesteps", False, None),
        ("conv1", False, "analog"),
        ("bn1", False, "analog"),
        ("broadcast", True, "analog"),
        ("neuron_0", True, "spike"),
        ("stack", True, "spike"),
        ("pad", False, "analog"),
        ("repeat", True, "analog"),  # the skip from the input meets spikes
        ("add", True, "analog"),
        ("conv2", True, "analog"),
        ("bn2", True, "analog"),
        ("getitem", True, "analog"),
        ("pad", True, "analog"),
        ("add", True, "analog"),
        ("unstack", True, "analog"),
        ("neuron_1", True, "spike"),
        ("stack", True, "spike"),
        ("mean", True, "graded"),
        ("fc", True, "analog"),
        ("unstack", True, "analog"),
    ]


def test_every_edge_of_a_shortcut_of_spikes_is_declared():
    snn = spike(build("cifar_resnet20"), example_input=draw("cifar_resnet20", 1), norm="keep")
    nodes = {n.name: n.meta["signal"] for n in snn.plan.graph.nodes if n.op != "output"}
    kinds = [
        (name, signal.kind)
        for name, signal in nodes.items()
        if name.startswith(("stack", "getitem", "pad", "mean"))
    ]
    assert kinds == [
        *[(name, "spike") for name in ["stack", *(f"stack_{k}" for k in range(1, 8))]],
        ("getitem", "spike"),
        ("pad", "spike"),
        *[(f"stack_{k}", "spike") for k in range(8, 14)],
        ("getitem_1", "spike"),
        ("pad_1", "spike"),
        *[(f"stack_{k}", "spike") for k in range(14, 19)],
        ("mean", "graded"),
    ]


def test_edges_of_pools_and_sums_of_spikes_are_declared():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            a, b = F.relu(self.conv(x)), F.relu(x)
            pooled = F.max_pool2d(a, 2)
            averaged = F.avg_pool2d(b, 2)
            return torch.cat([pooled + averaged, averaged, pooled], 1).flatten(1)

    snn = spike(Net(), example_input=torch.zeros(1, 3, 4, 4))
    found = {target: (timed, kind) for target, timed, kind in signals(snn)}
    assert found["max_pool2d"] == (True, "spike")
    assert found["avg_pool2d"] == (True, "graded")
    assert found["add"] == (True, "graded")
    assert found["cat"] == (True, "graded")
    assert found["flatten"] == (True, "graded")


def test_a_static_edge_is_repeated_once_for_all_that_read_it():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(4, 4)

        def forward(self, x):
            x = self.stem(x)
            y = F.relu(x)
            return (y + x) * x - x

    snn = spike(Net(), example_input=torch.zeros(1, 4))
    assert [target for target, *_ in signals(snn)].count("repeat") == 1


@torch.no_grad()
def test_a_branch_that_time_does_not_reach_stays_static():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(4, 4)
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            y = self.fc(F.relu(x))
            return y * self.gate(x).softmax(1)

    ann = Net()
    snn = spike(ann, example_input=torch.zeros(1, 4), neuron=nn.ReLU(), timesteps=T)
    sizes, x = count(snn.gate), torch.randn(N, 4)
    torch.testing.assert_close(snn(x)[-1], ann(x))
    assert sizes == [N]


def test_an_activation_that_nobody_reads_is_none():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            F.relu(x)
            return self.fc(x)

    with pytest.raises(SurgeryError, match="the network has no activation to replace"):
        spike(Net(), example_input=torch.zeros(1, 4))


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timesteps": 0}, "timesteps is 0; give 1 or more"),
        ({"timesteps": "5"}, "timesteps is '5'; give a whole number, as timesteps=5"),
        ({"timesteps": 2.5}, "timesteps is 2.5; give a whole number, as timesteps=2"),
        ({"timesteps": True}, "timesteps is True; give a whole number, as timesteps=1"),
        ({"neuron": "LIF"}, r"neuron is 'LIF'; give one to copy, as in LIF\(\)"),
        ({"neuron": lambda _: LIF}, r"neuron\('.*'\) gives .*LIF'>; return a neuron, as LIF\(\)"),
        (
            {"example_input": torch.zeros(1, 12).numpy()},
            r"example_input is a ndarray; give a tensor, as torch\.as_tensor\(x\)\.float\(\)",
        ),
        ({"norm": "drop"}, "norm is 'drop'; choose one of keep, fold"),
        ({"encode": "rate"}, "encode is 'rate'; choose one of direct, frames"),
        ({"ops": {nn.GELU: "anlog"}}, "declares the kind 'anlog'; choose one of analog, graded"),
        ({"neuron": LIF}, r"neuron is the class LIF; give one to copy, as in LIF\(\)"),
        (
            {"neuron": lambda: LIF()},
            r"a function of \(\), but is called with \(path\); write neuron=lambda path: LIF\(\)",
        ),
        ({"example_input": torch.zeros(12)}, r"shape \(12,\); give a batch, \[N, \.\.\.\]"),
        (
            {"example_input": torch.zeros(1, 12), "encode": "frames"},
            r"shape \(1, 12\); give a batch, \[T, N, \.\.\.\]",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    arguments = {"example_input": torch.zeros(1, 12), **arguments}
    with pytest.raises(LeanspikeError, match=message):
        spike(build("vector"), **arguments)


def test_a_function_of_the_path_is_what_the_refusal_of_one_without_says():
    snn = spike(build("vector"), example_input=torch.zeros(1, 12), neuron=lambda path: LIF())  # noqa: ARG005
    assert {type(module) for _, module in snn.neurons()} == {LIF}


def test_a_spiking_network_is_not_made_to_spike_again():
    _, snn = relu_network("vector")
    with pytest.raises(
        LeanspikeError, match="is a SpikingNetwork already; pass the ANN it was made from"
    ):
        spike(snn, example_input=draw("vector", 1))


def test_a_block_of_ones_own_may_be_the_network():
    block = Block(3).eval()
    x = torch.randn(N, 3, 4, 4)
    snn = spike(block, example_input=x[:1], neuron=nn.ReLU())
    assert paths(snn) == ["neuron_0", "relu"]
    torch.testing.assert_close(snn(x)[0], block(x))


def test_one_sample_for_an_example_is_refused_and_the_advice_works():
    ann = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))  # takes it unbatched
    image = torch.zeros(1, 8, 8)
    message = r"0 takes \[N, C, H, W\], not \[1, 8, 8\]: one sample is example_input\.unsqueeze"
    with pytest.raises(LeanspikeError, match=message):
        spike(ann, example_input=image)
    assert spike(ann, example_input=image.unsqueeze(0)).plan.sample_shape == (1, 8, 8)


class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(144, 2)

    def forward(self, x):
        x = self.relu(self.conv(x)).view(torch.float32)
        return self.head(x.view(x.size(0), -1))


def test_a_view_takes_channels_last_as_a_reshape_does():
    snn = spike(Viewed().eval(), example_input=torch.zeros(1, 3, 8, 8), neuron=nn.ReLU())
    x = torch.randn(N, 3, 8, 8)
    expected = snn(x)
    copy = snn.to(memory_format=torch.channels_last)
    alike = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(copy(alike), expected)
    torch.testing.assert_close(copy.step(alike)[0], expected[0])
    calibrated = spike(Viewed().eval(), example_input=torch.zeros(1, 3, 8, 8))
    assert calibrate(calibrated, alike).layers
