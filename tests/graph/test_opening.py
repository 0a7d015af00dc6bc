"""A layer with a forward of its own is opened: the layer at its path, the user's code around it."""

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.evaluation import OperationCounter, Prices
from leanspike.graph.modules import submodule
from leanspike.graph.opening import opened_as
from leanspike.graph.ops import row
from leanspike.lower.folding import fold_norms

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class NormAct(nn.BatchNorm2d):
    """A batch norm and its activation in one, as timm's BatchNormAct2d."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3)
        self.drop = nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        torch._assert(x.ndim == 4, "expected 4D input")
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        tracks = not self.training or self.track_running_stats
        x = F.batch_norm(
            x,
            self.running_mean if tracks else None,
            self.running_var if tracks else None,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return self.act(self.drop(x))


class Padded(nn.Conv2d):
    def forward(self, x):
        x = F.pad(x, (0, 1, 0, 1))
        return F.conv2d(x, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


class Scaled(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm1 = NormAct(4)
        self.conv = Padded(4, 4, 2)
        self.norm2 = NormAct(4)
        self.head = Scaled(4, 5)

    def forward(self, x):
        x = self.norm2(self.conv(self.norm1(self.stem(x))))
        return self.head(x.mean((2, 3)))


def network():
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(8, 3, 8, 8) - 0.3)
    return net.eval()


@pytest.mark.parametrize("norm", ["keep", "fold"])
def test_it_answers_as_the_network_does(norm):
    ann = network()
    snn = ls.spike(ann, example_input=IMAGES[:1], neuron=nn.ReLU(), norm=norm, timesteps=2)
    assert [path for path, _ in snn.neurons()] == ["norm1.act", "norm2.act"]
    for y in snn(IMAGES):
        torch.testing.assert_close(y, ann(IMAGES))


def test_in_training_mode_too_and_the_network_itself_is_left_as_it_was():
    ann = network().train()
    before = {key: value.clone() for key, value in ann.state_dict().items()}
    snn = ls.spike(ann, example_input=IMAGES, neuron=nn.ReLU(), norm="keep", timesteps=1)
    torch.testing.assert_close(snn.state_dict(), before)
    torch.testing.assert_close(ann.state_dict(), before)
    torch.testing.assert_close(snn(IMAGES)[0], ann(IMAGES))
    torch.testing.assert_close(snn.state_dict(), ann.state_dict())  # the statistics, as counted


def test_its_weights_keep_their_paths_and_load(tmp_path):
    ann, other = network(), Net()
    snn = ls.spike(ann, example_input=IMAGES[:1], timesteps=2)  # norms of each step
    with torch.no_grad():
        snn.get_submodule("norm2.act").threshold.fill_(0.3)
    assert set(ann.state_dict()) <= set(
        ls.spike(ann, example_input=IMAGES, norm="keep").state_dict()
    )
    again = ls.load(ls.save(snn, tmp_path), ann=other)
    torch.testing.assert_close(again(IMAGES), snn(IMAGES))
    snn.load_ann(other.state_dict())
    torch.testing.assert_close(snn.get_submodule("conv").weight, other.conv.weight)


@pytest.mark.parametrize("norm", ["keep", "bntt", "tdbn"])
def test_its_norm_folds_and_the_activation_beneath_it_stays(norm):
    snn = ls.spike(network(), example_input=IMAGES[:1], timesteps=2, norm=norm).double().eval()
    folded = snn.replanned(fold_norms(snn.plan))
    images = IMAGES.double()
    torch.testing.assert_close(folded(images), snn(images))
    kinds = {type(submodule(folded, node)) for node in folded.plan.graph.nodes}
    assert not kinds & {nn.BatchNorm2d}
    y, state = snn.step(images)
    y, _ = snn.step(images, state)
    torch.testing.assert_close(y, snn(images)[1])


def test_its_weights_are_counted():
    snn = ls.spike(network(), example_input=IMAGES[:1], timesteps=2)
    counter = OperationCounter(snn)
    counter.begin_batch(4)
    snn.run(IMAGES, observer=counter)
    assert [row.path for row in counter.rows(Prices())] == ["stem", "conv", "head"]


def test_a_call_with_other_arguments_is_not_the_layer():
    graph, conv = fx.Graph(), nn.Conv2d(3, 4, 3)
    own = tuple(graph.get_attr(f"body.{name}") for name in ("weight", "bias"))
    inner = row(F.conv2d).inner
    assert opened_as(inner, conv, "body", own, {}) is nn.Conv2d
    assert opened_as(inner, conv, "body", own, {"stride": 2}) is None
    assert opened_as(inner, conv, "body", own[::-1], {}) is None
    assert opened_as(inner, conv, "another", own, {}) is None
    assert opened_as(inner, nn.Linear(2, 2), "body", own, {}) is None


class Biased(nn.Module):
    """Adds what a small network makes of its weights alone, as position biases are made."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, 4))
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.conv = nn.Conv2d(3, 6, 1)

    def forward(self, x):
        bias = self.mlp(self.table).sum(1).view(1, 6, 1, 1)
        return F.relu(self.conv(x) + bias)


def test_an_activation_of_weights_alone_is_no_neuron():
    torch.manual_seed(0)
    ann = Biased().eval()
    snn = ls.spike(ann, example_input=IMAGES[:1], neuron=nn.ReLU(), timesteps=2)
    assert [path for path, _ in snn.neurons()] == ["neuron_0"]
    for y in snn(IMAGES):
        torch.testing.assert_close(y, ann(IMAGES))


class Positioned(nn.Module):
    """Adds positions that it makes of numbers alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return F.relu(self.conv(x)) + torch.arange(8).sin()


def test_what_is_made_of_numbers_alone_is_a_constant():
    ann = Positioned().eval()
    snn = ls.spike(ann, example_input=IMAGES[:1], neuron=nn.ReLU(), timesteps=2)
    for y in snn(IMAGES):
        torch.testing.assert_close(y, ann(IMAGES))
