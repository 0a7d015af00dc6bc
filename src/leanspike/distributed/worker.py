"""A process that torchrun started, which joins the others. All of them end together.

The first process prints. The process that fails reports its failure once. Processes that only lost
another one end silently. After a mistake of the user's they do not begin again.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
from torch import distributed
from torch._C._distributed_c10d import TCPStore

from leanspike.distributed.group import Group, joined
from leanspike.errors import LeanspikeError

LOST = 75
"""The exit status of a process that lost another one."""
SAID, REFUSED = "leanspike/said/{}", "leanspike/refused"
PATIENCE = timedelta(seconds=10)


def attempt() -> int:
    """Return how often the processes were restarted after one of them ended.

    >>> attempt()
    0
    """
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def join() -> Group:
    """Join the processes, by gloo on CPUs, or by NCCL on GPUs with a GPU for each."""
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group(backend)
    return joined()


def work_as_one(work: Callable[[], None], tell: Callable[[str], None]) -> NoReturn:
    """Do the work together with the others, and end the process.

    Args:
        work: the work of each process, which may end in SystemExit.
        tell: the function that prints a line about a mistake of the user's.
    """
    status = 1
    try:
        if attempt() and _store().check([REFUSED]):
            os._exit(status)  # it would fail again
        with _quiet(os.environ["RANK"] != "0"):
            join()
            work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except LeanspikeError as error:
        if _is_first_to_fail(refused=True):
            tell(str(error))
    except Exception as error:
        if _is_lost(error):
            status = LOST
        elif _is_first_to_fail(refused=False):
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # A normal exit can wait for ever, or abort, while gloo's thread still runs.
        os._exit(status)


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Discard all output inside the context."""
    with ExitStack() as stack:
        if quiet:
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


def _is_first_to_fail(refused: bool) -> bool:
    """Whether no process has reported yet why this attempt fails, so this one must."""
    try:
        store = _store()
        if refused:
            store.set(REFUSED, "")
        return int(store.add(SAID.format(attempt()), 1)) == 1
    except Exception:
        return True


def _is_lost(error: Exception) -> bool:
    """Whether an error means only that another process is gone."""
    if isinstance(error, distributed.DistError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("gloo" in words or "nccl" in words)


def _store() -> TCPStore:
    """Return the store in which the processes of a run leave notes, over all attempts."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=PATIENCE)
