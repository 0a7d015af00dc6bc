"""A process that torchrun started: it joins the others, and they end together.

The first process speaks to people. What one of them fails at is said once, by that one; who only
lost another ends without a word. A mistake of the user's is not tried again.
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
    """Return how often the processes were started before, because one of them ended.

    >>> attempt()
    0
    """
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def join() -> Group:
    """Become one of the processes: by gloo on CPUs, by NCCL on GPUs, one GPU for each."""
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group(backend)
    return joined()


def work_as_one(work: Callable[[], None], tell: Callable[[str], None]) -> NoReturn:
    """Do the work among the others, and end the process.

    Args:
        work: what each process does; it may end in SystemExit.
        tell: shows people a line about a mistake of theirs.
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
        # The usual end of a process can wait for ever, or abort, while gloo's thread still runs.
        os._exit(status)


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Whatever is said goes nowhere."""
    with ExitStack() as stack:
        if quiet:
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


def _is_first_to_fail(refused: bool) -> bool:
    """Whether nobody has said yet why this attempt fails; it is this process's to say, then."""
    try:
        store = _store()
        if refused:
            store.set(REFUSED, "")
        return int(store.add(SAID.format(attempt()), 1)) == 1
    except Exception:
        return True


def _is_lost(error: Exception) -> bool:
    """Whether it says no more than that another process is gone."""
    if isinstance(error, distributed.DistError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("gloo" in words or "nccl" in words)


def _store() -> TCPStore:
    """Where the processes of a run leave notes, over all attempts."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=PATIENCE)
