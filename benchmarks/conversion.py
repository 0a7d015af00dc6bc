"""What the defaults of `spike` and `calibrate` make of trained networks, without training.

    python benchmarks/conversion.py cnn-mnist --root ~/data
    python benchmarks/conversion.py cnn-digits vgg-digits
    python benchmarks/conversion.py resnet20 --root ~/data --weights resnet20.th --images 1000

Each line: network, seed, preset, what `calibrate` chose, its agreement, and accuracies in % of the
ANN and of the SNN after each of five steps. "paper" is `preset="paper"` in both functions.

- cnn-*: two times convolution, batch norm, ReLU and max pool, then dropout and a linear layer.
  MNIST: 6,000 training images and the first test images; digits: scikit-learn's, 1,400 to train.
- vgg-digits: leanspike's VGG6 at an eighth of its width, which has no norm.
- resnet20: somebody's published weights for CIFAR-10. The seed draws the calibration's 512 images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.data import load_dataset, normalise
from leanspike.models.published import load_published

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cnn(image_size: int) -> nn.Module:
    """The network of somebody who has just read a tutorial."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * (image_size // 4) ** 2, 10)),
    )


def train(ann: nn.Module, x: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """Adam, one learning rate, batches of 64."""
    optimizer = torch.optim.Adam(ann.parameters(), lr=2e-3)
    ann.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(ann(x[batch]), labels[batch]).backward()
            optimizer.step()
    return ann.eval()


def make(
    name: str, seed: int, root: Path | None, weights: Path | None, images: int
) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A trained ANN, 512 training images, and images and labels of the test."""
    torch.manual_seed(seed)
    if name.endswith("digits"):
        digits = load_digits()
        x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
        labels = torch.tensor(digits.target)
        order = torch.randperm(len(x))
        fit, test = order[:1400], order[1400:]
        vgg = ls.models.create_model("vgg6", 10, image_size=8, in_channels=1, width=0.125)
        ann = train(vgg if name.startswith("vgg") else cnn(8), x[fit], labels[fit], epochs=15)
        return ann, x[fit][:512], x[test], labels[test]
    data = load_dataset("mnist" if name == "cnn-mnist" else "cifar10", root)
    mean, std = (data.mean, data.std) if name == "cnn-mnist" else IMAGENET
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    test_pixels, test_labels = data.test.batch(torch.arange(min(images, len(data.test))))
    pixels, labels = data.train.batch(order[:6000])
    x = normalise(pixels, mean, std)
    if name == "cnn-mnist":
        ann = train(cnn(28), x, labels, epochs=3)
    else:
        assert weights is not None, "resnet20 needs --weights"
        ann = ls.models.create_model("cifar_resnet20", 10).eval()
        load_published(ann, weights)
    return ann, x[:512], normalise(test_pixels, mean, std), test_labels


@torch.no_grad()
def accuracies(network: nn.Module, x: Tensor, labels: Tensor) -> list[float]:
    """In %, after each step; of an ANN one."""
    right = torch.zeros(1)
    for batch, answers in zip(x.split(100), labels.split(100), strict=True):
        y = network(batch)
        y = ls.readout(y) if isinstance(network, ls.SpikingNetwork) else y[None]
        right = right + (y.argmax(-1) == answers).sum(1)
    return [round(100 * count / len(x), 2) for count in right.tolist()]


def main() -> None:
    """One line per network, seed and preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("cnn-mnist", "cnn-digits", "vgg-digits", "resnet20")
    parser.add_argument("networks", nargs="+", choices=names)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="of the test set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--presets", nargs="+", default=["paper", "network"])
    arguments = parser.parse_args()
    for name in arguments.networks:
        for seed in arguments.seeds:
            ann, images, x, labels = make(
                name, seed, arguments.root, arguments.weights, arguments.images
            )
            before = accuracies(ann, x, labels)[0]
            for preset in arguments.presets:
                snn = ls.spike(ann, example_input=images[:1], timesteps=5, preset=preset)
                table = ls.calibrate(snn, images, preset=preset)
                steps = " ".join(f"{value:.2f}" for value in accuracies(snn, x, labels))
                print(
                    f"{name} | {seed} | {preset} | {table.choices} | {table.agreement:.3f} | "
                    f"{before:.2f} | {steps}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
