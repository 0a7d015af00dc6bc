"""Starting several processes on this machine, by the launcher that torchrun is made of."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from leanspike.distributed.worker import LOST
from leanspike.errors import LeanspikeError

INTERRUPTED = 130


def launch(arguments: Sequence[str], processes: int, restarts: int) -> int:
    """Run ``leanspike`` with these arguments in several processes; the exit status.

    Args:
        arguments: of the command line.
        processes: how many.
        restarts: how often all of them begin again after one has ended unasked.

    Raises:
        LeanspikeError: for a process that was killed, which nobody else can tell of.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _share_cores(processes)
    logging.disable(logging.ERROR)  # the processes say themselves what is to be said
    warnings.simplefilter("ignore")
    with TemporaryDirectory(prefix="leanspike-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=restarts,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "leanspike", *arguments)
        except SignalException:
            return INTERRUPTED
        except ChildFailedError as error:
            return _status(error, processes)
    return 0


def _share_cores(processes: int) -> None:
    """Each process gets its part of the cores, unless somebody has said how many threads."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))


def _status(error: Exception, processes: int) -> int:
    """The exit status of processes that failed; raises where none of them could say why."""
    failures = vars(error)["failures"]
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    said = [code for code in codes.values() if code > 0 and code != LOST]
    if said:
        return int(said[0])
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    # The launcher itself ends the others by SIGTERM.
    rank = min(killed or codes, key=lambda each: killed.get(each) == signal.SIGTERM)
    how = f"was ended by {signal.Signals(killed[rank]).name}" if killed else "lost the others"
    raise LeanspikeError(
        f"process {rank} of {processes} {how}; the same command goes on from the last checkpoint, "
        "and --restarts 3 does so by itself (SIGKILL: is there memory enough for all of them?)"
    )
