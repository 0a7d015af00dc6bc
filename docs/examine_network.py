"""Whether a network of timm or torchvision converts, as it is or by the advice of its refusal."""

from __future__ import annotations

import logging
import multiprocessing
import operator
import re
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.evaluation import OperationCounter

SECONDS = 600
BYTES = 20 * 2**30
"""Of addresses, of which a process that has imported torch holds about 5 GiB."""
SIDES = (32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 288, 299, 320, 384, 448, 512, 1024)
CODE = r"(?:activations=\([^()]*\)|ops=\{[^{}]*\})"
ADVICE = re.compile(rf"{CODE}(?:, {CODE})*")
TIMESTEPS = 2
MEMORY = ("memory ended", "allocate memory")


def build(name: str) -> nn.Module:
    """The network ``timm:NAME`` or ``torchvision:NAME`` with weights that leave no part out."""
    library, _, model = name.partition(":")
    torch.manual_seed(0)
    if library == "timm":
        ann = timm.create_model(model, pretrained=False)
    else:
        ann = torchvision.models.get_model(model, weights=None)
    stir(ann)
    return ann.eval()


@torch.no_grad()
def stir(ann: nn.Module) -> None:
    """Move what begins at 0, at 1 or at a millionth, as the scales of residual branches do."""
    for parameter in ann.parameters():
        if parameter.dim() <= 1 or parameter.std() == 0:
            parameter.add_(0.1 * torch.randn_like(parameter))
    for path, buffer in ann.named_buffers():
        if path.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if path.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)


def example(ann: nn.Module, name: str) -> Tensor:
    """The smallest image that the network takes; a clip of 16 for a network of videos."""
    video = name.partition(":")[2] in torchvision.models.list_models(torchvision.models.video)
    frames = (16,) if video else ()
    for side in SIDES:
        x = torch.rand(1, 3, *frames, side, side)
        try:
            with torch.no_grad():
                deepcopy(ann)(x)  # some keep what they computed in eval mode
                return x
        except Exception:
            continue
    raise RuntimeError(f"{name} takes no image of a side of {SIDES}")


def advice_in(message: str, ann: nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each piece of advice that a refusal spells out, as code and as arguments of ``spike``."""
    known: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "operator": operator}
    for place in (operator, torch, F):
        known.update({key: value for key, value in vars(place).items() if callable(value)})
    known.update({type(module).__name__: type(module) for module in ann.modules()})
    for code in ADVICE.findall(message):
        try:
            yield code, eval(f"dict({code})", known)
        except (NameError, SyntaxError):
            continue


def attempt(ann: nn.Module, x: Tensor, **given: Any) -> Exception | None:
    """Why the network does not convert with these arguments; None where it does."""
    try:
        snn = ls.spike(ann, example_input=x, timesteps=TIMESTEPS, **given).eval()
        check_steps(snn, x)
        check_energy(snn, x)
        check_saved(snn, ann, x)
    except ls.LeanspikeError as error:
        ended = any(words in str(error) for words in MEMORY)
        return WrongError("needs more memory") if ended else error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return WrongError(f"{type(error).__name__} ({place}): {' '.join(str(error).split())[:300]}")
    return None


class WrongError(Exception):
    """What no refusal announced."""


def close(what: str, given: Tensor, expected: Tensor) -> None:
    """Raise unless two answers agree to rounding, the largest entry being the scale."""
    if not expected.isfinite().all():
        raise WrongError("the ANN's own answer is not finite")
    if given.shape != expected.shape:
        raise WrongError(f"{what}: {tuple(given.shape)}, {tuple(expected.shape)}")
    off = float((given - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not off < 1e-3:
        raise WrongError(f"{what}: off by {off:.1e} of the largest")


@torch.no_grad()
def check_steps(snn: ls.SpikingNetwork, x: Tensor) -> None:
    """Step by step is the whole sequence; in double precision no spike hangs on rounding."""
    try:
        snn = snn.double()
        x = x.double()
        whole, state = snn(x), None
    except RuntimeError:
        snn, x = snn.float(), x.float()
        whole, state = snn(x), None
    for y in whole:
        step, state = snn.step(x, state)
        close("step by step", step, y)
    snn.float()


@torch.no_grad()
def check_energy(snn: ls.SpikingNetwork, x: Tensor) -> None:
    """Every weight that multiplies a signal is in the table of operations."""
    counter = OperationCounter(snn)
    counter.begin_batch(1)
    snn.run(x, observer=counter)
    left = counter.uncounted()
    if left:
        raise WrongError(f"not in the energy: {left[0].path}, {len(left)} in all")


@torch.no_grad()
def check_saved(snn: ls.SpikingNetwork, ann: nn.Module, x: Tensor) -> None:
    """What is saved loads, and answers the same."""
    with tempfile.TemporaryDirectory() as folder:
        same = ls.load(ls.save(snn, folder), ann=ann)
    close("saved and loaded", same(x), snn(x))


def examine(name: str) -> dict[str, Any]:
    """What becomes of one network, by following one piece of advice after another."""
    ann = build(name)
    x = example(ann, name)
    row: dict[str, Any] = {"name": name, "side": x.shape[-1]}
    row["parameters"] = sum(p.numel() for p in ann.parameters())
    why = attempt(ann, x)
    if why is None:
        return {**row, "verdict": "as it is"}
    row["why"] = str(why)
    if not isinstance(why, ls.LeanspikeError):
        return {**row, "verdict": "fails"}
    for code, given in reversed(list(advice_in(str(why), ann))):
        left = attempt(ann, x, **given)
        if left is None:
            return {**row, "verdict": "by advice", "advice": code}
        if not isinstance(left, ls.LeanspikeError):
            return {**row, "verdict": "fails", "advice": code, "why": str(left)}
        row |= {"advice": code, "why": str(left)}
    return {**row, "verdict": "refused"}


def apart(name: str) -> dict[str, Any]:
    """:func:`examine` in a fork of this process, with a limit of time and memory."""
    forks = multiprocessing.get_context("fork")
    ours, theirs = forks.Pipe(duplex=False)
    process = forks.Process(target=_report, args=(theirs, name))
    began = time.monotonic()
    process.start()
    theirs.close()
    try:
        row = ours.recv() if ours.poll(SECONDS) else _failed(name, f"more than {SECONDS} s")
    except EOFError:
        row = _failed(name, "its process was killed")
    process.kill()
    process.join()
    return {**row, "seconds": round(time.monotonic() - began)}


def _report(pipe: Any, name: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    torch.set_num_threads(1)
    try:
        pipe.send(examine(name))
    except BaseException as error:
        pipe.send(_failed(name, f"{type(error).__name__}: {error}"[:300]))


def _failed(name: str, why: str) -> dict[str, Any]:
    return {"name": name, "verdict": "fails", "why": why}
