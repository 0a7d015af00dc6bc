"""Networks as users write them, each small, for the tests of the surgery.

``NETWORKS`` maps a name to a function that builds the network and the shape of one sample.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.models import create_model

SAMPLE = (3, 8, 8)


class Functional(nn.Module):
    """Every activation and pool a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = torch.relu(self.conv2(x)).relu()
        x = F.adaptive_avg_pool2d(F.avg_pool2d(x, 2), 2)
        return self.fc(x.view(x.size(0), -1))


class ReusedReLU(nn.Module):
    """One nn.ReLU for three activations, in the network and in its block."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 6 * 6, 8), self.act)
        self.out_act = nn.ReLU()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv1(x))
        x = self.head(self.act(x - 0.1))
        return self.fc(self.out_act(x * 2))


class Block(nn.Module):
    """A residual block with a functional activation, a module, and ``+=``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(F.relu(x)))
        out += x
        return self.relu(out)


class SameBlockTwice(nn.Module):
    """The same block called twice, after a static stem that it adds its output to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.block = Block(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.block(self.stem(x)))
        return self.fc(x.mean((2, 3)))


class SharedBlock(nn.Module):
    """The same block under four names, two of them the network's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        block = Block(6)
        self.first = self.second = block
        self.blocks = nn.ModuleList([block, block])
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.stem(x)))
        for block in self.blocks:
            x = block(x) / 2
        return self.fc(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenations of spikes with spikes and with the static stem; constants; channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor([0.5, 1.0, 1.5, 2.0]))
        self.gain = nn.Parameter(torch.tensor(1.25))
        self.register_buffer("shift", torch.linspace(-0.5, 0.5, 12).view(12, 1, 1))
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        static = self.stem(x)
        a = F.relu(static)
        b = F.relu(self.conv1(a) * self.scale.view(1, -1, 1, 1))
        c = self.conv2(torch.cat([a, b], 1)) + torch.ones(1)
        x = self.shift + torch.cat((static, b, c), dim=1) * (self.gain * 2)
        n, channels, height, width = x.shape
        x = x.view(n, 3, channels // 3, height, width).transpose(1, 2).reshape(x.shape)
        even, odd = F.relu(x).chunk(2, dim=1)
        return self.fc(torch.cat([odd, even], 1).sum((-2, -1)) / 64)


class Dropouts(nn.Module):
    """Dropout as modules and as functions, before the first activation too."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Dropout2d(0.25),
            nn.Conv2d(3, 6, 3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5, inplace=True),
            nn.MaxPool2d(2),
        )
        self.linear1 = nn.Linear(6 * 3 * 3, 16)
        self.linear2 = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout2d(self.features(x), 0.1, training=self.training)
        x = F.relu(self.linear1(torch.flatten(x, 1)))
        return self.linear2(F.dropout(x, 0.5, self.training))


class PaddedShortcut(nn.Module):
    """Shortcuts by slices and padding, which stay spikes, and a static one from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = y + F.pad(x, (0, 0, 0, 0, 0, 3))
        z = self.bn2(self.conv2(y)) + F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        return self.fc(F.relu(z).mean((2, 3)))


class Vector(nn.Module):
    """An MLP whose input is activated at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Linear(12, 16, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Linear(16, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def zoo(name: str, **options: object) -> nn.Module:
    return create_model(name, 5, image_size=16, width=0.125, **options)


def torchvision_model(name: str) -> nn.Module:
    """torchvision's, each layer with an eighth of its channels: what is tested is its structure."""
    import torchvision

    with torch.device("meta"):
        net = torchvision.models.get_model(name, weights=None, num_classes=5)
    for module in list(net.modules()):
        for child_name, child in module.named_children():
            setattr(module, child_name, narrow(child))
    return net


def densenet() -> nn.Module:
    """torchvision's, with fewer and narrower layers in each block than densenet121 has."""
    import torchvision

    return torchvision.models.DenseNet(4, (2, 3, 2, 2), 8, bn_size=2, num_classes=5)


def narrow(layer: nn.Module) -> nn.Module:
    """A layer with weights anew with an eighth of its channels, but those of images and classes."""
    if isinstance(layer, nn.Conv2d):
        channels = max(layer.in_channels // 8, 3), layer.out_channels // 8
        options = layer.stride, layer.padding, layer.dilation, layer.groups
        return nn.Conv2d(*channels, layer.kernel_size, *options, layer.bias is not None)
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(layer.num_features // 8)
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features // 8, max(layer.out_features // 8, 5))
    return layer


USERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "functional": (Functional, SAMPLE),
    "reused_relu": (ReusedReLU, SAMPLE),
    "same_block_twice": (SameBlockTwice, SAMPLE),
    "shared_block": (SharedBlock, SAMPLE),
    "dense": (Dense, SAMPLE),
    "dropouts": (Dropouts, SAMPLE),
    "padded_shortcut": (PaddedShortcut, SAMPLE),
    "vector": (Vector, (12,)),
}
ZOO = {
    "vgg6": (lambda: zoo("vgg6", bias=True), (3, 16, 16)),
    "vgg16_max_norm": (lambda: zoo("vgg16", batch_norm=True, pool="max"), (3, 16, 16)),
    "vgg11_bntt": (lambda: zoo("vgg11_bntt"), (3, 16, 16)),
    "resnet12": (lambda: zoo("resnet12", batch_norm=True), (3, 16, 16)),
    "cifar_resnet20": (lambda: zoo("cifar_resnet20"), (3, 16, 16)),
}
TORCHVISION = {
    "torchvision_vgg16_bn": (lambda: torchvision_model("vgg16_bn"), (3, 32, 32)),
    "torchvision_resnet18": (lambda: torchvision_model("resnet18"), (3, 32, 32)),
    "torchvision_densenet": (densenet, (3, 32, 32)),
}
NETWORKS = USERS | ZOO | TORCHVISION


def build(name: str, seed: int = 0) -> nn.Module:
    """The network in eval mode, with norms that have seen data and biases that are not zero."""
    torch.manual_seed(seed)
    net = NETWORKS[name][0]()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return net.eval()


def draw(name: str, *lead: int, seed: int = 1) -> Tensor:
    """Input ``[*lead, *sample]`` for the network of that name."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*lead, *NETWORKS[name][1], generator=generator)
