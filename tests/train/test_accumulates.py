"""The price on work: what it counts, against the evaluation and loops; its gradient by hand.

Shapes: T timesteps, N samples.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation.energy import OperationCounter
from leanspike.evaluation.prices import Prices
from leanspike.temporal import Frames
from leanspike.train import Accumulates, SpikeRate, Weighted

N, IMAGE = 3, (2, 6, 6)
LABELS = torch.tensor([0, 2, 1])


def price(snn: nn.Module, x: Tensor, work: Accumulates | None = None, **how: Any) -> Tensor:
    work = work or Accumulates()
    with work.watch(snn):
        y_TNK = snn(x, **how)
    return work(y_TNK, LABELS, x)


def spiking(ann: nn.Module, timesteps: int = 3, **how: Any) -> ls.SpikingNetwork:
    """In eval mode, so that no norm changes from run to run."""
    x = how.pop("example", torch.zeros(1, *IMAGE)).double()
    neuron = how.pop("neuron", ls.LIF(0.3, 0.9, learn=("threshold", "leak")))
    made = ls.spike(ann.double(), example_input=x, timesteps=timesteps, neuron=neuron, **how)
    made.doubts.uncalibrated = False
    return made.double().eval()


class Branches(nn.Module):
    """A sum of two branches, one of them pooled by a function, read by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.last = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu1(self.first(x))
        both = h + self.relu2(self.second(h))
        out: Tensor = self.last(F.avg_pool2d(both, 2).flatten(1)) + self.last(
            F.max_pool2d(h, 2).flatten(1)
        )
        return out


class Functional(nn.Module):
    """Weights that a function gets, zeros around an image, two layers side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.relu = nn.Parameter(torch.randn(3, 8, 3, 3)), nn.ReLU()
        self.first, self.second = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1)
        self.last = nn.Linear(27, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([F.relu(self.first(x)), self.relu(self.second(x))], 1)
        h = F.pad(h, (1, 1, 1, 1))
        out: Tensor = self.last(torch.relu(F.conv2d(h, self.weight, stride=2)).flatten(1))
        return out


class Windows(nn.Module):
    """Four windows of an image along the batch, for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.first(x)).reshape(-1, 4, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5)
        out: Tensor = self.second(h.reshape(-1, 4, 2, 2)).reshape(-1, 20)
        return out


def plain(*between: nn.Module, features: int) -> nn.Module:
    first = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU()
    return nn.Sequential(*first, *between, nn.Flatten(), nn.Linear(features, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(
        *(nn.Flatten(), nn.Linear(72, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3))
    ),
    "padding and stride": lambda: plain(
        nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU(), features=45
    ),
    "groups": lambda: plain(nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ReLU(), features=288),
    "depthwise": lambda: plain(
        *(nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU()), features=32
    ),
    "dilated": lambda: plain(nn.Conv2d(4, 2, 3, dilation=2, padding=1), nn.ReLU(), features=32),
    "transposed": lambda: plain(nn.ConvTranspose2d(4, 2, 3, stride=2), nn.ReLU(), features=338),
    "max pools": lambda: plain(
        *(nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        features=4,
    ),
    "average pools": lambda: plain(
        *(nn.AvgPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(2),
        features=16,
    ),
    "norms": lambda: plain(
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)), features=16
    ),
    "dropout": lambda: plain(nn.Dropout(0.5), nn.Conv2d(4, 4, 3), nn.ReLU(), features=64),
    "branches": Branches,
    "functional": Functional,
    "windows": Windows,
}


def counted(snn: ls.SpikingNetwork, x: Tensor) -> float:
    """As the evaluation has it."""
    rows = ls.evaluate(snn, [(x, LABELS)]).operations
    return sum(row.snn_acs for row in rows) / sum(row.ann_macs for row in rows)


def images(*shape: int) -> Tensor:
    made = torch.Generator().manual_seed(1)
    return torch.randn(N, *(shape or IMAGE), generator=made).double()


@pytest.mark.parametrize("timesteps", [1, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_work_is_that_of_the_evaluation(name: str, timesteps: int) -> None:
    torch.manual_seed(0)
    snn, x = spiking(NETWORKS[name](), timesteps), images()
    expected = counted(snn, x)
    assert 0.01 < expected < timesteps
    for gradient in ("bptt", "rate"):
        found = price(snn, x, gradient=gradient)
        assert found.item() == pytest.approx(expected, rel=1e-12)
        assert found.requires_grad
        assert price(deepcopy(snn).train(), x, gradient=gradient).item() > 0  # code of training


@pytest.mark.parametrize("how", [{"norm": "bntt"}, {"norm": "tebn"}, {"norm": "fold"}], ids=str)
@pytest.mark.parametrize("neuron", [{"height": "threshold"}, {"per": "channel"}], ids=str)
def test_kinds_of_norms_and_heights_change_nothing_in_it(how: Any, neuron: Any) -> None:
    torch.manual_seed(0)
    lif = ls.LIF(0.3, **{"height": "threshold", "learn": ("threshold",), **neuron})
    snn, x = spiking(NETWORKS["norms"](), neuron=lif, **how), images()
    for _, module in snn.neurons():
        module.threshold.data *= 1 + torch.rand_like(module.threshold)
    for gradient in ("bptt", "rate"):
        assert price(snn, x, gradient=gradient).item() == pytest.approx(counted(snn, x), rel=1e-12)


@pytest.mark.parametrize("encode", ["poisson", "frames"])
def test_spikes_of_the_input_count_too(encode: str) -> None:
    torch.manual_seed(0)
    ann = plain(nn.MaxPool2d(2), features=36)
    events = torch.randint(3, (4, N, *IMAGE)).double()
    if encode == "poisson":
        snn, x = spiking(ann, encode="poisson"), images()
    else:
        snn, x = spiking(ann, encode=Frames(counts=True), example=events[:, :1]), events
    torch.manual_seed(5)
    found, counter = price(snn, x), OperationCounter(snn)
    counter.begin_batch(N)
    torch.manual_seed(5)
    snn.run(x, observer=counter)
    rows = counter.rows(Prices())
    assert rows[0].snn_acs > 0
    expected = sum(row.snn_acs for row in rows) / sum(row.ann_macs for row in rows)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def additions(spikes: np.ndarray, layer: nn.Conv2d) -> int:
    """Additions of a convolution, one by one, for each spike ``[N, C, H, W]`` and each weight."""
    count, weights = 0, layer.weight.detach().numpy()
    for _, channel, row, column in np.argwhere(spikes):
        for out, _, i, j in np.ndindex(*weights.shape[:1], 1, *weights.shape[2:]):
            (down, left), rest = zip(
                *(
                    divmod(at + pad - tap, by)
                    for at, pad, tap, by in zip(
                        (row, column), layer.padding, (i, j), layer.stride, strict=True
                    )
                ),
                strict=True,
            )
            sizes = [
                (size + 2 * pad - tap) // by + 1
                for size, pad, tap, by in zip(
                    spikes.shape[2:], layer.padding, layer.kernel_size, layer.stride, strict=True
                )
            ]
            mine = channel * layer.groups // layer.in_channels == (
                out * layer.groups // layer.out_channels
            )
            inside = 0 <= down < sizes[0] and 0 <= left < sizes[1]
            count += not any(rest) and mine and inside
    return count


def test_the_work_by_loops_one_addition_after_another() -> None:
    """Image, 36·4·18 products less those with padding; neurons, max pool, stride 2, groups."""
    torch.manual_seed(3)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    ann = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), layer, nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24, 5)),
    )
    snn, x, entered = spiking(ann, 3), images(), dict[str, np.ndarray]()
    for path in ("2", "4"):
        snn.get_submodule(path).register_forward_hook(
            lambda _m, _x, y, path=path: entered.update({path: y.detach().numpy()})
        )
    snn(x)
    pooled, last = entered["2"], entered["4"]
    acs = additions(pooled, layer) + 5 * int(last.sum())
    assert int(pooled.sum()) > 50
    assert int(last.sum()) > 20
    macs = additions(np.ones((1, 2, 6, 6)), ann[0]) + additions(np.ones((1, 4, 3, 3)), layer) + 120
    assert macs < 36 * 4 * 18 + 4 * 6 * 18 + 120
    assert price(snn, x).item() == pytest.approx(acs / N / macs, rel=1e-12)


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("height", ["unit", "threshold"])
def test_the_gradient_by_hand(gradient: Any, height: Any) -> None:
    """dW/dw = weights met / MACs · 0.3·max(0, 1 − |z|)/v · x, with z = w·x/v − 1."""
    ann = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 5))
    neuron = ls.LIF(0.5, 1.0, height=height, learn=("threshold",))
    snn = spiking(ann, 1, neuron=neuron, example=torch.zeros(1, 1))
    weight = snn.get_submodule("0").weight
    assert isinstance(weight, nn.Parameter)
    with torch.no_grad():
        weight.copy_(torch.tensor([[1.0], [0.25]]))
    x = torch.tensor([[0.6], [0.9], [0.1]]).double()
    loss = price(snn, x, gradient=gradient)
    assert loss.item() == pytest.approx(2 * 5 / 12 / 3, rel=1e-12)  # 0.6 and 0.9 make one fire
    loss.backward()  # type: ignore[no-untyped-call]
    slopes = [[0.8, 0.2, 0.2], [0.3, 0.45, 0.05]]  # 1 − |2·w·x − 1|
    by_hand = [5 / 12 / 3 * sum(0.6 * s * v for s, v in zip(r, x, strict=True)) for r in slopes]
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == pytest.approx([float(v) for v in by_hand], rel=1e-6)
    threshold = snn.get_submodule("1").threshold
    assert isinstance(threshold, nn.Parameter)
    assert threshold.grad is not None
    pushed = -sum(2 * w * g for w, g in zip((1.0, 0.25), by_hand, strict=True))  # dz/dv = −u/v²
    assert threshold.grad.item() == pytest.approx(float(pushed), rel=1e-6)


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
def test_behind_a_max_pool_the_spike_that_passes_has_the_gradient(gradient: Any) -> None:
    ann = nn.Sequential(
        *(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1, 5)),
    )
    snn = spiking(ann, 1, neuron=ls.LIF(0.5, 1.0), example=torch.zeros(1, 1, 2, 2))
    weight = snn.get_submodule("0").weight
    assert isinstance(weight, nn.Parameter)
    nn.init.ones_(weight)
    x = torch.tensor([[[[0.2, 0.9], [0.6, 0.4]]]]).double()  # two fire, one spike comes through
    loss = price(snn, x, gradient=gradient)
    assert loss.item() == pytest.approx(5 / 9, rel=1e-12)
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(5 / 9 * 0.6 * 0.2 * 0.9, rel=1e-6)


@pytest.mark.parametrize("height", ["unit", "threshold"])
def test_rate_gradients_are_exact_for_the_first_layer_at_any_t(height: Any) -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Flatten(), nn.Linear(72, 9), nn.ReLU(), nn.Linear(9, 3))
    neuron = ls.LIF(0.3, 0.8, height=height, learn=("threshold", "leak"))
    snn, x, found = spiking(ann, 4, neuron=neuron), images(), []
    for gradient in ("bptt", "rate"):
        snn.zero_grad()
        price(snn, x, gradient=gradient).backward()  # type: ignore[no-untyped-call]
        found.append({name: p.grad for name, p in snn.named_parameters() if p.grad is not None})
    assert found[0]["2.threshold"].item() < -1e-3
    for name in ("1.weight", "1.bias", "2.threshold", "2.leak"):
        torch.testing.assert_close(found[1][name], found[0][name])


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)], ids=["max", "average"])
def test_the_height_of_spikes_changes_no_push_on_thresholds(pool: nn.Module, gradient: Any) -> None:
    """The last layer of neurons: heights change what later ones get."""
    pushes = []
    for height in ("unit", "threshold"):
        torch.manual_seed(0)
        neuron = ls.LIF(0.3, learn=("threshold",), height=height)  # type: ignore[arg-type]
        snn, x = spiking(plain(pool, features=36), neuron=neuron), images()
        price(snn, x, gradient=gradient).backward()  # type: ignore[no-untyped-call]
        grad = snn.get_submodule("1").threshold.grad
        assert isinstance(grad, Tensor)
        pushes.append(grad.item())
    assert pushes[0] < -1e-3
    assert pushes[1] == pytest.approx(pushes[0], rel=1e-9)


@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("height", ["unit", "threshold"])
def test_bf16_counts_what_it_computes(gradient: Any, height: Any) -> None:
    """Spikes are exact in bf16 if they are divided by the height that they have there."""
    torch.manual_seed(0)
    neuron = ls.LIF(0.3, learn=("threshold",), height=height)
    snn, x, spikes = spiking(NETWORKS["linear"](), neuron=neuron).float(), images().float(), []
    for path in ("2", "4"):
        snn.get_submodule(path).register_forward_hook(
            lambda _m, _x, o: spikes.append((o.detach() != 0).sum().item())
        )
    with torch.autocast("cpu", torch.bfloat16):
        found = price(snn, x, gradient=gradient)
    macs = 72 * 9 + 9 * 5 + 5 * 3
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx((5 * spikes[0] + 3 * spikes[1]) / N / macs, rel=1e-6)
    found.backward()  # type: ignore[no-untyped-call]
    assert isinstance(snn.get_submodule("1").weight.grad, Tensor)


def trained(work: Accumulates, steps: int = 14) -> list[float]:
    torch.manual_seed(0)
    snn, x = spiking(NETWORKS["average pools"]()), images()
    optimizer, found = torch.optim.SGD(snn.parameters(), lr=0.05), [counted(snn, x)]
    for _ in range(steps):
        optimizer.zero_grad()
        price(snn, x, work, gradient="rate").backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        snn.keep_in_range()
    return [*found, counted(snn, x)]


def test_training_lowers_the_work_and_a_target_holds_it() -> None:
    before, after = trained(Accumulates())
    assert after < before / 4
    _, held = trained(Accumulates(target=before / 2))
    assert 0.45 * before < held <= 0.5 * before


def test_the_excess_over_a_target_is_relative_and_below_it_nothing_is_pushed() -> None:
    torch.manual_seed(0)
    snn, x = spiking(NETWORKS["linear"]()), images()
    work = price(snn, x)
    assert price(snn, x, Accumulates(work.item() / 1.5)).item() == pytest.approx(0.5, rel=1e-9)
    below = price(snn, x, Accumulates(work.item() * 1.01))
    assert below.item() == 0
    below.backward()  # type: ignore[no-untyped-call]
    grads = [p.grad for p in snn.parameters() if p.grad is not None]
    assert grads
    assert not any(grad.any() for grad in grads)


def test_micro_batches_add_up_to_the_whole() -> None:
    torch.manual_seed(0)
    snn, x, work = spiking(NETWORKS["max pools"]()), images(), Accumulates()
    parts = [price(snn, x[some], work) * len(x[some]) / N for some in (slice(1), slice(1, N))]
    whole = torch.stack(parts).sum().item()
    assert whole == pytest.approx(price(snn, x, work).item(), rel=1e-12)


def test_looking_changes_nothing() -> None:
    """Not the answers, nor statistics, modes, random numbers, and not what others count."""
    torch.manual_seed(0)
    snn, x = spiking(NETWORKS["norms"]()).train(), images()
    other, rate = deepcopy(snn), SpikeRate()
    with rate.watch(other):
        expected = other(x)
    alone = rate(expected, LABELS, x)
    drawn, modes = torch.get_rng_state(), [module.training for module in snn.modules()]
    both = Weighted([(1.0, SpikeRate()), (1.0, Accumulates()), (1.0, Accumulates(1e-3))])
    with both.watch(snn):
        assert [module.training for module in snn.modules()] == modes
        y_TNK = snn(x)
    assert torch.equal(y_TNK, expected)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(map(torch.equal, snn.buffers(), other.buffers()))
    first, second, third = (term(y_TNK, LABELS, x) for term in both.objectives)
    assert first.item() == alone.item()
    assert third.item() == pytest.approx(second.item() / 1e-3 - 1)


class Chosen(nn.Module):
    """Entries of a sum of spikes, chosen by what the network computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(3, 3)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        both = self.relu1(self.first(x)) + self.relu2(self.second(x))
        out: Tensor = self.last(torch.gather(both, 1, x.argsort(1)[:, :3]))
        return out


class Larger(Chosen):
    """The larger spikes of pairs, from two layers of neurons."""

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.relu1(self.first(x)), self.relu2(self.second(x))], 2)
        out: Tensor = self.last(torch.amax(both, 2)[:, :3])
        return out


class Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)


class Unseen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() @ self.weight.detach().numpy())


def layers(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), *between, nn.Linear(6, 3))


THRESHOLD = {"neuron": ls.LIF(0.3, height="threshold", learn=("threshold",))}
PER_NEURON = {"neuron": ls.LIF(0.3, height="threshold", per="neuron", learn=("threshold",))}
REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "chosen": (Chosen, {}, "gather.*: another signal chooses which spikes are added up"),
    "heights": (Larger, THRESHOLD, "stack: spikes of several heights enter"),
    "declared": (lambda: layers(Own()), {"ops": {Own: "spike"}}, "2: it is declared to give"),
    "unseen": (
        lambda: layers(Unseen(), nn.ReLU()),
        {"ops": {Unseen: "analog"}},
        "module 2: what a Unseen computes is not counted",
    ),
    "nothing": (lambda: layers(nn.BatchNorm1d(6)), {}, "no spikes enter a layer with weights"),
    "pool": (
        lambda: nn.Sequential(
            *(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 1), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Conv1d(2, 3, 2), nn.Flatten()),
        ),
        PER_NEURON,
        "3: spikes of neurons 2 have several heights",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_counted_is_refused_by_its_path_and_the_advice_works(name: str) -> None:
    make, how, message = REFUSED[name]
    torch.manual_seed(0)
    x = torch.rand(N, 4).double()
    snn = spiking(make(), example=x[:1], **how)
    with pytest.raises(LeanspikeError, match=message) as refusal:
        price(snn, x)
    assert str(refusal.value).endswith("; take spike_rate in the place of accumulates")
    rate = SpikeRate()
    with rate.watch(snn):
        y_TNK = snn(x)
    assert rate(y_TNK, LABELS, x).item() >= 0


@pytest.mark.parametrize(("make", "seed"), [(Larger, 0), (REFUSED["pool"][0], 1)])
def test_heights_that_stay_equal_may_meet(make: Callable[[], nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(N, 4).double()
    neuron = ls.LIF(0.02, height="threshold", per="neuron", learn=())
    snn = spiking(make(), example=x[:1], neuron=neuron)
    expected = counted(snn, x)
    assert expected > 0
    assert price(snn, x).item() == pytest.approx(expected, rel=1e-12)


def test_it_says_what_it_needs() -> None:
    with pytest.raises(LeanspikeError, match=r"target is 0; give a number above 0, or None"):
        Accumulates(target=0)
    with pytest.raises(LeanspikeError, match=r"inside watch\(network\) before each loss"):
        Accumulates()(torch.zeros(3, N, 2), LABELS, torch.zeros(N, 4))
    with pytest.raises(LeanspikeError, match="leave them out for the ANN"):
        price(nn.Linear(4, 2), torch.zeros(N, 4))
    snn = ls.spike(layers(), example_input=torch.zeros(1, 4), neuron=nn.ReLU())
    with pytest.raises(LeanspikeError, match="neurons 1: a ReLU emits no spikes, so nothing tells"):
        price(snn, torch.zeros(N, 4))
