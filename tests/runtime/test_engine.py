"""Native code gives the reference's answers: whole, by steps, in threads, with early exit."""

from __future__ import annotations

import ctypes
import os
import warnings
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from leanspike_runtime import Engine, EngineError, Program, Reference, to_bytes
from leanspike_runtime.library import available_instructions, what_is_missing
from leanspike_runtime.program import Array, Input, Layer, Neuron, Synapse
from leanspike_runtime.reference import summed
from leanspike_runtime.threads import parallel
from tests.runtime.programs import STEPS, random_images, random_program

if what_is_missing():
    pytest.skip(what_is_missing(), allow_module_level=True)

INSTRUCTIONS = available_instructions()
every_instruction = pytest.mark.parametrize("instructions", INSTRUCTIONS)


def exact(program: Program) -> Program:
    """The same with float weights in sixteenths: sums of few of them and of such images are exact.

    Tables stay, so that products and sums of currents are rounded.
    """

    def rounded(synapse: Synapse) -> Synapse:
        if synapse.weights is None or synapse.type != "f32":
            return synapse
        return replace(synapse, weights=np.round(synapse.weights * 16) / 16)

    nodes = tuple(
        replace(node, synapses=tuple(map(rounded, node.synapses)))
        if isinstance(node, Layer)
        else node
        for node in program.nodes
    )
    return replace(program, nodes=nodes)


def spikes_alone(program: Program) -> Program:
    """The program whose logits hear spikes alone: no sum of analog values that were rounded."""
    head = program.nodes[-1]
    assert isinstance(head, Layer)
    return replace(program, nodes=(*program.nodes[:-1], replace(head, synapses=head.synapses[:1])))


def images(program: Program, samples: int, seed: int = 0) -> Array:
    return np.round(random_images(program, samples, seed) * 4) / 4


@every_instruction
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_where_sums_are_exact_logits_are_the_references_bit_for_bit(
    seed: int, static: bool, instructions: str
) -> None:
    program = spikes_alone(exact(random_program(seed, static)))
    x = images(program, 4, seed)
    expected_TNK, _ = Reference(program).run(x)
    logits_TNK = Engine(to_bytes(program), instructions)(x, threads=1)
    assert len(np.unique(expected_TNK)) > 20
    assert np.array_equal(logits_TNK, expected_TNK)


@every_instruction
@pytest.mark.parametrize("seed", range(3))
def test_elsewhere_they_are_to_rounding(seed: int, instructions: str) -> None:
    program = random_program(seed)
    x = random_images(program, 4, seed)
    expected_TNK, _ = Reference(program).run(x)
    logits_TNK = Engine(to_bytes(program), instructions)(x, threads=1)
    assert np.allclose(logits_TNK, expected_TNK, rtol=1e-5, atol=1e-5)


@every_instruction
@pytest.mark.parametrize("static", [True, False])
def test_steps_one_by_one_are_the_whole_and_samples_may_leave(
    static: bool, instructions: str
) -> None:
    program = random_program(1, static)
    engine, x = Engine(to_bytes(program), instructions), random_images(program, 3, 0)
    whole_TNK = engine(x)
    stream = engine.stream(3)
    stay = np.array([True, False, True])
    assert np.array_equal(stream.step(x if static else x[0]), whole_TNK[0])
    stream.keep(stay)
    # Of an input that does not change the first step's counts.
    second = np.zeros_like(x[stay]) if static else x[1][stay]
    assert np.array_equal(stream.step(second), whole_TNK[1][stay])
    assert stream.steps == 2


def test_shorter_runs_are_the_beginning_of_longer_ones() -> None:
    program = random_program(2)
    engine, x = Engine(to_bytes(program)), random_images(program, 2, 0)
    assert np.array_equal(engine(x, 2), engine(x)[:2])


@every_instruction
@pytest.mark.parametrize("samples", [0, 1, 2, 5])
@pytest.mark.parametrize("whose", ["PyTorch's", "its own"])
def test_no_result_depends_on_the_threads(samples: int, instructions: str, whose: str) -> None:
    program = random_program(4)
    pool = pool_of_pytorch() if whose == "PyTorch's" else None
    with patch("leanspike_runtime.engine.parallel", return_value=pool):
        check_threads(program, samples, instructions)


def pool_of_pytorch() -> int:
    pytest.importorskip("torch")
    pool = parallel()
    if pool is None:
        pytest.skip("PyTorch has not loaded libgomp")
    return pool


def check_threads(program: Program, samples: int, instructions: str) -> None:
    engine, x = Engine(to_bytes(program), instructions), random_images(program, samples, 0)
    alone_TNK, alone = engine(x, threads=1), engine.answer(x, 0.5, threads=1)
    assert alone_TNK.shape == (STEPS, samples, 10)
    for threads in (2, 7):
        assert np.array_equal(engine(x, threads=threads), alone_TNK)
        exits = engine.answer(x, 0.5, threads=threads)
        assert np.array_equal(exits.logits_NK, alone.logits_NK)
        assert np.array_equal(exits.steps_N, alone.steps_N)


def test_a_forked_process_computes_too() -> None:
    """With threads of its own, since those of the pool stay behind."""
    pool_of_pytorch()
    program = random_program(4)
    engine, x = Engine(to_bytes(program)), random_images(program, 5, 0)
    before_TNK = engine(x, threads=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside other threads
        child = os.fork()
    if child == 0:
        same = parallel() is None and np.array_equal(engine(x, threads=3), before_TNK)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_samples_do_not_influence_each_other() -> None:
    program = random_program(0)
    engine, x = Engine(to_bytes(program)), random_images(program, 5, 0)
    together_TNK = engine(x, threads=2)
    for n in range(5):
        assert np.array_equal(engine(x[n : n + 1])[:, 0], together_TNK[:, n])


def margins(logits_TNK: Array) -> Array:
    """Of the mean answers so far, ``[T, N]``, in float64."""
    totals_TNK = np.cumsum(logits_TNK.astype(np.float64), 0)
    means_TNK = totals_TNK / np.arange(1, len(logits_TNK) + 1)[:, None, None]
    p_TNK = np.exp(means_TNK - means_TNK.max(-1, keepdims=True))
    p_TNK = np.sort(p_TNK / p_TNK.sum(-1, keepdims=True), -1)
    found: Array = p_TNK[..., -1] - p_TNK[..., -2]
    return found


@pytest.mark.parametrize("static", [True, False])
def test_images_leave_when_the_margin_of_their_mean_answer_is_reached(static: bool) -> None:
    program = random_program(3, static)
    engine, x = Engine(to_bytes(program)), random_images(program, 20, 0)
    logits_TNK = engine(x)
    margins_TN = margins(logits_TNK)
    threshold = float(np.median(margins_TN[0]) + 1e-4)
    exits = engine.answer(x, threshold)
    sure_TN = margins_TN >= threshold
    sure_TN[-1] = True
    steps_N = sure_TN.argmax(0) + 1
    assert set(steps_N) >= {1, STEPS}
    assert np.array_equal(exits.steps_N, steps_N)
    means_TNK = np.cumsum(logits_TNK, 0) / np.arange(1, STEPS + 1, dtype=np.float32)[:, None, None]
    assert np.array_equal(exits.logits_NK, means_TNK[steps_N - 1, np.arange(20)])


def test_the_latest_step_and_margins_that_nobody_or_everybody_has() -> None:
    program = random_program(3)
    engine, x = Engine(to_bytes(program)), random_images(program, 3, 0)
    assert engine.answer(x, 1.1).steps_N.tolist() == [STEPS] * 3
    assert engine.answer(x, 1.1, latest=2).steps_N.tolist() == [2] * 3
    assert engine.answer(x, 0.0).steps_N.tolist() == [1] * 3


def test_one_output_is_a_yes_or_no() -> None:
    zero, one = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    layer = Layer("out", (1, 1, 1), "analog", (Synapse(0, "same", one),), zero, None)
    program = Program("tests", 2, "mean", Input((1, 1, 1), static=True), (layer,), 1)
    engine = Engine(to_bytes(program))
    x = np.log(np.array([3.0, 1 / 3, 2.0, 1.0], np.float32)).reshape(4, 1, 1, 1)
    assert engine.answer(x, 0.49).steps_N.tolist() == [1, 1, 2, 2]  # of margins ½, ½, ⅓ and 0


def counted(program: Program, x: Array) -> list[tuple[int, int]]:
    """Events and accumulates of each layer, by its edges and by weights that are all 1."""
    edges: dict[int, Array] = {}
    Reference(program).run(x, watch=edges.__setitem__)
    found = []
    for node in program.nodes:
        events = accumulates = 0
        for synapse in node.synapses if isinstance(node, Layer) else ():
            if program.forms[synapse.edge] == "analog":
                continue
            events += int(edges[synapse.edge].sum())
            if synapse.weights is None:
                accumulates += int(edges[synapse.edge].sum())
                continue
            ones = replace(synapse, weights=np.ones_like(synapse.weights))
            accumulates += int(summed(ones, edges[synapse.edge]).astype(np.float64).sum())
        found.append((events, accumulates))
    return found


@every_instruction
def test_work_counts_events_and_the_weights_that_they_meet(instructions: str) -> None:
    program = random_program(1)
    x = random_images(program, 2, 0)
    work = Engine(to_bytes(program), instructions).work(x)
    assert [(node.events, node.accumulates) for node in work] == counted(program, x)
    assert sum(node.events for node in work) > 1000
    height, width, _ = program.nodes[0].shape
    taps = (3 * height - 2) * (3 * width - 2)  # of a padded 3×3 kernel, inside of the image
    assert work[0].multiplies == 2 * taps * 3 * 70
    assert all(node.seconds >= 0 for node in work)
    assert sum(node.seconds for node in work) > 0


def test_an_input_that_does_not_fit_is_refused() -> None:
    program = random_program(0)
    engine, x = Engine(to_bytes(program)), random_images(program, 2, 0)
    with pytest.raises(EngineError, match=r"input of shape \[2, 3, 9, 8\]; give \[N, 9, 8, 3\]"):
        engine(x.transpose(0, 3, 1, 2))
    with pytest.raises(EngineError, match="4 steps are asked for; give 1 to 3"):
        engine(x, 4)
    stream = engine.stream(2)
    with pytest.raises(EngineError, match=r"input of shape \[1, 9, 8, 3\]; give \[2, 9, 8, 3\]"):
        stream.step(x[:1])
    for _ in range(STEPS):
        stream.step(x)
    with pytest.raises(EngineError, match="the network has 3 steps, and they are over"):
        stream.step(x)
    framed = random_program(0, static=False)
    frames = random_images(framed, 2, 0)
    with pytest.raises(EngineError, match="2 steps are asked for; give 3 to 3"):
        Engine(to_bytes(framed))(frames, 2)
    assert Engine(to_bytes(framed)).answer(frames, latest=1).steps_N.tolist() == [1, 1]


def test_networks_that_are_the_same_at_each_step_take_any_number() -> None:
    zero, one = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    layer = Layer("out", (1, 1, 2), "analog", (Synapse(0, "same", one),), zero, None)
    program = Program("tests", 2, "mean", Input((1, 1, 2), static=True), (layer,), 1)
    x = np.array([[[[1.0, 2.0]]]], np.float32)
    assert Engine(to_bytes(program))(x, 7).tolist() == [[[1.0, 2.0]]] * 7
    with pytest.raises(EngineError, match="70000 steps are asked for; give 1 to 65535"):
        Engine(to_bytes(program))(x, 70_000)


def test_instructions_are_chosen_by_name_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    content = to_bytes(random_program(0))
    assert Engine(content).instructions == INSTRUCTIONS[-1]
    monkeypatch.setenv("LEANSPIKE_INSTRUCTIONS", "plain")
    assert Engine(content).instructions == "plain"
    assert Engine(content, INSTRUCTIONS[-1]).instructions == INSTRUCTIONS[-1]
    with pytest.raises(EngineError, match="instructions is 'sse'; choose one of portable, plain"):
        Engine(content, "sse")
    monkeypatch.setenv("LEANSPIKE_INSTRUCTIONS", "sse")
    with pytest.raises(
        EngineError, match="LEANSPIKE_INSTRUCTIONS is 'sse'; choose one of portable, plain"
    ):
        Engine(content)


def busy(shape: tuple[int, int, int], wide: Synapse, read: tuple[int, int, int]) -> Program:
    """Neurons that all fire at each step, a synapse that reads them, and logits."""
    one = np.ones(1, np.float32)

    def none(outputs: int) -> Array:
        return np.zeros((1, outputs), np.float32)

    channels, size = shape[2], int(np.prod(read))
    same = Synapse(0, "same", none(channels) + 1)
    fires = Layer("0", shape, "spikes", (same,), none(channels), Neuron(one, one / 2))
    layer = Layer("1", read, "spikes", (wide,), none(read[2]), Neuron(one, one / 2))
    weights = np.ones((1, 1, size, 3), np.float32)
    head = Synapse(2, "linear", none(3) + 1, weights)
    out = Layer("2", (1, 1, 3), "analog", (head,), none(3), None)
    return Program("hand", 7, "sum", Input(shape, static=True), (fires, layer, out), 3)


def of_ones(kind: str, shape: tuple[int, ...]) -> Synapse:
    weights = np.ones(shape, np.float32)
    scale = np.ones((1, shape[-1]), np.float32)
    return Synapse(1, kind, scale, weights, padding=(shape[0] // 2,) * 2)  # type: ignore[arg-type]


ROWS = busy((1, 1, 1024), of_ones("linear", (1, 1, 1024, 64)), (1, 1, 64))
THIN = busy((8, 1, 128), of_ones("conv", (3, 3, 128, 64)), (8, 1, 64))
TALL = busy((25, 14, 128), of_ones("conv", (7, 7, 128, 64)), (25, 14, 64))
IMAGES = busy((8, 8, 256), of_ones("conv", (3, 3, 256, 64)), (8, 8, 64))


Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)
Share = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, Work, ctypes.c_void_p)


@Share
def one_by_one(_self: int, pieces: int, work: Any, data: int) -> None:
    for piece in range(pieces):
        work(data, piece)


class Team(ctypes.Structure):
    """``ls_team``: pieces of a layer, each with scratch of its own."""

    _fields_ = (("share", Share), ("self", ctypes.c_void_p))


@pytest.mark.parametrize("instructions", INSTRUCTIONS[1:])
@pytest.mark.parametrize("program", [ROWS, THIN, TALL], ids=["rows", "thin", "tall"])
def test_a_state_has_room_for_fewer_steps_than_it_was_made_for(
    program: Program, instructions: str
) -> None:
    engine = Engine(to_bytes(program), instructions)
    x = np.ones((1, *program.input.shape), np.float32)
    whole = engine(x, 7)[:, 0]
    room, guard = engine._library.ls_state_room(engine._program, 7), 1 << 18
    team = Team(one_by_one, None)
    memory = np.full(room + guard + 64, 0xA5, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: room + guard]
    for at_once in range(7, 0, -1):  # fewer steps at once make larger tiles of pixels
        state = engine._library.ls_begin(engine._program, 7, memory.ctypes.data, room)
        engine._library.ls_share(ctypes.c_void_p(state), ctypes.byref(team))
        logits = np.empty((at_once, 3), np.float32)
        addresses = x.ctypes.data, 0, at_once, logits.ctypes.data
        assert engine._library.ls_run(state, *addresses) == 0
        assert (memory[room:] == 0xA5).all(), at_once
        np.testing.assert_array_equal(logits, whole[:at_once])


def test_a_state_of_a_small_image_is_small() -> None:
    engine = Engine(to_bytes(IMAGES))
    assert engine._library.ls_state_room(engine._program, 5) < 6 << 20
