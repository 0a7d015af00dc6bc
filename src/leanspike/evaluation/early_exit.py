"""Early exit: stop when the answer is good enough, for all samples at once or for each by itself.

It needs only the answer after every step (``readout(y, "mean")``) and, at run time, the streaming
step.

Shapes: T timesteps, N samples, K outputs; ``_TNK`` is ``[T, N, K]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final, get_args

import torch
from torch import Tensor

from leanspike.engine import Engine
from leanspike.errors import LeanspikeError, check_count
from leanspike.evaluation.score import one_tensor
from leanspike.evaluation.task import TaskName
from leanspike.surgery import Observer, SpikingNetwork
from leanspike.temporal import BNTT

Measure = Literal["margin", "entropy"]
Step = Callable[[Tensor, Any], tuple[Any, Any]]


class ExitRule(Protocol):
    """Decides after each step which samples leave.

    It is given the answers so far ``[N, K]`` (mean readout) and the number of steps taken.
    """

    def __call__(self, logits_NK: Tensor, steps: int) -> Tensor: ...


@final
@dataclass(frozen=True)
class After:
    """All samples leave after that number of steps, as by the rule of :func:`gamma_steps`.

    >>> After(3)(torch.zeros(2, 10), steps=3).tolist()
    [True, True]
    """

    steps: int

    def __call__(self, logits_NK: Tensor, steps: int) -> Tensor:
        """Tell which samples leave: ``[N]``, bool."""
        return torch.full(logits_NK.shape[:1], steps >= self.steps, device=logits_NK.device)


@final
@dataclass(frozen=True)
class Confident:
    """A sample leaves when the confidence in its answer reaches a threshold.

    Args:
        measure: see :func:`confidence`.
        threshold: in [0, 1]. At 0 all samples leave after the first step, above 1 none leaves
            early.
        latest: the step after which unsure samples leave, too; None: the last step.
        task: see :func:`confidence`.

    >>> rule = Confident("margin", 0.5)
    >>> rule(torch.tensor([[4.0, 0.0], [1.0, 0.9]]), steps=1).tolist()
    [True, False]
    """

    measure: Measure = "margin"
    threshold: float = 0.9
    latest: int | None = None
    task: TaskName | None = None

    def __call__(self, logits_NK: Tensor, steps: int) -> Tensor:
        """Tell which samples leave: ``[N]``, bool."""
        if logits_NK.dim() != 2:
            raise LeanspikeError(
                f"answers of shape {list(logits_NK.shape)} have no one confidence to leave by; "
                "leave by After(steps), all at once"
            )
        if self.latest is not None and steps >= self.latest:
            return After(self.latest)(logits_NK, steps)
        return confidence(logits_NK, self.measure, self.task) >= self.threshold


def confidence(logits: Tensor, measure: Measure = "margin", task: TaskName | None = None) -> Tensor:
    """Return how sure an answer is, in [0, 1], from logits ``[..., K]``.

    "margin" is the probability of the first class less that of the second. "entropy" is 1 − H(p) /
    log C, with p the softmax over C classes.

    Args:
        logits: outputs of K classes, of which one is right. A single logit z is a yes or no, and
            its sigmoid is p.
        measure: "margin" or "entropy".
        task: "multilabel" if each of the K is a yes or no by itself. An answer is then as sure as
            its least sure label.

    Raises:
        LeanspikeError: for another measure.

    >>> confidence(torch.tensor([0.0, 0.0, 0.0]), "entropy").item()
    0.0
    >>> round(confidence(torch.tensor([math.log(3.0), 0.0]), "margin").item(), 4)  # ¾ less ¼
    0.5
    >>> round(confidence(torch.tensor([-math.log(3.0)])).item(), 4)  # no, by ¾ less ¼
    0.5
    >>> confidence(torch.tensor([9.0, 0.0, -9.0]), task="multilabel").item()  # the second
    0.0
    """
    if measure not in get_args(Measure):
        raise LeanspikeError(f"measure is {measure!r}; choose one of margin, entropy")
    shape = logits.dim()
    if task == "multilabel" or logits.shape[-1] == 1:
        logits = torch.stack([torch.zeros_like(logits), logits], -1)
    log_p = logits.float().log_softmax(-1)
    if measure == "margin":
        top = log_p.topk(2, dim=-1).values.exp()
        sure = top[..., 0] - top[..., 1]
    else:
        entropy = -(log_p.exp() * log_p).sum(-1)
        sure = (1 - entropy / math.log(logits.shape[-1])).clamp(0, 1)
    return sure.amin(-1) if logits.dim() > shape else sure


@dataclass(frozen=True)
class Exits:
    """The answers that samples left with, ``[N, K]`` (mean readout), and the steps each took.

    >>> Exits(torch.eye(2), torch.tensor([1, 3])).steps.double().mean().item()
    2.0
    """

    logits: Tensor
    steps: Tensor


@torch.no_grad()
def exit_early(
    snn: SpikingNetwork | Engine,
    x: Tensor,
    rule: ExitRule,
    timesteps: int | None = None,
    observer: Observer | None = None,
) -> Exits:
    """Run step by step; samples that may leave are dropped from the batch, and cost no more.

    In a compiled network, samples leave inside the native loop over steps where the rule is a
    margin or a number of steps. Any other rule is asked between single steps, which takes longer.

    Args:
        snn: in eval mode; or compiled.
        x: as for a call, ``[N, ...]`` (frames ``[T, N, ...]``).
        rule: decides after every step which samples leave. All leave after the last step.
        timesteps: T; default the network's own. Frames bring their own.
        observer: called after each operation, as in ``snn.run``; not for a compiled network.

    Example:
        >>> from leanspike import compile_engine, spike
        >>> _ = torch.manual_seed(0)
        >>> hidden = torch.nn.Linear(8, 16), torch.nn.ReLU()
        >>> ann = torch.nn.Sequential(*hidden, torch.nn.Linear(16, 3)).eval()
        >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
        >>> x, rule = torch.randn(32, 8), Confident("margin", 0.1)
        >>> exits = exit_early(snn, x, rule)
        >>> exits.logits.shape, bool(exits.steps.min() < exits.steps.max())
        (torch.Size([32, 3]), True)
        >>> torch.equal(exit_early(compile_engine(snn), x, rule).steps, exits.steps)
        True
    """
    if isinstance(snn, Engine):
        return _leave_compiled(snn, x, rule, timesteps)
    axis = snn.plan.encoder.batch_axis
    snn.check_input(x, axis, values=False)
    steps = _steps(x, axis, snn.timesteps if timesteps is None else timesteps)
    return leave_by(lambda x_N, state: snn.step(x_N, state, observer), x, axis, steps, rule)


def _steps(x: Tensor, axis: int, timesteps: int) -> int:
    return len(x) if axis else check_count("timesteps", timesteps)


def _leave_compiled(engine: Engine, x: Tensor, rule: ExitRule, timesteps: int | None) -> Exits:
    axis = engine.batch_axis
    steps = _steps(x, axis, engine.program.timesteps if timesteps is None else timesteps)
    margin = _margin(rule, steps)
    found = None if margin is None else engine.by_margin(x, *margin)
    return Exits(*found) if found is not None else leave_by(engine.step, x, axis, steps, rule)


def _margin(rule: ExitRule, steps: int) -> tuple[float, int] | None:
    """Return the margin and the latest step that do the same as a rule, if any do."""
    if isinstance(rule, After):
        return math.inf, max(1, min(steps, rule.steps))
    if isinstance(rule, Confident) and rule.measure == "margin" and rule.task is None:
        return rule.threshold, max(1, min(steps, rule.latest or steps))
    return None


def leave_by(step: Step, x: Tensor, axis: int, steps: int, rule: ExitRule) -> Exits:
    """Return the exits of anything that is run by single steps.

    Args:
        step: a function of a step's input ``[N, ...]`` and the last state, which is None at first.
            It returns the logits ``[N, K]`` and the next state.
        x: ``[N, ...]``, or ``[T, N, ...]`` where the samples' ``axis`` is 1.
        axis: 0 or 1.
        steps: T.
        rule: as in :func:`exit_early`.

    >>> from types import SimpleNamespace
    >>> x, state = torch.tensor([[4.0, 0.0], [0.0, 0.0]]), SimpleNamespace(keep=lambda _: None)
    >>> leave_by(lambda x_N, _: (x_N, state), x, axis=0, steps=3, rule=Confident()).steps
    tensor([1, 3])
    """
    n = x.shape[axis]
    inside = torch.arange(n, device=x.device)
    steps_N = torch.full((n,), steps, device=x.device)
    logits_NK = torch.zeros(0)
    state, total_NK = None, None
    for t in range(steps):
        x_N = x[t][inside] if axis else x[inside] if len(inside) < n else x
        y_NK, state = step(x_N, state)
        y_NK = one_tensor(y_NK)
        y_NK = y_NK.to(torch.promote_types(y_NK.dtype, torch.float32))
        total_NK = y_NK if total_NK is None else total_NK + y_NK
        answers = total_NK / (t + 1)
        if t == 0:
            logits_NK = torch.zeros_like(answers)
        asked = answers if answers.dim() > 1 else answers.unsqueeze(1)  # one logit, [N]
        leaving = rule(asked, t + 1) if t + 1 < steps else torch.ones_like(inside).bool()
        logits_NK[inside[leaving]] = answers[leaving]
        steps_N[inside[leaving]] = t + 1
        if leaving.all():
            break
        if leaving.any():
            stay = ~leaving
            inside, total_NK, state = inside[stay], total_NK[stay], state.keep(stay)
    return Exits(logits_NK, steps_N)


def gamma_by_step(snn: SpikingNetwork) -> dict[str, tuple[float, ...]]:
    """Return the mean γ of each BNTT layer at each step, by the norm's path.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> hidden = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), *hidden)
    >>> gamma_by_step(spike(ann, example_input=torch.zeros(1, 2), norm="bntt", timesteps=2))
    {'3': (1.0, 1.0)}
    """
    norms = ((path, m) for path, m in snn.named_modules() if isinstance(m, BNTT))
    return {path: tuple(norm.weight.detach().mean(1).tolist()) for path, norm in norms}


def gamma_steps(gammas: Mapping[str, Sequence[float]], threshold: float = 0.1) -> int:
    """Return how many steps to take by BNTT's rule, from the trained γ alone.

    From some step on the mean γ of every layer stays below ``threshold``. Inference ends before the
    first such step, but not before step 1. Without such a step all T are taken. Source: arXiv
    2010.01729, section III-C. Its threshold is not known to us; a reproduction uses 0.1.

    Raises:
        LeanspikeError: for a network without BNTT layers.

    >>> gamma_steps({"norm1": (0.9, 0.2, 0.05, 0.02), "norm2": (0.8, 0.05, 0.3, 0.01)})
    3
    """
    if not gammas:
        raise LeanspikeError(
            "the network has no BNTT layers, whose γ could tell when to stop; use margin or "
            "entropy, or make it with norm='bntt'"
        )
    above = [t + 1 for row in gammas.values() for t, gamma in enumerate(row) if gamma >= threshold]
    return max(above, default=1)
