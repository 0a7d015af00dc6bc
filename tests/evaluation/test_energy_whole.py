"""Nothing is left out of the energy: graded signals, norms, products, what is inside a module.

What is expected is derived anew: from Jacobians of the operations themselves, from PyTorch's own
counter of floating-point operations, and from enumerated weights.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import leanspike as ls
from leanspike.evaluation.energy import OperationCounter
from leanspike.evaluation.inside import look_inside
from leanspike.evaluation.prices import Prices
from leanspike.evaluation.result import Result
from leanspike.report.cost import not_counted

T, N = 3, 2
L1, L2, L3 = (2, 8), (2, 6, 5), (2, 4, 4, 4)


class Body(nn.Module):
    """A layer that keeps shapes, a ReLU, what is to be counted, and a layer that reads it."""

    def __init__(self, op, sample, before=None):
        super().__init__()
        torch.manual_seed(0)
        conv = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}[len(sample)]
        self.first = before or conv(sample[0], sample[0], 1)
        if before is None:
            nn.init.uniform_(self.first.weight, 0.1, 0.5)
        self.relu = nn.ReLU()
        self.op = op
        with torch.no_grad():
            width = op(torch.zeros(1, *sample)).flatten(1).shape[1]
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.op(self.relu(self.first(x))).flatten(1))


def counted(ann, x, **options):
    """The rows by path, and the spikes of the neurons as they were, ``[T*N, ...]``."""
    options = {"timesteps": T, "neuron": ls.LIF(0.2), **options}
    snn = ls.spike(ann.eval(), example_input=x[:1], **options)
    fired: list[Tensor] = []
    _, neuron = next(snn.neurons())
    neuron.register_forward_hook(lambda _m, _x, y: fired.append(y.flatten(0, 1)))
    counter = OperationCounter(snn)
    counter.begin_batch(len(x))
    snn.run(x, observer=counter)
    return {row.path: row for row in counter.rows(Prices())}, fired[0]


def accumulates_by_jacobian(op, spikes):
    """Each spike meets a weight of each of 3 outputs for each entry that it is part of."""
    total = 0.0
    for sample in spikes:
        jacobian = torch.autograd.functional.jacobian(lambda x: op(x[None])[0].flatten(), sample)
        total += 3 * float(((jacobian != 0).double() * (sample != 0)).sum())
    return total / N


GRADED = {
    "AvgPool1d": (nn.AvgPool1d(3, 2, 1), L1),
    "AvgPool1d, ceil": (nn.AvgPool1d(3, ceil_mode=True), L1),
    "F.avg_pool1d": (lambda x: F.avg_pool1d(x, 2, stride=1), L1),
    "AvgPool3d": (nn.AvgPool3d((2, 1, 3), padding=(1, 0, 1)), L3),
    "F.avg_pool3d": (lambda x: F.avg_pool3d(x, kernel_size=2), L3),
    "F.avg_pool2d by keyword": (lambda x: F.avg_pool2d(input=x, kernel_size=(2, 1)), L2),
    "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d(3), L1),
    "AdaptiveAvgPool3d": (nn.AdaptiveAvgPool3d((3, 1, 2)), L3),
    "F.adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 5), L1),
    "linear": (nn.Upsample(scale_factor=2, mode="linear"), L1),
    "bilinear": (nn.Upsample(scale_factor=(2, 3), mode="bilinear"), L2),
    "bilinear, aligned": (nn.Upsample(size=(9, 4), mode="bilinear", align_corners=True), L2),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"), L2),
    "trilinear": (lambda x: F.interpolate(x, (3, 6, 4), mode="trilinear"), L3),
    "antialias": (lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True), L2),
    "area": (lambda x: F.interpolate(x, (4, 2), mode="area"), L2),
    "twice": (lambda x: 2 * x, L1),
    "y + y": (lambda x: x + x, L1),
    "builtin sum": (lambda x: sum([x, x]), L1),
    "negative, divided": (lambda x: -x / 3, L1),
    "fixed weights, some 0": (lambda x: x * torch.tensor([[0.0], [2.5]]), L1),
    "two axes of means": (lambda x: x.mean((2, 3)), L2),
    "stacked, added up": (lambda x: torch.stack([x, x.flip(2)], 1).sum(1), L1),
    "Fold": (nn.Fold((3, 2), (2, 2)), (4, 2)),
    "Unfold of a pool": (nn.Sequential(nn.AvgPool2d(2), nn.Unfold(2)), L2),
}


@pytest.mark.parametrize("case", GRADED)
def test_graded_signals_cost_what_the_spikes_underneath_cost(case: str) -> None:
    op, sample = GRADED[case]
    ann = Body(op, sample)
    rows, spikes = counted(ann, torch.rand(N, *sample))
    assert rows["last"].edge == "graded"
    assert spikes.sum() > 5
    assert rows["last"].snn_macs == 0
    expected = accumulates_by_jacobian(op, spikes)
    if (
        case == "stacked, added up"
    ):  # the middle of a flip would be met by two, and both are charged
        expected = 3 * 2 * float((spikes != 0).sum()) / N
    assert rows["last"].snn_acs == pytest.approx(expected)


class Padded(nn.Module):
    """Convolutions of images that are padded by an operation of its own."""

    def __init__(self, pad, padding=0):
        super().__init__()
        torch.manual_seed(0)
        self.pad, self.act = pad, nn.ReLU()
        self.first, self.conv = (nn.Conv2d(2, 2, 3, padding=padding) for _ in range(2))

    def forward(self, x):
        return self.conv(self.pad(self.act(self.first(self.pad(x)))))


@pytest.mark.parametrize(
    "pad",
    [
        nn.ZeroPad2d(1),
        nn.ConstantPad2d(1, 0.0),
        lambda x: F.pad(x, (1, 1, 1, 1)),
        lambda x: F.pad(F.pad(x, (1, 1)), (0, 0, 1, 1)),
    ],
)
def test_zeros_of_an_operation_are_padding_as_those_of_a_layer(pad) -> None:
    x = torch.rand(N, *L2)
    layers, _ = counted(Padded(nn.Identity(), padding=1), x)
    found, _ = counted(Padded(pad), x)
    assert {path: row.ann_macs for path, row in found.items()} == {
        path: row.ann_macs for path, row in layers.items()
    }
    assert found["first"].snn_macs == layers["first"].snn_macs
    assert found["conv"].snn_acs == layers["conv"].snn_acs > 0


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_entries_that_padding_repeats_are_multiplied(mode: str) -> None:
    rows, _ = counted(Padded(lambda x: F.pad(x, (1, 1, 1, 1), mode=mode)), torch.rand(N, *L2))
    assert rows["first"].ann_macs == rows["first"].dense_macs == 2 * 2 * 9 * 6 * 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x + x, lambda x: 2 * x),
        (lambda x: sum([x, x]), lambda x: x * 2.0),
        (lambda x: torch.add(x, x[:, :], alpha=3), lambda x: x + 3 * x[:, :]),
        (lambda x: x - x.flip(2), lambda x: x + x.flip(2)),
        (nn.AvgPool1d(2), lambda x: F.avg_pool2d(x.unsqueeze(2), (1, 2)).squeeze(2)),
        (nn.AvgPool1d(2), lambda x: x.unflatten(2, (-1, 2)).mean(3)),
    ],
)
def test_equal_functions_cost_the_same(one, other):
    x = torch.rand(N, *L1)
    energies = []
    for op in (one, other):
        snn = ls.spike(Body(op, L1).eval(), example_input=x[:1], timesteps=T, neuron=ls.LIF(0.2))
        energies.append(ls.evaluate(snn, [(x, torch.zeros(N).long())]).energy)
    assert energies[0].ratio == pytest.approx(energies[1].ratio)


def test_spikes_of_the_input_are_followed_through_a_pool():
    ann = nn.Sequential(nn.AvgPool1d(2), nn.Flatten(), nn.Linear(8, 3), nn.ReLU())
    snn = ls.spike(ann.eval(), example_input=torch.rand(1, 2, 8), encode="poisson", timesteps=T)
    counter = OperationCounter(snn)
    counter.begin_batch(N)
    entered: list[Tensor] = []
    snn.get_submodule("0").register_forward_hook(lambda _m, x, _y: entered.append(x[0]))
    snn.run(torch.ones(N, 2, 8), observer=counter)
    (row,) = counter.rows(Prices())
    assert (row.edge, row.snn_macs) == ("graded", 0)
    assert row.snn_acs == 3 * float((entered[0] != 0).sum()) / N > 0


class Halved(nn.Module):
    def forward(self, x):
        return torch.lerp(x, x.flip(2), 0.5)


def test_a_graded_edge_whose_spikes_are_not_known_says_that_it_multiplies():
    ann = Body(Halved(), L1)
    rows, _ = counted(ann, torch.rand(N, *L1), ops={Halved: "graded"})
    assert rows["last"].edge == "graded, multiplied"
    assert rows["last"].snn_macs == T * rows["last"].ann_macs
    assert rows["last"].spike_rate is None


# -- weights that a function is given ----------------------------------------------------------


class Bare(nn.Module):
    """Weights without a module of their own."""

    def __init__(self, use, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(shape))
        self.use = use

    def forward(self, x):
        return self.use(x, self.weight)


@pytest.mark.parametrize(
    ("use", "shape", "module"),
    [
        (F.linear, (5, 8), nn.Linear(8, 5, bias=False)),
        (lambda x, w: x @ w.T, (5, 8), nn.Linear(8, 5, bias=False)),
        (lambda x, w: torch.matmul(x, w.transpose(0, 1)), (5, 8), nn.Linear(8, 5, bias=False)),
        (lambda x, w: torch.einsum("ncl,kl->nck", x, w), (5, 8), nn.Linear(8, 5, bias=False)),
        (F.conv1d, (4, 2, 3), nn.Conv1d(2, 4, 3, bias=False)),
        (
            lambda x, w: F.conv1d(x, w / w.sum((1, 2), keepdim=True), None, 2, 1),
            (4, 2, 3),
            nn.Conv1d(2, 4, 3, 2, 1, bias=False),
        ),
        (
            lambda x, w: F.conv_transpose1d(x, w, stride=2),
            (2, 4, 3),
            nn.ConvTranspose1d(2, 4, 3, 2, bias=False),
        ),
    ],
)
def test_bare_weights_cost_what_those_of_a_module_cost(use, shape, module):
    x = torch.rand(N, *L1)
    bare, _ = counted(Body(Bare(use, *shape), L1), x)
    whole, _ = counted(Body(module, L1), x)
    mine = next(row for path, row in bare.items() if path.startswith("op."))
    theirs = whole["op"]
    assert theirs.snn_acs > 0
    for field in ("edge", "static", "dense_macs", "ann_macs", "snn_macs", "snn_acs", "snn_pj"):
        assert getattr(mine, field) == getattr(theirs, field), field


class Standardised(nn.Conv2d):
    """Its forward would make nothing of weights that are all alike."""

    def forward(self, x):
        if x.shape[1] != self.in_channels:
            raise ValueError("channels")
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def test_a_layer_with_a_forward_of_its_own_is_counted_as_its_base():
    x = torch.rand(N, *L2)
    mine, _ = counted(Body(Standardised(2, 3, 3, padding=1), L2), x, ops={Standardised: "analog"})
    plain, _ = counted(Body(nn.Conv2d(2, 3, 3, padding=1), L2), x)
    assert mine["op"].snn_acs == plain["op"].snn_acs > 0
    assert mine["op"].ann_macs == plain["op"].ann_macs


# -- norms -------------------------------------------------------------------------------------

ENTRIES = 2 * 6 * 5


@pytest.mark.parametrize(
    ("norm", "macs", "acs"),
    [
        (nn.BatchNorm2d(2), 0, 0),
        (nn.SyncBatchNorm(2), 0, 0),
        (nn.GroupNorm(1, 2), 2, 1),
        (lambda x: F.group_norm(x, 2), 2, 1),
        (nn.InstanceNorm2d(2), 2, 1),
        (nn.InstanceNorm2d(2, track_running_stats=True), 1, 0),
        (lambda x: F.instance_norm(x), 2, 1),
        (nn.LayerNorm((6, 5)), 3, 1),
        (nn.LayerNorm((6, 5), elementwise_affine=False), 2, 1),
        (lambda x: F.layer_norm(x, (5,)), 2, 1),
        (nn.RMSNorm(5), 3, 0),
        (lambda x: F.rms_norm(x, (5,)), 2, 0),
        (nn.LocalResponseNorm(2), 3, 2),
        (lambda x: F.normalize(x, dim=1), 2, 0),
    ],
)
def test_norms_that_do_not_fold_are_priced_at_each_step(norm, macs, acs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)
            self.norm = norm

        def forward(self, x):
            return F.relu(self.norm(self.second(F.relu(self.first(x))))).flatten(1)

    x = torch.rand(N, 3, 6, 5)
    snn = ls.spike(Net().eval(), example_input=x[:1], timesteps=T, norm="keep", neuron=ls.LIF(0.2))
    energy = ls.evaluate(snn, [(x, torch.zeros(N).long())]).energy
    of_one = ENTRIES * (macs * 4.6 + acs * 0.9)
    assert energy.norm_pj == pytest.approx(T * of_one)
    assert energy.ann_norm_pj == pytest.approx(of_one)


def test_a_norm_before_the_first_neuron_is_priced_once():
    ann = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4), nn.ReLU()).eval()
    snn = ls.spike(ann, example_input=torch.rand(1, 8), timesteps=T)
    energy = ls.evaluate(snn, [(torch.rand(N, 8), torch.zeros(N).long())]).energy
    assert energy.norm_pj == energy.ann_norm_pj == pytest.approx(8 * (3 * 4.6 + 0.9))


# -- products ----------------------------------------------------------------------------------


class Attention(nn.Module):
    """Two heads, with a class token, as code writes it: a product of two signals twice."""

    def __init__(self, multiply):
        super().__init__()
        self.embed, self.act = nn.Linear(6, 8), nn.ReLU()
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.qkv, self.out = nn.Linear(8, 24, bias=False), nn.Linear(8, 3)
        self.multiply = multiply

    def forward(self, x):
        n = x.shape[0]
        x = self.act(self.embed(x))
        x = torch.cat([self.token.expand(n, -1, -1), x], 1)
        length = x.shape[1]
        q, k, v = self.qkv(x).reshape(n, length, 3, 2, 4).permute(0, 2, 3, 1, 4).unbind(1)
        y = self.multiply(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, length, 8).mean(1))


def by_matmul(q, k, v):
    return torch.softmax(q @ k.transpose(-2, -1) / 2, -1) @ v


def by_einsum(q, k, v):
    return torch.einsum("nhij,nhjd->nhid", torch.einsum("nhid,nhjd->nhij", q, k).softmax(-1), v)


@pytest.mark.parametrize("multiply", [by_matmul, by_einsum, F.scaled_dot_product_attention])
def test_attention_is_counted_as_multiply_accumulates_at_each_step(multiply):
    torch.manual_seed(0)
    ann, x = Attention(multiply).eval(), torch.rand(N, 5, 6)
    relus = ls.spike(ann, example_input=x[:1], timesteps=T, neuron=nn.ReLU())
    for y in relus(x):
        torch.testing.assert_close(y, ann(x))
    snn = ls.spike(ann, example_input=x[:1], timesteps=T, neuron=ls.LIF(0.2))
    rows = ls.evaluate(copy.deepcopy(snn), [(x, torch.zeros(N).long())]).operations
    products = [row for row in rows if row.edge == "product"]
    length, heads, features = 6, 2, 4
    both = 2 * heads * length * length * features  # q·k and a·v
    assert sum(row.ann_macs for row in products) == both
    assert sum(row.snn_macs for row in products) == T * both
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
        ann(x[:1])
    assert sum(row.ann_macs for row in rows) == flops.get_total_flops() / 2


@pytest.mark.parametrize(
    "gate",
    [
        lambda x, y: x * y,
        lambda x, y: torch.mul(x, y),
        lambda x, y: x / (1 + y),
        lambda x, y: x * (y - x),
    ],
)
def test_gates_cost_a_multiplication_for_each_entry(gate):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(8, 5)

        def forward(self, x):
            x = F.relu(self.first(x))
            return gate(self.a(x), torch.sigmoid(self.b(x)))

    rows, _ = counted(Net(), torch.rand(N, 4), ops={torch.sigmoid: "analog"})
    (product,) = [row for row in rows.values() if row.edge == "product"]
    assert (product.ann_macs, product.snn_macs, product.snn_acs) == (5, T * 5, 0)


def test_a_product_is_in_the_energy_and_not_in_the_papers_formulas():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 5)

        def forward(self, x):
            y = self.last(F.relu(self.first(x)))
            return y * y if self.squares else y

    torch.manual_seed(0)
    ann, x = Net().eval(), torch.rand(N, 4)
    found = {}
    for ann.squares in (False, True):
        snn = ls.spike(ann, example_input=x[:1], timesteps=T, neuron=ls.LIF(0.2))
        found[ann.squares] = ls.evaluate(snn, [(x, torch.zeros(N).long())]).energy
    assert found[True].snn_pj == pytest.approx(found[False].snn_pj + T * 5 * 4.6)
    assert found[True].ann_pj == pytest.approx(found[False].ann_pj + 5 * 4.6)
    assert found[True].formula_ratio == found[False].formula_ratio
    assert found[True].bntt_formula_ratio == found[False].bntt_formula_ratio


# -- what is inside ----------------------------------------------------------------------------


class Half(nn.Module):
    """A branch on the shape, which no tracer can see through."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, x):
        return self.body(x) if x.shape[1] == 2 else x


def test_what_is_inside_a_declared_module_is_counted():
    x = torch.rand(N, *L2)
    rows, _ = counted(Body(Half(), L2), x, ops={Half: "analog"})
    bare, _ = counted(Body(Half().body, L2), x)
    row = rows["op"]
    assert row.edge == "inside"
    assert row.ann_macs == bare["op.0"].ann_macs + bare["op.2"].ann_macs
    assert row.snn_macs == T * row.ann_macs
    assert row.ann_pj == pytest.approx(4.6 * row.ann_macs)
    once, _ = counted(Body(nn.Identity(), L2, before=Half()), x, ops={Half: "analog"})
    assert once["first"].static
    assert once["first"].snn_macs == once["first"].ann_macs == row.ann_macs


class Quantised(nn.Module):
    """Work that leaves PyTorch, whose arithmetic nobody can see; and some that does not."""

    def __init__(self):
        super().__init__()
        self.seen, self.hidden = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)

    def forward(self, x):
        x = self.seen(x)
        product = x.detach().numpy() @ self.hidden.weight.detach().numpy().T
        return torch.as_tensor(product)


def test_what_cannot_be_counted_is_named_with_its_share_of_the_weights():
    ann = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), Quantised(), nn.ReLU(), nn.Linear(8, 8)).eval()
    x = torch.rand(N, 8)
    snn = ls.spike(ann, example_input=x[:1], timesteps=T, ops={Quantised: "analog"})
    result = ls.evaluate(snn, [(x, torch.zeros(N).long())])
    (left,) = result.uncounted
    assert (left.path, left.kind, left.share) == ("2", "Quantised", 0.25)
    assert {row.path: row.ann_macs for row in result.operations} == {"0": 64, "2": 64, "4": 64}
    assert Result.model_validate_json(result.model_dump_json()).uncounted == result.uncounted
    older = result.model_dump(exclude={"uncounted"})
    assert Result.model_validate(older).uncounted == ()


class Works(nn.Module):
    """A function without weights."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "macs", "acs"),
    [
        (lambda x: x**2, 1, 0),
        (lambda x: x.square_(), 1, 0),
        (lambda x: x * x, 1, 0),
        (lambda x: x * 2, 0, 0),
        (lambda x: torch.addcmul(x, x, x), 1, 0),
        (lambda x: torch.addcmul(x, x, torch.ones(L2)), 0, 0),
        (lambda x: torch.lerp(torch.ones(L2), x, x.sigmoid()), 1, 0),
        (lambda x: torch.lerp(x, x.flip(1), torch.ones(L2)), 0, 0),
        (F.instance_norm, 2, 1),  # as the row of the table says
        (lambda x: F.normalize(x), 2, 0),
        (lambda x: x - x.var((1, 2, 3), keepdim=True), 1, 1),
        (lambda x: F.batch_norm(x, torch.zeros(2), torch.ones(2)), 0, 0),  # folds
    ],
)
def test_squares_and_statistics_inside_are_counted_as_outside(function, macs, acs):
    x = torch.rand(1, *L2)
    inside = look_inside(lambda: function(x), [x], {})
    assert (inside.cost.macs, inside.cost.acs) == (macs * x.numel(), acs * x.numel())
    assert not inside.unseen


def test_work_without_weights_that_leaves_pytorch_is_named():
    def rooted(x):
        return torch.as_tensor(x.detach().numpy() ** 0.5)

    ann = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), Works(rooted), nn.ReLU(), nn.Linear(8, 8))
    x = torch.rand(N, 8)
    snn = ls.spike(ann.eval(), example_input=x[:1], timesteps=T, ops={Works: "analog"})
    result = ls.evaluate(snn, [(x, torch.zeros(N).long())])
    assert [(left.path, left.kind, left.share) for left in result.uncounted] == [("2", "Works", 0)]
    assert not_counted(result) == (
        "not counted: 2 (Works), whose work leaves PyTorch; operations and energy are without it, "
        "in the ANN and the SNN"
    )


def test_nothing_is_named_where_all_is_counted():
    x = torch.rand(N, *L2)
    snn = ls.spike(Body(Half(), L2).eval(), example_input=x[:1], ops={Half: "analog"})
    assert ls.evaluate(snn, [(x, torch.zeros(N).long())]).uncounted == ()


def test_attention_of_pytorch_is_counted_inside():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = F.relu(self.first(x))
            return self.attention(x, x, x, need_weights=False)[0].mean(1)

    rows, _ = counted(Net(), torch.rand(N, 5, 6))
    row = rows["attention"]
    assert row.ann_macs == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8
    assert row.snn_macs == T * row.ann_macs
    assert row.edge == "inside"


def test_a_function_that_is_declared_is_counted_inside():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.weight = nn.Linear(4, 8), nn.Parameter(torch.rand(3, 8, 8))

        def forward(self, x):
            x = F.relu(self.first(x))
            return F.bilinear(x, x, self.weight)

    snn = ls.spike(
        Net().eval(), example_input=torch.rand(1, 4), timesteps=T, ops={F.bilinear: "analog"}
    )
    result = ls.evaluate(snn, [(torch.rand(N, 4), torch.zeros(N).long())])
    found = {row.path: row for row in result.operations}
    counted_or_named = "bilinear" in found or [part.path for part in result.uncounted]
    assert counted_or_named
    if "bilinear" in found:
        assert found["bilinear"].ann_macs >= 3 * 8 * 8
    else:
        assert result.uncounted[0].share == pytest.approx(192 / (32 + 192))


def test_operators_hold_their_place_in_a_copy():
    ann, x = Attention(by_matmul).eval(), torch.rand(N, 5, 6)
    snn = ls.spike(ann, example_input=x[:1], timesteps=T)
    paths = [row.path for row in ls.evaluate(snn, [(x, torch.zeros(N).long())]).operations]
    assert "matmul_0" in paths
    again = ls.evaluate(copy.deepcopy(snn), [(x, torch.zeros(N).long())])
    assert [row.path for row in again.operations] == paths
