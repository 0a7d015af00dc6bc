"""What code does in one mode only."""

import pytest
import torch
from torch import nn

from leanspike import SurgeryError, spike

X = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    """Adds a bias of each pair of places, which it keeps from call to call in eval mode."""

    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.biases = nn.Parameter(torch.rand(1, 4))
        self.register_buffer("indices", torch.arange(16).view(4, 4) % 4)
        self.factor, self.cache = factor, {}

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.cache = {}

    def bias(self, x):
        if self.training:
            return self.biases[:, self.indices]
        place = str(x.device)
        if place not in self.cache:
            kept = self.biases[:, self.indices]
            self.cache[place] = kept if self.factor == 1 else kept * self.factor
        return self.cache[place]

    def forward(self, x):
        rows, _ = x.shape[1:]
        return (x @ x.transpose(1, 2) + self.bias(x)).softmax(-1)[:, :rows] @ x


def network(factor=1):
    parts = [Attention(factor), nn.Linear(6, 6), nn.ReLU(), Attention(factor)]
    return nn.Sequential(*parts, nn.Linear(6, 3))


@torch.no_grad()
def test_a_bias_that_is_kept_in_eval_mode_is_computed_at_each_call():
    ann, other = network().eval(), network().eval()
    ann(X)  # which keeps it
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))
    nn.init.ones_(other[3].biases)
    snn.load_ann(other.state_dict())
    torch.testing.assert_close(snn(X)[0], other(X))


def test_it_learns():
    snn = spike(network(), example_input=X[:1], neuron=nn.ReLU())
    snn(X).sum().backward()
    assert snn.get_submodule("3").biases.grad.abs().sum() > 0


def test_another_bias_in_eval_mode_is_refused():
    with pytest.raises(SurgeryError, match=r"something else in training mode than in eval mode"):
        spike(network(factor=2), example_input=X)


@torch.no_grad()
def test_a_bias_that_is_kept_and_no_longer_that_of_the_weights_is_found():
    ann = network().eval()
    ann(X)
    nn.init.zeros_(ann[3].biases)
    ann[3].train = lambda _mode=True: None  # so that nothing forgets it
    with pytest.raises(SurgeryError, match=r"graph is not the network"):
        spike(ann, example_input=X)


class Auxiliary(nn.Module):
    """Gives a second output in training, as GoogLeNet does."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu, self.head = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)
        self.aux = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
        self.aux_logits = True

    def forward(self, x):
        h = self.relu(self.stem(x))
        other = self.aux(h) if self.training and self.aux is not None else None
        y = self.head(h)
        return (y, other) if self.training and self.aux_logits else y


def test_an_auxiliary_output_is_named_and_the_advice_works():
    net = Auxiliary()
    with pytest.raises(SurgeryError) as error:
        spike(net, example_input=X)
    message = str(error.value)
    assert message.startswith("module aux: adds an output in training mode that is missing")
    exec(message.split("say ")[1], {"net": net})
    assert (net.aux, net.aux_logits) == (None, False)
    snn = spike(net.eval(), example_input=X, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], net(X))
