"""What rate gradients keep for the backward pass, and its time, beside those through time.

The convolutional network of the recipe `cifar10`, batch norms kept, LIF neurons with learned leaks
and thresholds, random images. Bytes are those of all memory that autograd holds but parameters;
times are processor time of this thread, medians.

    python benchmarks/rate_gradients.py [BATCH] [ROUNDS]
"""

import statistics
import sys
import time
from typing import Any

import torch
from torch import Tensor

from leanspike import LIF, SpikingNetwork, spike
from leanspike.models import create_model

LAYERS = [32, 64, "A", 256, "A", 256, 256, "A", 256]


def network() -> SpikingNetwork:
    torch.manual_seed(0)
    options: dict[str, Any] = {"batch_norm": True, "pool": "max", "global_pool": True, "head": []}
    ann = create_model("vgg", 10, image_size=32, layers=LAYERS, dropout_conv=0.0, **options)
    neuron = LIF(learn=("leak", "threshold"), height="threshold", initial="half")
    return spike(ann, example_input=torch.zeros(1, 3, 32, 32), neuron=neuron, norm="keep").train()


def one(snn: SpikingNetwork, x: Tensor, timesteps: int, gradient: Any) -> tuple[int, float, float]:
    """Bytes that are kept, and seconds forward and backward."""
    own = {p.untyped_storage().data_ptr() for p in snn.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    begun = time.thread_time()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y_TNK = snn(x, timesteps, gradient=gradient)
    between = time.thread_time()
    y_TNK.square().mean().backward()
    return sum(s.nbytes() for s in kept.values()), between - begun, time.thread_time() - between


def main(batch: int, rounds: int) -> None:
    torch.set_num_threads(1)
    snn, x = network(), torch.randn(batch, 3, 32, 32)
    print(f"torch {torch.__version__}, one thread, float32, batch {batch}, {rounds} rounds")
    print("gradient   T   kept MiB   forward s   backward s")
    for gradient in ("bptt", "rate"):
        for timesteps in (1, 2, 4, 8, 16, 32):
            found = [one(snn, x, timesteps, gradient) for _ in range(rounds + 1)][1:]
            kept, forward, backward = (statistics.median(part) for part in zip(*found, strict=True))
            print(
                f"{gradient:8} {timesteps:3} {kept / 2**20:10.1f} {forward:11.3f} {backward:12.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main(*(int(value) for value in (*sys.argv[1:], "4", "3")[:2]))
