"""What somebody brings who tries leanspike: a network in a file of their own, and images."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

CODE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, channels=1, classes=10, width=16):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)),
            *(nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width)),
            *(nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.drop, self.head = nn.Dropout(0.25), nn.Linear(8 * width, classes)

    def forward(self, x):
        x = self.body(x)
        return self.head(self.drop(x.view(x.size(0), -1)))
"""
Pair = tuple[Tensor, Tensor]


def digits() -> tuple[Pair, Pair]:
    """Images of 0 to 1, ``[N, 1, 8, 8]``, with labels: 1,200 to train, 597 to test."""
    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1200], order[1200:]
    return (x[train], y[train]), (x[test], y[test])


def write_images(root: Path, number: int) -> None:
    """A folder of grey PNG files for each class."""
    from PIL import Image

    found = load_digits()
    for index in range(number):
        folder = root / f"digit{found.target[index]}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (found.images[index] * 255 / 16).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index}.png")


def train(ann: nn.Module, x: Tensor, y: Tensor, epochs: int = 8) -> None:
    """Somebody's own loop."""
    optimizer = torch.optim.Adam(ann.parameters(), lr=2e-3)
    ann.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(ann(x[batch]), y[batch]).backward()
            optimizer.step()
