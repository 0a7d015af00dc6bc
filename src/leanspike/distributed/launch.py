"""Starting several processes on this machine with torchrun's launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryDirectory

from leanspike.distributed.worker import LOST
from leanspike.errors import LeanspikeError

INTERRUPTED = 130


def launch(
    arguments: Sequence[str], processes: int, restarts: int, tell: Callable[[str], None]
) -> int:
    """Run ``leanspike`` with these arguments in several processes; return the exit status.

    Args:
        arguments: the arguments of the command line.
        processes: the number of processes.
        restarts: how often all processes begin again after one has ended unexpectedly. After a
            reported mistake they do not begin again.
        tell: the function that prints a line.

    Raises:
        LeanspikeError: if a process was killed, which it cannot report itself.
    """
    _share_cores(processes)
    logging.disable(logging.ERROR)  # the processes report errors themselves
    warnings.simplefilter("ignore")
    command = list(arguments)
    for attempt in range(restarts + 1):
        end = _run(command, processes)
        if isinstance(end, int):
            return end
        if attempt < restarts:
            tell(f"{end}; all resume from the last checkpoint ({attempt + 1} of {restarts})")
        command = [word for word in command if word != "--fresh"]  # the folder is this run's now
    raise LeanspikeError(
        f"{end}; give the same command without --fresh to resume from the last checkpoint, or add "
        "--restarts 3 (after SIGKILL check that memory is enough for all processes)"
    )


def _run(command: Sequence[str], processes: int) -> int | str:
    """Return the exit status, or in words the end of a process that could not report it."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with TemporaryDirectory(prefix="leanspike-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "leanspike", *command)
        except SignalException:
            return INTERRUPTED
        except ChildFailedError as error:
            return end_of({rank: each.exitcode for rank, each in error.failures.items()}, processes)
    return 0


def _share_cores(processes: int) -> None:
    """Give each process its part of the cores, unless the number of threads is set."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))


def end_of(codes: Mapping[int, int], processes: int) -> int | str:
    """Return a process's exit status if it reported the reason, else in words what happened.

    >>> end_of({0: LOST, 1: -9}, 2), end_of({1: 1}, 2)
    ('process 1 of 2 was ended by SIGKILL', 1)
    """
    told = [code for code in codes.values() if code > 0 and code != LOST]
    if told:
        return told[0]
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    if not killed:
        return f"a process of {processes} was lost"
    # The launcher itself ends the others by SIGTERM.
    rank = min(killed, key=lambda each: killed[each] == signal.SIGTERM)
    return f"process {rank} of {processes} was ended by {signal.Signals(killed[rank]).name}"
