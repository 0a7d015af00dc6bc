"""The instructions of the processor that PyTorch's convolutions use.

oneDNN computes these convolutions, with the processor's best instructions. The environment variable
``ONEDNN_MAX_CPU_ISA`` limits it to lesser ones, and so shows on a newer processor what an older one
does. The same limit applies here.
"""

from __future__ import annotations

import logging
import os
import platform
from functools import cache

import torch

INSTRUCTIONS = ("none", "avx2", "avx512", "avx512_bf16")  # from worst to best
LIMITS = {  # by the variable's value; any other value is no limit
    **dict.fromkeys(("SSE41", "AVX"), "none"),
    **dict.fromkeys(("AVX2", "AVX2_VNNI", "AVX2_VNNI_2"), "avx2"),
    **dict.fromkeys(("AVX512_CORE", "AVX512_CORE_VNNI"), "avx512"),
}
EMULATED = "this processor only emulates bfloat16 (it has neither avx512_bf16 nor amx_bf16)"


@cache
def instructions() -> str:
    """Return the best of `INSTRUCTIONS` that oneDNN uses, or "none" without any or without oneDNN.

    The environment is read once, as oneDNN does.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, ONEDNN_MAX_CPU_ISA="AVX2"):
    ...     instructions.__wrapped__() in ("none", "avx2")  # as in a process begun with that
    True
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "none"
    return min(_best(), _limit(), key=INSTRUCTIONS.index)


def _best() -> str:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "none"
    cpu = torch.cpu  # its public get_capabilities is newer than torch 2.6
    if cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported():
        return "avx512_bf16"
    if cpu._is_avx512_supported():
        return "avx512"
    return "avx2" if cpu._is_avx2_supported() else "none"


def _limit() -> str:
    given = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")
    return LIMITS.get(given.upper(), INSTRUCTIONS[-1])


def has_vnni() -> bool:
    """Return whether the processor adds up products of bytes in 32 bits (VNNI), not in 16.

    >>> has_vnni() in (True, False)
    True
    """
    return bool(torch.cpu._is_vnni_supported())


def has_bfloat16() -> bool:
    """Return whether the processor computes in bfloat16. Emulation is slower than float32.

    >>> from unittest.mock import patch
    >>> with patch(f"{__name__}.instructions", lambda: "avx512"):
    ...     has_bfloat16()
    False
    """
    return instructions() == "avx512_bf16"


def has_matrix_units() -> bool:
    """Return whether the processor has matrix units (AMX), which speed up int8 and bfloat16.

    >>> has_matrix_units() in (True, False)
    True
    """
    return bool(torch.cpu._is_amx_tile_supported())


@cache
def warn_of_emulation() -> None:
    """Warn once that the requested bfloat16 is slow here."""
    logging.getLogger("leanspike").warning(
        "precision is bfloat16, but %s, and a training step may take 20 times as long as in "
        "float32; set precision=float32 or auto",
        EMULATED,
    )
