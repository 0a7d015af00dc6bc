"""Two files of C99 are the engine: they compile without a warning, allocate nothing, and answer.

And files of each version, whoever wrote them, are read for ever and give the same answers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from leanspike_runtime import Engine, EngineError, Reference, from_bytes, load, to_bytes
from leanspike_runtime.library import available_instructions, what_is_missing
from tests.engine import version1
from tests.runtime.programs import random_program

if what_is_missing():
    pytest.skip(what_is_missing(), allow_module_level=True)

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "src" / "engine"
EXAMPLE = ROOT / "examples" / "c" / "answer.c"
FILE = Path(__file__).with_name("version1.leanspike")
COMPILER = shutil.which("cc")
PORTABLE = ("-std=c99", "-Os", "-Wall", "-Wextra", "-pedantic", "-Wshadow", "-Werror")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of the two files and of the example, and the program made of these."""
    folder = tmp_path_factory.mktemp("portable")
    for path in (ENGINE / "leanspike.h", ENGINE / "leanspike.c", EXAMPLE):
        shutil.copy(path, folder)
    compile_with = (COMPILER or "cc", *PORTABLE)
    done = run(*compile_with, "-c", folder / "leanspike.c", "-o", folder / "engine.o")
    assert (done.returncode, done.stderr) == (0, "")
    code = (folder / "answer.c", folder / "engine.o")
    done = run(*compile_with, *code, "-lm", "-o", folder / "answer")
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_the_example_has_40_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


@pytest.mark.slow
@needs_compiler
def test_the_example_compiles_as_it_says(built: Path) -> None:
    text = EXAMPLE.read_text()
    command = text.splitlines()[1].removeprefix(" * ").removesuffix(" */").split()
    assert command[-2:] == ["-o", "answer"]
    done = subprocess.run([*command[:-1], built / "as_it_says"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0


@needs_compiler
@pytest.mark.parametrize("dialect", ["c99", "c11", "gnu99", "gnu17"])
def test_it_compiles_in_every_dialect(dialect: str, tmp_path: Path) -> None:
    """What libc declares without -std=c99, as ``finite``, is no name of ours."""
    code = (ENGINE / "leanspike.c", EXAMPLE)
    flags = (f"-std={dialect}", "-O0", "-Wall", "-Wextra", "-Werror", "-I", ENGINE)
    done = run(COMPILER or "cc", *flags, *code, "-lm", "-o", tmp_path / "answer")
    assert (done.returncode, done.stderr) == (0, "")


ARM = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64")


@pytest.mark.slow
@pytest.mark.skipif(not (ARM and EMULATOR), reason="no compiler for ARM, or no qemu-user")
def test_arm_gives_the_same_answers(built: Path, tmp_path: Path) -> None:
    """Compiled for ARM, whose vectors are NEON's, and run in an emulator: example and leaves."""
    compile_with = (ARM or "", "-std=c11", "-O2", "-ffp-contract=off", "-static", "-I", ENGINE)
    example = (EXAMPLE, ENGINE / "leanspike.c")
    leaves = (ROOT / "tests" / "engine" / "leaves.c", *sorted(ENGINE.glob("*.c")))
    for name, code in (("answer", example), ("leaves", leaves)):
        done = run(*compile_with, *code, "-lpthread", "-lm", "-o", tmp_path / name)
        assert (done.returncode, done.stderr) == (0, "")
    for image in version1.images():
        image.tofile(tmp_path / "image")
        here = run(built / "answer", FILE, tmp_path / "image")
        there = run(EMULATOR or "", tmp_path / "answer", FILE, tmp_path / "image")
        assert here.stdout.startswith("class ")
        assert (there.returncode, there.stdout) == (0, here.stdout)
    done = run(EMULATOR or "", tmp_path / "leaves", "1", "60")
    assert (done.returncode, done.stderr) == (0, "")


@needs_compiler
def test_the_code_is_small_and_asks_libc_for_no_memory(built: Path) -> None:
    assert (built / "engine.o").stat().st_size < 200_000
    wanted = {line.split()[-1] for line in run("nm", "-u", built / "engine.o").stdout.splitlines()}
    assert "expf" in wanted  # nm shows what it should
    memory = {"malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "mmap"}
    assert wanted & memory == set()
    assert wanted & {"fopen", "open", "pthread_create", "printf", "exit", "abort"} == set()
    assert not [line for line in run("nm", built / "engine.o").stdout.split("\n") if " B " in line]


@needs_compiler
def test_the_example_answers_as_the_reference(built: Path, tmp_path: Path) -> None:
    logits_TNK, _ = Reference(load(FILE)).run(version1.images())
    means_TNK = np.cumsum(logits_TNK, 0) / np.arange(1, 4)[:, None, None]
    for number, image in enumerate(version1.images()):
        image.tofile(tmp_path / "image")
        told = run(built / "answer", FILE, tmp_path / "image").stdout
        found = re.fullmatch(r"class (\d) (.*), logit (.*), after (\d) of 3 steps\n", told)
        assert found, told
        answer_K = means_TNK[int(found[4]) - 1, number]
        assert int(found[1]) == answer_K.argmax()
        assert found[2] == ("cat", "dog", "a bird")[answer_K.argmax()]
        assert float(found[3]) == pytest.approx(answer_K.max(), rel=1e-4)


@needs_compiler
def test_the_example_says_what_is_wrong(built: Path, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(8))
    (tmp_path / "cut").write_bytes(FILE.read_bytes()[:-1])
    answer = built / "answer"
    assert run(answer).stderr == "use: answer NETWORK.leanspike IMAGE\n"
    assert run(answer, FILE, tmp_path / "image").stderr == "give an image of 160 bytes\n"
    cut = run(answer, tmp_path / "cut", tmp_path / "image")
    assert f"{tmp_path / 'cut'}: the file is cut or longer than it says" in cut.stderr
    assert run(answer, "nowhere", tmp_path / "image").stderr.startswith("nowhere: No such file")
    assert {run(answer).returncode, cut.returncode} == {1}


@pytest.mark.parametrize("instructions", available_instructions())
def test_a_file_of_version_1_gives_its_answers(instructions: str) -> None:
    expected_TNK = np.loadtxt(FILE.with_suffix(".logits"), dtype=np.float32).reshape(3, 2, 3)
    logits_TNK = Engine.load(FILE, instructions)(version1.images())
    assert np.allclose(logits_TNK, expected_TNK, rtol=1e-5, atol=1e-6)
    reference_TNK, _ = Reference(load(FILE)).run(version1.images())
    assert np.allclose(reference_TNK, expected_TNK, rtol=1e-5, atol=1e-6)


def test_what_writes_version_1_writes_that_file() -> None:
    assert to_bytes(version1.program()) == FILE.read_bytes()


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz"
    flags = "-std=c11 -O1 -g -ffp-contract=off -fsanitize=address,undefined"
    code = [ROOT / "tests" / "engine" / "fuzz.c", *sorted(ENGINE.glob("*.c"))]
    done = run(
        COMPILER or "cc",
        *flags.split(),
        "-fno-sanitize-recover=all",
        *code,
        "-o",
        program,
        "-lpthread",
        "-lm",
    )
    assert (done.returncode, done.stderr) == (0, "")
    return program


@pytest.mark.slow
@needs_compiler
def test_10000_changed_files_end_in_one_line_or_in_the_right_answer(
    fuzz: Path, tmp_path: Path, new_seed: int
) -> None:
    other = tmp_path / "other.leanspike"
    other.write_bytes(to_bytes(random_program(4, static=False)))
    for file, rounds in ((FILE, 9_000), (other, 1_000)):
        kept = tmp_path / f"kept_{file.stem}"
        kept.mkdir()
        done = run(fuzz, str(new_seed), str(rounds), file, kept)
        assert done.returncode == 0, done.stderr
        assert f"{rounds} changed files" in done.stdout
        taken = list(kept.glob("*.leanspike"))
        assert 100 <= len(taken) <= 200  # it keeps no more; of 1,000 it takes about 180
        for path in taken:
            compare(path)


def compare(path: Path) -> None:
    """What the engine took and computed, with the reader and the reference in Python."""
    program = from_bytes(path.read_bytes())
    logits_TK = np.fromfile(path.with_suffix(".logits"), np.float32)
    image = np.fromfile(path.with_suffix(".image"), np.float32)
    steps = min(program.timesteps, 3)
    shape = (1, *program.input.shape) if program.input.static else (steps, 1, *program.input.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        expected_TNK, _ = Reference(program).run(image.reshape(shape), steps)
    scale = max(1.0, float(np.abs(expected_TNK).max()))
    if np.isfinite(scale):
        assert np.allclose(logits_TK, expected_TNK.ravel(), rtol=1e-4, atol=1e-5 * scale), path


def test_an_error_of_the_reader_is_one_line() -> None:
    with pytest.raises(EngineError, match=r"^the file is cut or longer than it says \(99 bytes\)"):
        Engine(FILE.read_bytes()[:99])
