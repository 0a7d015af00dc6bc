"""Rows are found by what a layer computes, and given for one call or from outside."""

import ast
import copy
import operator
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import leanspike
from leanspike import LIF, LeanspikeError, SurgeryError, evaluate, spike
from leanspike.evaluation.energy import OperationCounter
from leanspike.evaluation.prices import Prices
from leanspike.graph import counts, ops, rules
from leanspike.graph.ops import (
    OPERATIONS,
    UNKNOWN,
    Operation,
    Synapses,
    at_rows,
    kin,
    register,
    row,
    row_of,
)
from leanspike.graph.table import ROWS
from leanspike.saved import load, save
from leanspike.surgery import fold_norms
from leanspike.synapse import EventConv2d, TiledAvgPool2d
from leanspike.temporal import (
    BNTT,
    TDBN,
    TEBN,
    Affine,
    ChannelAffine,
    TemporalDropout,
    broadcast,
    repeat,
    stack,
    unstack,
)

LAYERS = [op for op in ROWS if isinstance(op, type) and issubclass(op, nn.Module)]
T, N = 3, 4


@pytest.fixture(autouse=True)
def the_table_as_it_is(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(OPERATIONS, "rows", dict(OPERATIONS.rows))


# -- layers by what they compute ---------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_a_subclass_without_a_forward_of_its_own_is_that_layer(layer):
    class Mine(layer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.mine = 1

        def extra_repr(self):
            return "mine"

    class Youngest(Mine):
        """A subclass of a subclass."""

    assert row(Mine) is row(Youngest) is row(layer) is kin(Youngest)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_a_subclass_with_a_forward_of_its_own_is_the_users_code(layer):
    class Mine(layer):
        def forward(self, *arguments):
            return super().forward(*arguments)

    family = row(layer).family
    assert row(Mine) is (row(layer) if family else UNKNOWN)
    assert kin(Mine) is row(layer)


def half(self, x, *rest):  # noqa: ARG001
    return x / 2


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        *((nn.Conv1d, "_conv_forward"), (nn.Conv2d, "_conv_forward"), (nn.Conv2d, "__call__")),
        *((nn.ConvTranspose2d, "_output_padding"), (nn.BatchNorm2d, "_check_input_dim")),
        *((nn.Linear, "weight"), (nn.ReLU, "inplace"), (nn.MaxPool2d, "stride")),
        *((nn.AvgPool2d, "padding"), (nn.Dropout, "p"), (nn.Dropout, "train")),
    ],
)
def test_a_subclass_that_overrides_what_the_forward_reads_is_not_that_layer(layer, name):
    assert row(type("Mine", (layer,), {name: half})) is UNKNOWN
    assert row(type("Mine", (type("Mixin", (), {name: half}), layer), {})) is UNKNOWN
    assert row(type("Mine", (layer,), {"other": half})) is row(layer)


def test_a_layer_whose_weights_are_computed_is_not_taken_for_its_class():
    ann = nn.Sequential(weight_norm(nn.Linear(4, 4)), nn.ReLU())
    with pytest.raises(SurgeryError, match="module 0: its weight is computed by a param"):
        spike(ann, example_input=torch.zeros(1, 4))


class Conv(nn.Conv2d):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, 3, padding=1)


class Norm(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels, momentum=0.2)


class Act(nn.ReLU):
    def __init__(self):
        super().__init__(inplace=True)


class Average(nn.AvgPool2d):
    def __init__(self):
        super().__init__(2)


class Maximum(nn.MaxPool2d):
    def __init__(self):
        super().__init__(2)


class Drop(nn.Dropout2d):
    def __init__(self):
        super().__init__(0.25)


class Dense(nn.Linear):
    def __init__(self, inputs):
        super().__init__(inputs, 5)


def pair() -> tuple[nn.Module, nn.Module]:
    """The same network of subclasses and of PyTorch's own layers, its norms with statistics."""
    first = Conv(2, 4), Norm(4), Act(), Average(), Drop()
    mine = nn.Sequential(*first, Conv(4, 4), Norm(4), Act(), Maximum(), nn.Flatten(), Dense(16))
    mine.load_state_dict(
        {
            name: torch.rand(value.shape, generator=torch.Generator().manual_seed(number)) - 0.3
            if value.is_floating_point() and "var" not in name
            else value
            for number, (name, value) in enumerate(mine.state_dict().items())
        }
    )
    plain = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=0.2), nn.ReLU()),
        *(nn.AvgPool2d(2), nn.Dropout2d(0.25), nn.Conv2d(4, 4, 3, padding=1)),
        *(nn.BatchNorm2d(4, momentum=0.2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        nn.Linear(16, 5),
    )
    plain.load_state_dict(mine.state_dict())
    return mine.eval(), plain.eval()


X = torch.rand(N, 2, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("norm", "becomes"), [("keep", Norm), ("fold", nn.Identity), ("tebn", TEBN), ("tdbn", TDBN)]
)
@torch.no_grad()
def test_a_network_of_subclasses_becomes_that_of_their_bases(norm, becomes):
    mine, plain = (
        spike(ann, example_input=X[:1], timesteps=T, norm=norm, neuron=LIF(0.2)) for ann in pair()
    )
    assert [str(n) for n in mine.plan.graph.nodes] == [str(n) for n in plain.plan.graph.nodes]
    assert torch.equal(mine(X), plain(X))
    assert mine(X).any()
    assert mine.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(mine.get_submodule("5"), EventConv2d)
    assert isinstance(mine.get_submodule("3"), TiledAvgPool2d)
    assert isinstance(mine.get_submodule("4"), TemporalDropout)
    assert isinstance(mine.get_submodule("6"), becomes)
    torch.testing.assert_close(fold_norms(mine)(X), fold_norms(plain)(X), rtol=0, atol=0)


@torch.no_grad()
def test_a_network_of_subclasses_costs_what_that_of_their_bases_does():
    batches = [(X, torch.zeros(N).long())]
    mine, plain = (
        evaluate(spike(ann, example_input=X[:1], timesteps=T, neuron=LIF(0.2)), batches)
        for ann in pair()
    )
    assert [row.snn_acs for row in mine.operations][1:] == [
        pytest.approx(row.snn_acs) for row in plain.operations[1:]
    ]
    assert all(row.snn_acs > 0 for row in mine.operations[1:])
    assert mine.energy == plain.energy


@torch.no_grad()
def test_a_network_of_subclasses_is_saved_and_loaded(tmp_path):
    mine, plain = (spike(ann, example_input=X[:1], neuron=LIF(0.2)) for ann in pair())
    again = load(save(mine, tmp_path / "mine"), ann=pair()[0])
    assert torch.equal(again.eval()(X), mine(X))
    of_plain = load(save(plain, tmp_path / "plain"), ann=pair()[0])  # whose paths are the same
    assert torch.equal(of_plain.eval()(X), mine(X))


def test_a_subclass_that_takes_a_single_sample_is_held_to_its_axes():
    class Mine(nn.Conv2d):
        pass

    with pytest.raises(SurgeryError, match=r"0 takes \[N, C, H, W\], not \[4, 6, 6\]"):
        spike(nn.Sequential(Mine(4, 4, 3), nn.ReLU()), example_input=torch.zeros(4, 6, 6))


class OwnAct(nn.ReLU):
    def forward(self, x):
        return super().forward(x) * 2


class OwnPool(nn.MaxPool2d):
    def forward(self, x):
        return super().forward(x)[:, :, :1]


class OwnDrop(nn.Dropout):
    def forward(self, x):
        return super().forward(x) / 2


@torch.no_grad()
def test_a_forward_of_its_own_is_traced():
    ann = nn.Sequential(nn.Conv2d(2, 2, 3), OwnAct(), OwnPool(2), OwnDrop(), nn.Flatten()).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=T)
    assert [path for path, _ in snn.neurons()] == ["1.neuron_0"]
    assert isinstance(snn.get_submodule("3.dropout_0"), TemporalDropout)
    assert F.max_pool2d in {node.target for node in snn.plan.graph.nodes} or any(
        "max_pool2d" in str(node.target) for node in snn.plan.graph.nodes
    )
    torch.testing.assert_close(snn(X)[-1], ann(X))


class OwnConv(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight.abs(), self.bias, padding=1) + x


class OwnLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight.abs(), self.bias) + x


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, True) + x


@pytest.mark.parametrize(
    "layer", [OwnConv(2, 2, 3, padding=1), OwnLinear(8, 8)], ids=["conv", "linear"]
)
def test_a_forward_of_its_own_with_weights_is_traced_and_may_be_declared(layer):
    ann = nn.Sequential(nn.ReLU(), layer).eval()
    spike(ann, example_input=X[:1])
    declared = {type(layer): "analog"}
    snn = spike(ann, example_input=X[:1], ops=declared, neuron=nn.ReLU(), timesteps=T)
    with torch.no_grad():
        torch.testing.assert_close(snn(X)[-1], ann(X))
    counted = [str(node.target) for node in snn.synaptic_nodes()]
    assert counted == ["1"]  # as its base


def test_a_norm_over_the_batch_is_refused_whatever_is_declared():
    ann = nn.Sequential(nn.ReLU(), OwnNorm(2)).eval()
    with pytest.raises(SurgeryError, match=r"batch_norm in 1: .*; use the module nn\.BatchNorm2d"):
        spike(ann, example_input=X[:1])
    with pytest.raises(SurgeryError, match=r"depends on the other samples .* \(OwnNorm\) mixes"):
        spike(ann, example_input=X[:1], ops={OwnNorm: "analog"})


@torch.no_grad()
def test_what_is_declared_for_one_call_is_copied_and_pickled_with_the_network():
    ann = nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), OwnConv(2, 2, 3, padding=1)).eval()
    snn = spike(ann, example_input=X[:1], ops={OwnConv: "analog"})
    for again in (copy.deepcopy(snn), pickle.loads(pickle.dumps(snn))):
        assert [str(node.target) for node in again.synaptic_nodes()] == ["0", "2"]


# -- what leanspike puts in --------------------------------------------------------------------


def test_every_operation_of_a_spiking_network_has_a_row():
    mine, _ = pair()
    snn = spike(mine, example_input=X[:1], norm="tebn", neuron=LIF(0.2))
    for network in (snn, fold_norms(snn)):
        for node in network.plan.graph.nodes:
            if node.op.startswith("call") and not node.meta.get("neuron"):
                assert row_of(node, network) is not UNKNOWN, node


def test_what_leanspike_puts_in_has_rows():
    assert row(EventConv2d).synapses == row(nn.Conv2d).synapses
    assert row(TiledAvgPool2d).follow is row(nn.AvgPool2d).follow
    assert row(BNTT).norm.priced
    assert row(Affine).norm.priced
    for op in (TemporalDropout, stack, unstack, broadcast, repeat):
        assert row(op).sequence
        assert row(op).follow is counts.moved


def test_layers_of_ours_in_a_users_network_are_layers():
    conv = EventConv2d.of(nn.Conv2d(2, 4, 3))
    ann = nn.Sequential(conv, nn.ReLU(), TiledAvgPool2d.of(nn.AvgPool2d(2))).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=T)
    assert [str(node.target) for node in snn.synaptic_nodes()] == ["0"]
    with torch.no_grad():
        torch.testing.assert_close(snn(X)[-1], ann(X))


def test_what_takes_a_sequence_is_no_layer_of_a_users_network():
    with pytest.raises(SurgeryError, match="computes something else in training"):
        spike(nn.Sequential(nn.ReLU(), TemporalDropout(0.5)), example_input=X[:1])


@pytest.mark.parametrize(
    ("write", "twin"),
    [
        (lambda x: operator.iadd(x, 1), operator.add),
        (lambda x: operator.isub(x, 1), operator.sub),
        (lambda x: operator.imul(x, 2), operator.mul),
        (lambda x: operator.itruediv(x, 2), operator.truediv),
        (lambda x: x.add_(1), "add"),
        (lambda x: x.sub_(1), "sub"),
        (lambda x: x.mul_(2), "mul"),
        (lambda x: x.div_(2), "div"),
        (lambda x: x.unsqueeze_(1).squeeze_(1), "squeeze"),
    ],
)
@torch.no_grad()
def test_what_overwrites_its_input_becomes_its_like_that_does_not(write, twin):
    class Net(nn.Module):
        def forward(self, x):
            return write(F.relu(x) * 1)

    snn = spike(Net(), example_input=X[:1], neuron=nn.ReLU(), timesteps=T)
    targets = [node.target for node in snn.plan.graph.nodes]
    assert twin in targets
    assert not [op for op in targets if row(op).twin]
    torch.testing.assert_close(snn(X)[-1], Net()(X))


# -- rows from outside -------------------------------------------------------------------------


class Mixed(nn.Module):
    """A layer with weights that no tracer can see through."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(outputs, inputs))

    def forward(self, x):
        if len(x) == 0 or not bool(torch.isfinite(x).all()):
            return x.new_zeros(len(x), len(self.weight))
        return x @ self.weight.T


class Pairs(nn.Module):
    """Sums of neighbours, which no tracer can see through either."""

    def forward(self, x):
        return x.unflatten(1, (-1, 2)).sum(2) if len(x) else x[:, ::2]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.pairs = nn.Linear(6, 8), Mixed(4, 3), Pairs()

    def forward(self, x):
        return self.second(self.pairs(torch.repeat_interleave(F.relu(self.first(x)), 1, 1)))


def repeated(call):
    """A check of our own: the axis of the repetition must not be that of the samples."""
    rules.axes(call, position=2, name="dim")


REPEAT = Operation(rules.same, repeated, counts.moved)
PAIRS = Operation(rules.average, follow=counts.moved)
MIXED = Operation(rules.analog, synapses=Synapses(at_rows))


def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@torch.no_grad()
def test_an_operation_is_added_from_outside_the_package():
    ann, x = net(), torch.rand(N, 6)
    with pytest.raises(SurgeryError, match=r"module (second|pairs): .* counts on the number"):
        spike(ann, example_input=x)
    for op, operation in ((torch.repeat_interleave, REPEAT), (Pairs, PAIRS), (Mixed, MIXED)):
        register(op, operation)
    relus = spike(ann, example_input=x, neuron=nn.ReLU(), timesteps=T)
    torch.testing.assert_close(relus(x)[-1], ann(x))
    check_costs(spike(ann, example_input=x, neuron=LIF(0.2), timesteps=T), x)


@torch.no_grad()
def test_whole_rows_may_be_given_for_one_call():
    x = torch.rand(N, 6)
    rows = {torch.repeat_interleave: REPEAT, Pairs: PAIRS, Mixed: MIXED}
    check_costs(spike(net(), example_input=x, neuron=LIF(0.2), timesteps=T, ops=rows), x)
    assert row(Mixed) is row(torch.repeat_interleave) is UNKNOWN


def check_costs(snn, x):
    """The spikes under the sums are counted, and steps are the sequence."""
    fired = []
    hook = snn.get_submodule("neuron_0").register_forward_hook(lambda _m, _x, y: fired.append(y))
    counter = OperationCounter(snn)
    counter.begin_batch(N)
    y_TNK = snn.run(x, observer=counter)
    hook.remove()
    first, second = counter.rows(Prices())
    assert (first.path, second.path, second.edge) == ("first", "second", "graded")
    spikes = float(fired[0].sum())
    assert spikes > 10
    assert second.snn_acs == pytest.approx(3 * spikes / N)  # each meets a weight of each output
    assert second.dense_macs == second.ann_macs == 4 * 3
    assert second.snn_macs == 0
    state, steps = None, []
    for _ in range(T):
        y_NK, state = snn.step(x, state)
        steps.append(y_NK)
    torch.testing.assert_close(torch.stack(steps), y_TNK)


class Fixed(nn.Module):
    """A norm of constants."""

    def forward(self, x):
        return 2 * x - 0.5 if len(x) else x


def constants(_norm):
    return torch.full((4,), 2.0), torch.full((4,), -0.5)


@torch.no_grad()
def test_a_norm_from_outside_folds_and_is_priced_where_it_cannot():
    register(Fixed, Operation(rules.analog, norm=ops.Norm(channels=constants, priced=True)))
    torch.manual_seed(0)
    hidden = nn.Linear(4, 4), Fixed(), nn.ReLU(), Fixed(), nn.Linear(4, 2)
    ann, x = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), *hidden).eval(), torch.rand(N, 6)
    snn = spike(ann, example_input=x, neuron=LIF(0.2), timesteps=T)
    energy = evaluate(snn, [(x, torch.zeros(N).long())]).energy
    assert energy.norm_pj == pytest.approx(T * 4 * 4.6)  # of the one behind the neuron
    folded = fold_norms(snn)
    called = [str(node.target) for node in folded.plan.graph.nodes if node.op == "call_module"]
    assert called == ["0", "1", "2", "4", "5", "6"]
    assert isinstance(folded.get_submodule("5"), ChannelAffine)
    torch.testing.assert_close(folded(x), snn(x))
    with pytest.raises(SurgeryError, match="module 5: this norm does not follow a convolution or"):
        spike(ann, example_input=x, norm="fold")


def test_the_check_of_a_row_from_outside_is_heeded():
    class Bad(nn.Module):
        def forward(self, x):
            return torch.repeat_interleave(F.relu(x), 1, 0)

    register(torch.repeat_interleave, REPEAT)
    with pytest.raises(
        SurgeryError, match="repeat_interleave in the network itself: works on axis 0, which"
    ):
        spike(Bad(), example_input=torch.rand(1, 6))


def test_an_activation_and_a_method_are_registered():
    class Net(nn.Module):
        def forward(self, x):
            return F.softsign(x).diff(dim=1)

    with pytest.raises(SurgeryError, match="softsign is not known"):
        spike(Net(), example_input=torch.rand(1, 6))
    register(F.softsign, Operation(activation=True))
    register("diff", Operation(rules.analog))
    snn = spike(Net(), example_input=torch.rand(1, 6))
    assert [path for path, _ in snn.neurons()] == ["neuron_0"]


@pytest.mark.parametrize(
    ("op", "operation", "message"),
    [
        (nn.ReLU, Operation(rules.same), r"ReLU has a row in the table already; for one call say"),
        ("flatten", Operation(rules.same), r"'flatten' has a row .* with spike\(..., ops=\{'flatt"),
        (
            nn.ReLU(),
            Operation(rules.same),
            r"ReLU\(\) is no operation; give a module type",
        ),
        (3, Operation(rules.same), "3 is no operation; give a module type, a function or the name"),
        (
            torch.repeat_interleave,
            Operation(),
            r"the row of repeat_interleave has no rule for the kind of its output; give one",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused(op, operation, message):
    with pytest.raises(LeanspikeError, match=message):
        register(op, operation)
    assert set(OPERATIONS.rows) == set(ROWS)


def test_a_kind_that_is_none_is_refused():
    message = "ops declares the kind 'spikes'; choose one of analog, graded, spike, same, or None"
    with pytest.raises(LeanspikeError, match=message):
        spike(nn.Sequential(nn.ReLU()), example_input=X[:1], ops={nn.ReLU: "spikes"})


# -- one table ---------------------------------------------------------------------------------

SOURCE = Path(leanspike.__file__).parent
NAMESPACES = {"nn": nn, "F": F, "torch": torch, "operator": operator}
BESIDE = {
    "graph/table.py": "the table",
    "graph/batch_first.py": "knows the one way in which attention moves the samples",
    "graph/tracer.py": "what makes tensors of sizes is recorded, which torch.fx does not do",
    "graph/value.py": "records x += y, which torch.fx does not",
    "graph/sizes.py": "which axis of a shape is read",
    "export/layers.py": "which primitives of NIR are which layers",
    "export/rules.py": "which layers NIR has primitives for",
    "export/traceable.py": "rewrites what PyTorch's exporter to ONNX cannot take",
    "export/onnx_model.py": "rewrites what PyTorch's exporter to ONNX cannot take",
    "execute/rate_pools.py": "how a max pool says what its windows are",
    "synapse/of_mean.py": "below the table: layers whose backward pass is of a mean",
    "bench/deployed.py": "folds norms of the ANN alone, as its deployment would",
    "bench/snn_rivals.py": "puts the neurons of another library in the place of a ReLU",
    "synapse/dense.py": "knows which kernel backends have faster in training",
    "synapse/onednn.py": "below the table: what oneDNN gets wrong in PyTorch's own classes",
    "models/parts.py": "how layers begin, before anything spikes",
    "models/vggs.py": "a network is built of layers",
    "train/whole_batch.py": "what draws at random or measures a batch does so for the whole batch",
    "bench/contenders.py": "puts the neurons of other libraries in the place of a ReLU",
}
"""Who may name operations of PyTorch other than to use them, and why."""


def named(tree: ast.Module) -> list[str]:
    """Operations with a row that are named, other than to call, to subclass, in a type, a graph."""
    used = set()
    for node in ast.walk(tree):
        parts = []
        if isinstance(node, ast.Call):
            recorded = ast.unparse(node.func).endswith(".call_function")
            parts += [node.func, *(node.args[:1] if recorded else ())]
        parts += node.bases if isinstance(node, ast.ClassDef) else []
        types = [getattr(node, name, None) for name in ("annotation", "returns")]
        parts += [part for whole in types if whole is not None for part in ast.walk(whole)]
        used |= set(parts)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            op = getattr(NAMESPACES.get(node.value.id), node.attr, None)
            if node not in used and op is not None and any(op is known for known in ROWS):
                found.append(ast.unparse(node))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch.nn"):
            theirs = [alias.name for alias in node.names]
            found += [name for name in theirs if getattr(nn, name, None) in LAYERS]
    return found


@pytest.mark.parametrize("path", [str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py")])
def test_nobody_keeps_a_list_of_operations_beside_the_table(path):
    found = named(ast.parse((SOURCE / path).read_text("utf-8")))
    assert bool(found) == (path in BESIDE), f"{path} names {found}; let it read rows instead"


def test_a_list_beside_the_table_is_noticed():
    code = (
        "from torch.nn import Linear\nNORMS = (nn.BatchNorm2d, nn.GroupNorm)\n"
        "def f(x: nn.Linear) -> nn.Module:\n    return isinstance(x, nn.Conv2d) or x is torch.cat\n"
        "class A(nn.ReLU): pass\nnet = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())\n"
        "graph.call_function(torch.sum, (x, 1))\n"
    )
    expected = ["Linear", "nn.BatchNorm2d", "nn.GroupNorm", "nn.Conv2d", "torch.cat"]
    assert sorted(named(ast.parse(code))) == sorted(expected)


def test_ops_hands_on_what_a_row_is_made_of():
    assert {"Operation", "Synapses", "Norm", "register", "row", "row_of"} <= set(ops.__all__)
