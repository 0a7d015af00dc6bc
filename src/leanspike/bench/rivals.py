"""The rivals in part "engine" by name, and the packages that they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from leanspike.bench.ann_rivals import ann, ann_onnxruntime, ann_openvino
from leanspike.bench.snn_rivals import engine, snn, spikingjelly
from leanspike.bench.trained import Answer, Trained
from leanspike.optional import installed
from leanspike.processor import has_bfloat16


@dataclass(frozen=True)
class Rival:
    """A row of the race. ``package`` is the package that it needs."""

    title: str
    build: Callable[[Trained], Answer]
    package: str = "torch"

    @property
    def version(self) -> str | None:
        """The installed version of its package; None where there is none.

        >>> RIVALS["ann"].version == installed("torch")
        True
        """
        return installed(self.package)


RIVALS = {
    "ann": Rival("the ANN, float32", ann),
    "ann_compiled": Rival("the ANN, float32, torch.compile", partial(ann, compiled=True)),
    "ann_bf16": Rival("the ANN, bfloat16", partial(ann, dtype=torch.bfloat16)),
    "ann_int8": Rival("the ANN, int8, onnxruntime", ann_onnxruntime, "onnxruntime"),
    "ann_openvino": Rival("the ANN, int8, OpenVINO", ann_openvino, "openvino"),
    "snn": Rival("the SNN, eager", snn, "leanspike"),
    "snn_spikingjelly": Rival("the SNN, SpikingJelly", spikingjelly, "spikingjelly"),
    "engine_f32": Rival("the engine, float32", partial(engine, weights="f32"), "leanspike"),
    "engine_int8": Rival("the engine, int8", partial(engine, weights="int8"), "leanspike"),
    "engine_int6": Rival("the engine, 6 bits", partial(engine, weights="int6"), "leanspike"),
    "engine_int6_exit": Rival(
        "the engine, 6 bits, early exit",
        partial(engine, weights="int6", exits=True),
        "leanspike",
    ),
}


def racing(names: Sequence[str]) -> list[str]:
    """Return the named rivals, or all, without rivals that the machine only emulates.

    >>> racing(("leanspike", "ann", "engine_int6"))
    ['ann', 'engine_int6']
    """
    chosen = [name for name in RIVALS if name in names]
    if not {*chosen} - {"ann"}:
        chosen = list(RIVALS)
    return [name for name in chosen if name != "ann_bf16" or has_bfloat16()]
