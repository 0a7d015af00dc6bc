"""What is done to a run: killed, stopped, no room, no folder, no memory, a clock that jumps."""

from __future__ import annotations

import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.breaking import runs
from benchmarks.breaking.runs import Attempt, train

Ends = Iterator[tuple[str, str]]
"""How each try ended ("" where it is right), and what it was."""


@functools.cache
def undisturbed() -> dict[str, object]:
    """What the run ends with that nothing is done to."""
    runs.warm()
    with tempfile.TemporaryDirectory(prefix="leanspike-faults-") as folder:
        whole = Path(folder) / "whole"
        attempt = train(whole)
        if attempt.code:
            raise RuntimeError(f"the undisturbed run fails: {attempt.said[-500:]}")
        return runs.bits(whole)


@contextmanager
def place() -> Iterator[tuple[Path, dict[str, object]]]:
    """A folder, and what an undisturbed run in it ends with."""
    expected = undisturbed()
    with tempfile.TemporaryDirectory(prefix="leanspike-faults-") as folder:
        yield Path(folder), expected


def _goes_on(folder: Path, expected: dict[str, object]) -> str:
    """What is wrong with the end of a run that is given the same command again."""
    attempt = train(folder)
    if attempt.code or attempt.errors:
        return f"does not go on: {attempt.code}: {attempt.errors or attempt.said[-300:]}"
    found = runs.bits(folder)
    other = [name for name in expected if found[name] != expected[name]]
    return f"other bits: {', '.join(other)}" if other else ""


def killed(count: int, seed: int) -> Ends:
    """SIGKILL at random moments, until so many processes were killed."""
    draw = random.Random(f"killed {seed}")
    with place() as (folder, expected):
        kills, run = 0, 0
        while kills < count:
            run += 1
            out, here = folder / f"run{run}", 0
            while kills < count and here < 12:
                attempt = train(out, stop=(draw.uniform(0, 1.2), signal.SIGKILL))
                if attempt.code != -signal.SIGKILL:
                    break
                kills, here = kills + 1, here + 1
            wrong = _goes_on(out, expected)
            shutil.rmtree(out)
            yield from [(wrong, "went on to the same bits")] * here


def stopped(count: int, seed: int) -> Ends:
    """SIGTERM and Ctrl-C, in turn, at random moments of the training."""
    draw = random.Random(f"stopped {seed}")
    with place() as (folder, expected):
        for number in range(count):
            out = folder / f"run{number}"
            which, code = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[number % 2]
            attempt = train(out, stop=(draw.uniform(0.02, 1.0), which))
            last = attempt.said.strip().splitlines()[-1:] or [""]
            wrong = ""
            if attempt.code not in (0, code) or attempt.errors:
                wrong = f"{which.name}: code {attempt.code}, {attempt.errors or last}"
            elif attempt.code and "same command" not in last[0]:
                wrong = f"{which.name}: says {last}"
            yield wrong or _goes_on(out, expected), f"{which.name} ({code}), went on"
            shutil.rmtree(out, ignore_errors=True)


def disk_full(count: int, seed: int) -> Ends:
    """No file can grow beyond some bytes: less than the run's largest one needs."""
    draw = random.Random(f"disk_full {seed}")
    with place() as (folder, expected):
        for number in range(count):
            size = round(10 ** draw.uniform(2.5, 4.3))

            def limited(size: int = size) -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

            out = folder / f"run{number}"
            attempt = train(out, inside=_logging_elsewhere(limited))
            yield _said(attempt, "cannot write") or _goes_on(out, expected), "said, went on"
            shutil.rmtree(out)


def _logging_elsewhere(limit: Callable[[], None]) -> Callable[[], None]:
    """What is printed goes through a pipe, which no limit of files is about."""

    def inside() -> None:
        source, target = os.pipe()
        log = os.dup(2)
        if os.fork() == 0:
            os.close(target)
            while part := os.read(source, 1 << 16):
                os.write(log, part)
            os._exit(0)
        os.close(source)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        limit()

    return inside


def _said(attempt: Attempt, words: str) -> str:
    """What is wrong with an error that should be one line with these words, and the code 1."""
    time.sleep(0.05)
    lines = attempt.errors
    if attempt.code != 1 or len(lines) != 1 or words not in lines[0]:
        return f"code {attempt.code}, {lines or attempt.said[-300:]}"
    return ""


def small_disk(count: int, seed: int) -> Ends:
    """A file system of a few pages, which only root may mount."""
    draw = random.Random(f"small_disk {seed}")
    with place() as (folder, expected):
        for number in range(count):
            disk = folder / f"disk{number}"
            disk.mkdir()
            size = f"size={draw.randrange(24, 96)}k"
            mount = ["mount", "-t", "tmpfs", "-o", size, "none", str(disk)]
            if subprocess.run(mount, capture_output=True).returncode:
                return
            try:
                attempt = train(disk / "run", inside=lambda: None)
                wrong = _said(attempt, "cannot write") if attempt.code else ""
                subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
                yield wrong or _goes_on(disk / "run", expected), "said, went on"
            finally:
                subprocess.run(["umount", str(disk)], check=True)


def folder_taken(count: int, seed: int) -> Ends:
    """The folder is read-only, or gone, from some moment on."""
    draw = random.Random(f"folder_taken {seed}")
    with place() as (folder, expected):
        for number in range(count):
            out, gone = folder / f"run{number}", number % 2 == 1
            steps = draw.randrange(1, 12)

            def inside(out: Path = out, gone: bool = gone, steps: int = steps) -> None:
                _after_checkpoints(steps, lambda: _take(out, gone))

            attempt = train(out, inside=inside)
            wrong = _said(attempt, str(out))
            if not gone and not wrong:
                _give(out)
                wrong = _goes_on(out, expected)
            elif gone and not wrong and out.exists():
                wrong = f"made the folder anew: {sorted(path.name for path in out.iterdir())}"
            yield wrong, "removed: said" if gone else "read-only: said, went on"
            shutil.rmtree(out, ignore_errors=True)


def _after_checkpoints(count: int, then: Callable[[], None]) -> None:
    """Call ``then`` after so many checkpoints."""
    from leanspike.train import Checkpoints

    save, seen = Checkpoints.save, Counter[str]()

    def counting(self: Checkpoints, content: dict[str, object]) -> None:
        save(self, content)
        seen["checkpoints"] += 1
        if seen["checkpoints"] == count:
            then()

    Checkpoints.save = counting  # type: ignore[method-assign]


def _take(folder: Path, gone: bool) -> None:
    if gone:
        shutil.rmtree(folder)
        return
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o555)
    if os.geteuid() == 0:  # whom no mode stops
        os.chmod(folder.parent, 0o755)
        os.chown(folder, 0, 0)
        os.setegid(65534)
        os.seteuid(65534)


def _give(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def memory_ends(count: int, _: int) -> Ends:
    """A layer that no memory has room for; nothing is left in its folder."""
    with place() as (folder, _unused):
        for number in range(count):
            out = folder / f"run{number}"
            attempt = train(out, [f"model.options.hidden=[{10 ** (10 + number)}]"])
            yield _said(attempt, "batch_size"), "said with what to lower"
            shutil.rmtree(out, ignore_errors=True)


def clock_jumps(count: int, seed: int) -> Ends:
    """The time of day goes back and forth by years."""

    def jumping() -> None:
        draw = random.Random(f"clock_jumps {seed}")
        time.time = lambda: 1.7e9 + draw.uniform(-1e9, 1e9)
        time.time_ns = lambda: int(time.time() * 1e9)

    with place() as (folder, expected):
        for number in range(count):
            out = folder / f"run{number}"
            attempt = train(out, inside=jumping)
            wrong = f"{attempt.code}: {attempt.errors}" if attempt.code or attempt.errors else ""
            yield wrong or _goes_on(out, expected), "the same bits"
            shutil.rmtree(out)


KINDS: dict[str, tuple[Callable[[int, int], Ends], int, int]] = {
    "SIGKILL at a random moment": (killed, 200, 3),
    "SIGTERM and Ctrl-C": (stopped, 40, 2),
    "files limited in size": (disk_full, 20, 1),
    "a disk of some pages": (small_disk, 12, 1),
    "the folder read-only or removed": (folder_taken, 20, 2),
    "memory ends": (memory_ends, 3, 1),
    "a clock that jumps": (clock_jumps, 3, 1),
}
"""What is done, how often, and how often in short."""
