"""Norms folded into the layers before them: the same answers, or a refusal."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LeanspikeError, SurgeryError, spike
from networks import build, draw

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@pytest.mark.parametrize("name", ["padded_shortcut", "vector", "vgg16_max_norm", "resnet12"])
@torch.no_grad()
def test_folded_network_answers_as_the_ann(name):
    ann, x = build(name).double(), draw(name, 2).double()
    snn = spike(ann, example_input=x[:1], norm="fold", neuron=nn.ReLU(), timesteps=2)
    for y_NK in snn(x):
        torch.testing.assert_close(y_NK, ann(x), rtol=1e-9, atol=1e-9)
    assert not [m for m in snn.modules() if isinstance(m, NORMS)]
    called = {str(node.target) for node in snn.plan.graph.nodes}
    assert not [path for path, m in ann.named_modules() if isinstance(m, NORMS) and path in called]
    assert snn.plan.norm == "fold"


@pytest.mark.parametrize(
    ("layer", "norm", "sample"),
    [
        (nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4), (3, 5)),
        (nn.Conv2d(3, 4, 2, bias=False), nn.BatchNorm2d(4, affine=False), (3, 5, 5)),
        (nn.Conv3d(3, 4, 2, groups=1), nn.BatchNorm3d(4, eps=0.1), (3, 3, 3, 3)),
        (nn.Linear(3, 4), nn.BatchNorm1d(4), (3,)),
        (nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), (3,)),
    ],
)
@torch.no_grad()
def test_weights_and_bias_are_those_of_the_formula(layer, norm, sample):
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if norm.affine:
        norm.weight.normal_()
        norm.bias.normal_()
    ann = nn.Sequential(layer, norm, nn.ReLU())
    snn = spike(ann, example_input=torch.zeros(1, *sample), norm="fold")
    folded = snn.get_submodule("0")
    gain = (norm.weight if norm.affine else 1) / (norm.running_var + norm.eps).sqrt()
    bias = 0 if layer.bias is None else layer.bias
    shift = (bias - norm.running_mean) * gain + (norm.bias if norm.affine else 0)
    shape = (-1, *[1] * (layer.weight.dim() - 1))
    torch.testing.assert_close(folded.weight, layer.weight * gain.view(shape))
    torch.testing.assert_close(folded.bias, shift)
    assert isinstance(snn.get_submodule("1"), nn.Identity)


def test_the_ann_keeps_its_norms_and_its_mode():
    ann = build("padded_shortcut").train()
    weight = ann.conv1.weight.clone()
    snn = spike(ann, example_input=draw("padded_shortcut", 1), norm="fold")
    assert isinstance(ann.bn1, nn.BatchNorm2d)
    assert torch.equal(ann.conv1.weight, weight)
    assert ann.bn1.training
    assert snn.conv1.training


def test_folded_layers_are_trained_like_any_other():
    snn = spike(build("vector"), example_input=draw("vector", 1), norm="fold", neuron=nn.ReLU())
    snn(draw("vector", 3)).sum().backward()
    linear = snn.get_submodule("layers.1")
    assert linear.bias.grad.abs().sum() > 0
    assert linear.weight.grad.abs().sum() > 0


def test_an_anns_state_no_longer_fits():
    ann = build("vector")
    snn = spike(ann, example_input=draw("vector", 1), norm="fold")
    with pytest.raises(LeanspikeError, match=r"\(with norm='keep'\)"):
        snn.load_ann(ann.state_dict())


class Net(nn.Module):
    def __init__(self, forward, norm=None):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = norm or nn.BatchNorm2d(4)
        self.compute = forward

    def forward(self, x):
        return F.relu(self.compute(self, x))


@pytest.mark.parametrize(
    "net",
    [
        Net(lambda s, x: s.norm(x)),
        Net(lambda s, x: s.norm(F.relu(s.conv(x)))),
        Net(lambda s, x: s.norm(s.conv(x) + x)),
        Net(lambda s, x: (lambda y: s.norm(y) + y)(s.conv(x))),
        Net(lambda s, x: s.norm(s.conv(s.conv(x)))),
        Net(lambda s, x: s.norm(s.norm(s.conv(x)))),
        Net(lambda s, x: s.norm(s.conv(x).flatten(2)), nn.BatchNorm1d(4)),
    ],
    ids=["input", "activation", "sum", "two readers", "shared layer", "shared norm", "reshaped"],
)
def test_a_norm_without_a_layer_of_its_own_is_refused(net):
    message = "module norm: this norm does not follow a convolution or linear layer of its own"
    with pytest.raises(SurgeryError, match=message) as error:
        spike(net, example_input=torch.zeros(1, 4, 5, 5), norm="fold")
    assert "use norm='keep'" in str(error.value)
    spike(net, example_input=torch.zeros(1, 4, 5, 5), norm="keep")


def test_a_norm_without_running_statistics_is_refused():
    net = Net(lambda s, x: s.norm(s.conv(x)), nn.BatchNorm2d(4, track_running_stats=False))
    message = "module norm: this norm has no running statistics, so it cannot be folded; keep it,"
    with pytest.raises(SurgeryError, match=message):
        spike(net, example_input=torch.zeros(1, 4, 5, 5), norm="fold")


def test_a_norm_over_another_axis_than_the_layers_outputs_is_refused():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())  # [N, 4, 4]: axis 1
    with pytest.raises(SurgeryError, match="module 1: this norm does not follow"):
        spike(net, example_input=torch.zeros(1, 4, 4), norm="fold")
