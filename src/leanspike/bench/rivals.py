"""The rivals in part "engine" by name, and the packages that they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from leanspike.bench.ann_rivals import ann, ann_onnxruntime, ann_openvino
from leanspike.bench.snn_rivals import Weights, engine, engine_exit, snn, spikingjelly
from leanspike.bench.trained import Answer, Trained
from leanspike.optional import installed
from leanspike.processor import has_bfloat16


@dataclass(frozen=True)
class Rival:
    """A row of the race. ``package`` is the package that it needs.

    A rival ``by_step`` is also raced after fewer steps than all: "snn@1" is "snn" after step 1.
    Images ``leave`` early from some.
    """

    title: str
    build: Callable[[Trained], Answer]
    package: str = "leanspike"
    by_step: bool = False
    leaves: bool = False

    @property
    def version(self) -> str | None:
        """The installed version of its package; None where there is none.

        >>> RIVALS["ann"].version == installed("torch")
        True
        """
        return installed(self.package)


WEIGHTS: tuple[tuple[Weights, str], ...] = (
    ("f32", "float32"),
    ("int8", "int8"),
    ("int6", "6 bits"),
)
RIVALS = {
    "ann": Rival("the ANN, float32, PyTorch", ann, "torch"),
    "ann_compiled": Rival("the ANN, float32, torch.compile", partial(ann, compiled=True), "torch"),
    "ann_bf16": Rival("the ANN, bfloat16, PyTorch", partial(ann, dtype=torch.bfloat16), "torch"),
    "ann_bf16_compiled": Rival(
        "the ANN, bfloat16, torch.compile",
        partial(ann, compiled=True, dtype=torch.bfloat16),
        "torch",
    ),
    "ann_int8": Rival("the ANN, int8, onnxruntime", ann_onnxruntime, "onnxruntime"),
    "ann_openvino": Rival("the ANN, int8, OpenVINO", ann_openvino, "openvino"),
    "snn": Rival("the SNN, eager", snn, by_step=True),
    "snn_spikingjelly": Rival("the SNN, SpikingJelly", spikingjelly, "spikingjelly"),
    **{
        f"engine_{kind}": Rival(f"the engine, {words}", partial(engine, weights=kind), by_step=True)
        for kind, words in WEIGHTS
    },
    **{
        f"engine_{kind}_exit": Rival(
            f"the engine, {words}, early exit", partial(engine_exit, weights=kind), leaves=True
        )
        for kind, words in WEIGHTS
    },
}


def rival(name: str) -> Rival:
    """Return a rival by its name; "snn@1" is "snn" after step 1.

    >>> rival("engine_int6@2").title
    'the engine, 6 bits, after step 2'
    """
    row, step = RIVALS[name.partition("@")[0]], steps_of(name)
    return row if step is None else replace(row, title=f"{row.title}, after step {step}")


def steps_of(name: str) -> int | None:
    """Return the step in a rival's name, None for all.

    >>> steps_of("snn@1"), steps_of("snn")
    (1, None)
    """
    step = name.partition("@")[2]
    return int(step) if step else None


def racing(names: Sequence[str], timesteps: int) -> list[str]:
    """Return the named rivals, or all, without those that the machine only emulates.

    After ``timesteps`` steps all images have left, so with one step none leaves early.

    >>> racing(("leanspike", "ann", "engine_int6"), timesteps=2)
    ['ann', 'engine_int6', 'engine_int6@1']
    """
    chosen = [name for name in RIVALS if name in names]
    if not {*chosen} - {"ann"}:
        chosen = list(RIVALS)
    found = []
    for name in chosen:
        emulated = "bf16" in name and not has_bfloat16()
        if emulated or (RIVALS[name].leaves and timesteps == 1):
            continue
        found.append(name)
        if RIVALS[name].by_step:
            found += [f"{name}@{step}" for step in range(1, timesteps)]
    return found
