"""The other end of `cases`: a section's process is watched, ended where it hangs, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from queue import Empty, Queue
from threading import Thread
from typing import Any, BinaryIO, final

from benchmarks.gpu.cases import SECTIONS, Options

STARTING = 120.0
"""Seconds that a process may take until its first word."""

NO_TIME = "no time left"

Row = dict[str, Any]


def rows_of(
    section: str, options: Options, until: float, log: BinaryIO, environment: Mapping[str, str]
) -> Iterator[Row]:
    """The row of each case as it comes: a failure where it takes too long or its process dies.

    ``section`` is one of ``SECTIONS``, or a module. Cases for which no time is left by ``until``
    (of ``time.monotonic``) are rows, too.
    """
    passed: list[str] = []
    names: list[str] = []
    if time.monotonic() >= until:
        yield _failure("start", NO_TIME) | {"section": section, "ok": None}
        return
    while True:
        with Watched(section, options, passed, log, environment) as process:
            for row in process.rows(until):
                passed.append(row["name"])
                yield row | {"section": section}
            names = process.names or names
        if process.is_done or time.monotonic() >= until or not process.names:
            break
    for name in names:
        if name not in passed:
            yield _failure(name, NO_TIME) | {"section": section, "ok": None}


@final
class Watched:
    """One process of a section."""

    def __init__(
        self,
        section: str,
        options: Options,
        left_out: list[str],
        log: BinaryIO,
        environment: Mapping[str, str],
    ) -> None:
        module = SECTIONS.get(section, section)
        command = [sys.executable, "-m", "benchmarks.gpu.cases", module]
        command += [json.dumps(asdict(options)), *left_out]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            env=dict(environment),
            start_new_session=True,  # so that those that it starts end with it
        )
        self.names: list[str] = []
        self.is_done = False
        self._told: Queue[dict[str, Any] | None] = Queue()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._listener.join()

    def rows(self, until: float) -> Iterator[Row]:
        """Rows until it is done, or was given up."""
        case: str | None = "start"
        limit = STARTING
        begun = time.monotonic()
        while True:
            ends = min(begun + limit, until)
            try:
                message = self._told.get(timeout=max(0.0, ends - time.monotonic()))
            except Empty:
                hangs = ends < until
                why = f"{'given up' if hangs else NO_TIME} after {time.monotonic() - begun:.0f} s"
                yield _failure(case or "end", why) | {"ok": False if hangs else None}
                return
            if message is None:
                if case is not None:
                    yield _failure(case, f"its process ended with {self.process.wait()}")
                return
            if "row" in message:
                case = None
                yield message["row"]
            self.is_done = "done" in message
            if self.is_done:
                return
            self.names = message.get("cases", self.names)
            if "begins" in message:
                case, limit, begun = message["begins"], message["limit"], time.monotonic()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._told.put(json.loads(line))
        self._told.put(None)


def _failure(name: str, why: str) -> Row:
    return {"name": name, "figure": why, "detail": "", "ok": False, "values": {}, "seconds": None}
