"""The number of samples that code reads off a tensor is that of the tensor it is about."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LIF, SurgeryError, evaluate, spike

T, N = 3, 2
IMAGE = (3, 6, 6)


class Net(nn.Module):
    """A convolution and a ReLU, whose maps are reshaped by sizes of some tensor."""

    def __init__(self, reshape):
        super().__init__()
        self.conv, self.reshape = nn.Conv2d(3, 4, 3), reshape
        self.token = nn.Parameter(torch.rand(1, 1, 16))

    def forward(self, x):
        return self.reshape(self, x, F.relu(self.conv(x)))


def with_token(net, x, y):
    y = y.flatten(2)
    return torch.cat([net.token.expand(x.shape[0], -1, -1), y], 1)


WAYS = {
    "view, size(0)": lambda _net, x, y: y.view(x.size(0), -1),
    "view, size by keyword": lambda _net, x, y: y.view(x.size(dim=0), -1),
    "view, shape[0]": lambda _net, x, y: y.view(x.shape[0], 4, -1),
    "view, size()[0]": lambda _net, x, y: y.view(x.size()[0], -1),
    "reshape, a tuple": lambda _net, x, y: y.reshape((x.size(0), 4, 16)),
    "torch.reshape": lambda _net, x, y: torch.reshape(y, (x.shape[0], -1)),
    "of a later tensor": lambda _net, x, y: x.view(y.size(0), -1)[:, :64] + y.flatten(1),
    "token of the image's size": with_token,
    "token of its own size": lambda net, _x, y: torch.cat(
        [net.token.expand(y.size(0), -1, -1), y.flatten(2)], 1
    ),
    "token repeated": lambda net, x, y: torch.cat(
        [net.token.repeat(x.size(0), 1, 1), y.flatten(2)], 1
    ),
    "token expanded as": lambda net, _x, y: y.flatten(2) + net.token.expand_as(y.flatten(2)),
    "zeros": lambda _net, x, y: torch.cat([y.flatten(2), y.new_zeros(x.size(0), 1, 16)], 1),
}


def unpacked(_net, x, y):
    n, _, _, _ = x.shape
    return y.view(n, -1)


WAYS["view, unpacked"] = unpacked


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encode", ["direct", "frames"])
@torch.no_grad()
def test_sizes_of_any_tensor_serve_at_each_step(way, encode):
    torch.manual_seed(0)
    ann = Net(WAYS[way]).eval()
    x = torch.rand(T, N, *IMAGE) if encode == "frames" else torch.rand(N, *IMAGE)
    example = x[:, :1] if encode == "frames" else x[:1]
    relus = spike(ann, example_input=example, encode=encode, neuron=nn.ReLU(), timesteps=T)
    for t, y in enumerate(relus(x)):
        torch.testing.assert_close(y, ann(x[t] if encode == "frames" else x))
    snn = spike(ann, example_input=example, encode=encode, neuron=LIF(0.2), timesteps=T).eval()
    state, steps = None, []
    for t in range(T):
        y_NK, state = snn.step(x[t] if encode == "frames" else x, state)
        steps.append(y_NK)
    torch.testing.assert_close(torch.stack(steps), snn(x))


def test_the_number_of_samples_is_no_number_to_compute_with():
    with pytest.raises(SurgeryError, match=r"truediv .*: computes with the number of samples"):
        spike(Net(lambda _net, x, y: y / x.size(0)), example_input=torch.rand(1, *IMAGE))


@torch.no_grad()
def test_a_vision_transformer_with_a_class_token_converts_and_is_counted():
    import torchvision

    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16,
        num_classes=4,
    ).eval()  # fmt: skip
    nn.init.normal_(vit.heads.head.weight)
    x, gelus = torch.rand(N, 3, 16, 16), {"activations": (nn.GELU,), "timesteps": T}
    same = spike(vit, example_input=x[:1], neuron=nn.GELU(), **gelus)
    for y in same(x):
        torch.testing.assert_close(y, vit(x))
    snn = spike(vit, example_input=x[:1], neuron=LIF(0.2), **gelus)
    result = evaluate(snn, [(x, torch.zeros(N).long())])
    rows = {row.path.rsplit(".", 1)[-1]: row for row in result.operations}
    length, width = 1 + 4, 8
    attention = 4 * length * width * width + 2 * length * length * width
    assert rows["self_attention"].ann_macs == attention
    assert result.uncounted == ()
