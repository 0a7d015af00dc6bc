"""Reads damaged files in a process that can start nothing, write nowhere, and has little memory."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import shutil
import signal
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLOOR_BYTES = 64 * 2**20
"""What any read may ask for, besides ten times its file."""
PROCESSOR_S, WALL_S = 10, 120
"""How long a read may take: of the processor, and in all on a busy machine."""
FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"),
    *("os.spawn", "pty.spawn", "socket.connect", "socket.bind", "socket.getaddrinfo"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.putenv", "pickle.find_class", "webbrowser.open"),
)
"""What Python tells its auditors, and no reader has a reason to do."""
WANTING = (
    *("memoryerror", "can't allocate", "cannot allocate", "unable to allocate", "out of memory"),
    *("memory allocation failed", "bad_alloc", "insufficient memory"),
)
"""What errors say where memory has ended, in lower case."""
CANARY = "strangers_code"
"""A module on the path that says when it is imported; hostile files name it."""

Read = Callable[[Path], object]
File = tuple[int, str, bytes]
"""Number, name, content."""


@dataclass(frozen=True)
class Guarded:
    """A reader, the errors that it may raise, a file that it reads, and what lies beside each.

    The whole file is read first: what a reader loads and keeps, it has then.
    """

    read: Read
    right: tuple[type, ...]
    whole: tuple[str, bytes]
    beside: Mapping[str, bytes]


@dataclass(frozen=True)
class Ended:
    """How one read ended: "read", "refused", or what should not be; and what was said."""

    number: int
    how: str
    said: str = ""

    @property
    def good(self) -> bool:
        return self.how in ("read", "refused")


def read_all(files: Iterator[File], guarded: Guarded) -> Iterator[Ended]:
    """How each of ``files`` ended.

    A process reads one after another; where it ends, by a crash or for want of patience, the next
    one goes on.
    """
    waiting = list(files)
    with tempfile.TemporaryDirectory(prefix="leanspike-faults-") as folder:
        (Path(folder) / f"{CANARY}.py").write_text("raise SystemExit('imported')\n")
        while waiting:
            done = yield from _worker(waiting, guarded, Path(folder))
            waiting = waiting[done:]


def _worker(files: list[File], guarded: Guarded, folder: Path) -> Generator[Ended, None, int]:
    """Reads until the end or until it is ended; returns how many are done with."""
    source, target = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(source)
        with os.fdopen(target, "w") as told:
            _read_here(files, guarded, folder, lambda ended: print(ended, file=told, flush=True))
        os._exit(0)
    os.close(target)
    done = 0
    with os.fdopen(source) as answers:
        for line in answers:
            yield Ended(*json.loads(line))
            done += 1
    _, status = os.waitpid(process, 0)
    if done < len(files):
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        how = {signal.SIGPROF: "hang", signal.SIGALRM: "hang", signal.SIGSYS: "started a process"}
        name = (
            "exited" if ended is None else how.get(ended, f"crash ({signal.Signals(ended).name})")
        )
        yield Ended(files[done][0], name)
        done += 1
    return done


def _read_here(
    files: list[File], guarded: Guarded, folder: Path, tell: Callable[[str], None]
) -> None:
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    os.chdir(empty)
    sys.path.insert(0, str(folder))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    with suppress(Exception):
        _within_limits(_written(folder / "whole", guarded.whole, guarded.beside), 2**40, guarded)
    done: list[str] = []
    _forbid_processes()
    ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX: a thread's own arena would take 64 MiB at once
    sys.addaudithook(lambda event, arguments: _audit(event, arguments, done))
    for number, name, content in files:
        path = _written(folder / str(number), (name, content), guarded.beside)
        done.clear()
        how, said = _within_limits(path, len(content), guarded)
        if done or any(empty.iterdir()):
            how, said = "did something", f"{done} {list(empty.iterdir())}"
        shutil.rmtree(folder / str(number))
        tell(json.dumps([number, how, said[:500]]))


def _written(place: Path, file: tuple[str, bytes], beside: Mapping[str, bytes]) -> Path:
    """The path of a file that is written beside the others."""
    name, content = file
    for other, whole in {**beside, name: content}.items():
        (place / other).parent.mkdir(parents=True, exist_ok=True)
        (place / other).write_bytes(whole)
    return place / name


def _within_limits(path: Path, size: int, guarded: Guarded) -> tuple[str, str]:
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    room = _address_space() + FLOOR_BYTES + 10 * size
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
    signal.alarm(WALL_S)
    resource.setrlimit(resource.RLIMIT_AS, (room, most))
    try:
        return _one(path, guarded.read, guarded.right)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def _one(path: Path, read: Read, right: tuple[type, ...]) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except BaseException as error:
        said = str(error)
        if _asked_for_too_much(error):
            return "too much memory", said
        if not isinstance(error, right):
            return f"another error ({type(error).__name__})", said
        if not said.strip() or len(said.splitlines()) > 1:
            return "not one line", said
        return "refused", said
    return "read", ""


def _asked_for_too_much(error: BaseException | None) -> bool:
    """Whether memory ended somewhere on the way, whatever the reader made of it."""
    while error is not None:
        said = f"{type(error).__name__} {error}".lower()
        if any(words in said for words in WANTING):
            return True
        error = error.__cause__ or error.__context__
    return False


def _audit(event: str, arguments: tuple[Any, ...], done: list[str]) -> None:
    if event == "open":
        name, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and not isinstance(name, int) and name != os.devnull:
            done.append(f"open {name} {mode}")
    elif event in FORBIDDEN or (event == "import" and arguments[0] == CANARY):
        done.append(f"{event} {arguments!r:.200}")


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("rows", ctypes.c_char_p))


def _forbid_processes() -> bool:
    """The kernel ends whoever executes a program or forks, in C, too; where it can be asked to."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return False
    load, equal, bits, answer = 0x20, 0x15, 0x45, 0x06
    kill, allow, missing = 0x80000000, 0x7FFF0000, 0x00050026
    clone, clone3, thread = 56, 435, 0x00010000
    calls = (57, 58, 59, 322)  # fork, vfork, execve, execveat
    rows = [(load, 0, 0, 0)]
    rows += [(equal, len(calls) - n + 4, 0, call) for n, call in enumerate(calls)]
    rows += [(equal, 5, 0, clone3), (equal, 0, 2, clone)]
    rows += [(load, 0, 0, 16), (bits, 0, 1, thread), (answer, 0, 0, allow)]
    rows += [(answer, 0, 0, kill), (answer, 0, 0, missing)]
    code = b"".join(struct.pack("<HBBI", *row) for row in rows)
    program = _Program(
        len(rows), ctypes.cast(ctypes.create_string_buffer(code, len(code)), ctypes.c_char_p)
    )
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        return False
    return system.prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # PR_SET_SECCOMP, filter
