"""What a run records of its phases: how long they took, and what computed them."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from leanspike import native
from leanspike.neuron import LIF
from leanspike.run.folder import Clock, read_backends, read_seconds

X_TN = torch.rand(2, 3)


def test_a_phase_without_neurons_records_its_type_only(tmp_path: Path) -> None:
    with Clock(tmp_path, "train ann", torch.bfloat16):
        pass
    with Clock(tmp_path, "evaluate"):
        LIF()(X_TN)
    assert read_backends(tmp_path) == {"train ann": "bfloat16"}
    assert list(read_seconds(tmp_path)) == ["train ann", "evaluate"]


@pytest.mark.skipif(not native.is_built(), reason="the native library is not built")
def test_attempts_with_different_code_are_all_recorded(tmp_path: Path) -> None:
    for kernel in ("native", "native", "reference"):
        how = {"LEANSPIKE_BACKEND": kernel, "LEANSPIKE_INSTRUCTIONS": "plain"}
        with patch.dict(os.environ, how), Clock(tmp_path, "train snn", torch.float32):
            LIF()(X_TN)
    assert read_backends(tmp_path) == {"train snn": "float32, native, plain; float32, reference"}


def test_an_attempt_that_failed_is_recorded_too(tmp_path: Path) -> None:
    def stop() -> None:
        with Clock(tmp_path, "train snn", torch.float32):
            LIF()(X_TN.double())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert read_backends(tmp_path) == {"train snn": "float32, reference"}
