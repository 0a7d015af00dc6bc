"""What stepping around oneDNN's wrong kernels costs a layer: forward and backward, as a ratio.

    python benchmarks/step_around.py
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/step_around.py

1x1 convolutions of stride 2, channels_last, float32. "plain" is PyTorch's own layer, where it does
not crash: with as many channels as oneDNN's block has (which leanspike leaves alone; here the way
around is forced on it), and with less in a single thread with AVX-512. There a whole network's
training step is timed, too. "contiguous" is the other way
out: image and weights in contiguous layout, its copies counted. All take turns, round by round; a
figure is the median of the rounds' ratios, ours ÷ the other's. Times are the processor's, of all
threads together, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor, nn

from leanspike.memory import keep_freed_memory
from leanspike.models import create_model
from leanspike.processor import instructions
from leanspike.synapse import onednn, step_around

IMAGES = ((128, 32), (128, 16), (32, 16))  # batch, size


def seconds_of(call: Callable[[], object]) -> float:
    """Of the processor, for a call: the mean of those that 0.1 s hold."""
    start, calls = time.process_time(), 0
    while time.process_time() < start + 0.1:
        call()
        calls += 1
    return (time.process_time() - start) / calls


def layer(channels: int, around: bool) -> nn.Conv2d:
    """The layer, with the way around if so, whatever its channels."""
    conv = nn.Conv2d(channels, 2 * channels, 1, stride=2, bias=False)
    if around:
        with patch.object(onednn, "BLOCK", dict.fromkeys(onednn.BLOCK, 1000)):
            step_around(conv)
    return conv


def pass_of(conv: nn.Conv2d, x: Tensor, layout: torch.memory_format) -> Callable[[], object]:
    """Forward and backward from an image in channels_last."""
    conv.to(memory_format=layout)

    def call() -> object:
        y = conv(x.contiguous(memory_format=layout))
        return torch.autograd.grad(y, (x, conv.weight), torch.ones_like(y))

    return call


def step_of(around: bool) -> Callable[[], object]:
    """Forward and backward of WRN16-2 at an eighth of its width, two of whose layers are meant."""
    torch.manual_seed(0)
    network = create_model("wrn16_2", 10, width=0.125).to(memory_format=torch.channels_last)
    x = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
    for module in network.modules():
        if not around:
            module.__dict__.pop(onednn.PLACE, None)
    return lambda: network(x).square().sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    keep_freed_memory()
    block, threads = onednn.BLOCK[instructions()], torch.get_num_threads()
    print(f"{instructions()}, {threads} threads, torch {torch.__version__}, {rounds} rounds")
    print(f"{'':34}{'÷ plain':>10}{'÷ contiguous':>14}")
    for channels in (block // 4, block // 2, block):
        for batch, size in IMAGES:
            x = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
            x.requires_grad_()
            safe = channels == block or (block == 16 and threads == 1)
            calls = {
                "ours": pass_of(layer(channels, True), x, torch.channels_last),
                "contiguous": pass_of(layer(channels, False), x, torch.contiguous_format),
            }
            if safe:
                calls["plain"] = pass_of(layer(channels, False), x, torch.channels_last)
            times = [
                {name: seconds_of(call) for name, call in calls.items()} for _ in range(rounds)
            ]
            to = {name: median(t["ours"] / t[name] for t in times) for name in calls}
            plain = f"{to['plain']:.2f}" if safe else "crashes"
            name = f"{channels} channels, {batch} of {size}x{size}"
            print(f"{name:34}{plain:>10}{to['contiguous']:14.2f}", flush=True)
    if block == 16 and threads == 1:
        pair = step_of(around=True), step_of(around=False)
        ratio = median(seconds_of(pair[0]) / seconds_of(pair[1]) for _ in range(rounds))
        print(f"{'a training step of wrn16_2 at 1/8':34}{ratio:10.2f}")


if __name__ == "__main__":
    main()
