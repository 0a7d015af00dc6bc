"""Compiling a spiking network into a program that computes only where there are spikes.

>>> import torch
>>> from torch import nn
>>> from leanspike import spike
>>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
>>> engine = compile_engine(spike(ann, example_input=torch.zeros(1, 2), timesteps=3))
>>> x_N, state, steps = torch.ones(5, 2), None, []
>>> for _ in range(3):
...     y_NK, state = engine.step(x_N, state)
...     steps.append(y_NK)
>>> torch.allclose(torch.stack(steps), engine(x_N), atol=1e-6), state.keep([0, 2]).steps
(True, 3)
>>> [row.path for row in engine.explain(x_N).layers]
['1', '2']
"""

from leanspike.engine.compiled import Engine, EngineState, Pixels, compile_engine
from leanspike.engine.explain import Explanation, LayerWork
from leanspike.engine.quantise import WEIGHTS
from leanspike.engine.whole import train_whole, whole_layers

__all__ = [
    "WEIGHTS",
    "Engine",
    "EngineState",
    "Explanation",
    "LayerWork",
    "Pixels",
    "compile_engine",
    "train_whole",
    "whole_layers",
]
