"""What oneDNN uses: what the processor has, held down by the environment."""

import logging
from unittest.mock import patch

import pytest
import torch

from leanspike import processor
from leanspike.processor import INSTRUCTIONS, has_bfloat16, instructions
from leanspike.run.build import choose_dtype

CPU = torch.device("cpu")
HAS = {  # what torch tells of a processor, by the best instructions of it
    "avx2": ("_is_avx2_supported",),
    "avx512": ("_is_avx2_supported", "_is_avx512_supported"),
    "avx512_bf16": ("_is_avx2_supported", "_is_avx512_supported", "_is_avx512_bf16_supported"),
    "none": (),
}


@pytest.fixture
def fake(monkeypatch):
    """Make this machine another one."""

    def become(best="avx512_bf16", machine="x86_64", **environment):
        instructions.cache_clear()
        for name in (*HAS["avx512_bf16"], "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda name=name: name in HAS[best])
        monkeypatch.setattr("platform.machine", lambda: machine)
        for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    yield become
    instructions.cache_clear()
    processor.warn_of_emulation.cache_clear()


@pytest.mark.parametrize("best", INSTRUCTIONS)
def test_the_processors_best_are_used(fake, best):
    fake(best)
    assert instructions() == best


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("SSE41", "none"),
        ("AVX", "none"),
        ("AVX2", "avx2"),
        ("avx2", "avx2"),  # as oneDNN reads it
        ("AVX2_VNNI_2", "avx2"),
        ("AVX512_CORE", "avx512"),
        ("AVX512_CORE_VNNI", "avx512"),
        ("AVX512_CORE_BF16", "avx512_bf16"),
        ("AVX512_CORE_AMX", "avx512_bf16"),
        ("ALL", "avx512_bf16"),
        ("rubbish", "avx512_bf16"),
        ("", "avx512_bf16"),
    ],
)
def test_the_environment_holds_it_down(fake, limit, expected):
    fake(ONEDNN_MAX_CPU_ISA=limit)
    assert instructions() == expected


def test_the_older_name_counts_where_the_newer_says_nothing(fake):
    fake(DNNL_MAX_CPU_ISA="AVX2", ONEDNN_MAX_CPU_ISA="")
    assert instructions() == "avx2"
    fake(DNNL_MAX_CPU_ISA="AVX2", ONEDNN_MAX_CPU_ISA="AVX512_CORE")
    assert instructions() == "avx512"


def test_the_environment_gives_no_instructions_that_are_not_there(fake):
    fake("avx2", ONEDNN_MAX_CPU_ISA="AVX512_CORE_BF16")
    assert instructions() == "avx2"


def test_other_processors_and_builds_without_onednn_have_none(fake):
    fake(machine="arm64")
    assert instructions() == "none"
    fake()
    with patch("torch.backends.mkldnn.is_available", return_value=False):
        assert instructions() == "none"


def test_matrix_units_compute_in_bfloat16(fake, monkeypatch):
    fake("avx512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert has_bfloat16()


@pytest.mark.parametrize("best", INSTRUCTIONS)
def test_auto_is_bfloat16_only_where_it_is_computed(fake, best):
    fake(best)
    expected = torch.bfloat16 if best == "avx512_bf16" else torch.float32
    assert choose_dtype("auto", CPU) == expected


def test_emulated_bfloat16_is_said_once(fake, caplog):
    fake("avx512")
    with caplog.at_level(logging.WARNING, "leanspike"):
        assert [choose_dtype("bfloat16", CPU) for _ in range(2)] == [torch.bfloat16] * 2
    (record,) = caplog.records
    assert "precision is bfloat16, but this processor only emulates" in record.message
    assert "set precision=float32 or auto" in record.message
    assert choose_dtype("auto", CPU) == choose_dtype("float32", CPU) == torch.float32  # the advice


def test_it_is_not_said_where_it_is_computed(fake, caplog):
    fake()
    choose_dtype("bfloat16", CPU)
    assert not caplog.records
