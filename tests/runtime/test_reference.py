"""The reference runs a program as its pieces say, whole and in chunks."""

from __future__ import annotations

import numpy as np
import pytest

from leanspike_runtime import EngineError, Reference
from leanspike_runtime.program import Array, Synapse
from leanspike_runtime.reference import summed
from tests.runtime.programs import STEPS, random_images, random_program


@pytest.mark.parametrize("static", [True, False])
def test_chunks_give_what_the_whole_gives_and_samples_may_leave(static: bool) -> None:
    program = random_program(2, static)
    x = random_images(program, 3, 0)
    whole_TNK, after = Reference(program).run(x)
    assert after.steps == STEPS
    first_TNK, state = Reference(program).run(x if static else x[:1], 1)
    assert np.array_equal(first_TNK, whole_TNK[:1])
    stay = np.array([True, False, True])
    rest = x[stay] if static else x[1:, stay]
    rest_TNK, _ = Reference(program).run(rest, STEPS - 1, state.keep(stay))
    assert np.allclose(rest_TNK, whole_TNK[1:, stay], rtol=0, atol=1e-6)


def test_edges_hold_what_their_form_says() -> None:
    program = random_program(1)
    seen: dict[int, Array] = {}
    Reference(program).run(random_images(program, 2, 0), watch=seen.__setitem__)
    assert len(seen) == len(program.shapes)
    for edge, (form, shape) in enumerate(zip(program.forms, program.shapes, strict=True)):
        values = seen[edge]
        assert values.shape[2:] == shape
        largest = {"spikes": 1, "counts": 4, "analog": np.inf}[form]
        assert values.min() >= (0 if form != "analog" else -np.inf)
        assert values.max() <= largest
        assert values.dtype == (np.float32 if form == "analog" else np.uint8)
        assert len(values) == (1 if program.statics[edge] else STEPS)


def test_sums_of_whole_numbers_are_exact_where_float32_is_not() -> None:
    weights = np.full((1, 1, 40_000, 1), 127, np.int8)
    weights[0, 0, 0] = 126
    synapse = Synapse(0, "linear", np.ones((1, 1), np.float32), weights, "i8")
    counts = np.full((1, 1, 1, 1, 40_000), 255, np.uint8)
    exact = 127 * 255 * 40_000 - 255
    assert summed(synapse, counts).item() == np.float32(exact)


def test_input_of_another_shape_or_too_many_steps_is_refused() -> None:
    program = random_program(0)
    x = random_images(program, 2, 0)
    run = Reference(program).run
    with pytest.raises(EngineError, match=r"input of shape \[2, 3, 9, 8\]; give \[N, 9, 8, 3\]"):
        run(x.transpose(0, 3, 1, 2))
    with pytest.raises(EngineError, match="4 steps are asked for, and 3 are left"):
        run(x, 4)
    _, state = run(x, 1)
    with pytest.raises(EngineError, match="input of 1 samples, but the state holds 2; keep"):
        run(x[:1], 1, state)
    frames = random_program(0, static=False)
    with pytest.raises(EngineError, match="2 steps are asked for, and 3 are left"):
        Reference(frames).run(random_images(frames, 2, 0), 2)
