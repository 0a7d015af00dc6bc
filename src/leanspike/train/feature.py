"""Distillation by features: intermediate maps of the student are drawn to the teacher's.

Shapes: T timesteps, N samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork
from leanspike.modes import eval_mode
from leanspike.train.objective import Around, Objective, Term, objectives
from leanspike.train.teacher import Teacher
from leanspike.train.watch import hooks, maps


@dataclass(frozen=True)
class Pair:
    """A module of the student, a module of the teacher, and the shapes of their maps, (C, H, W).

    >>> Pair("features.relu2", "layer1", (64, 32, 32), (16, 32, 32)).teacher
    'layer1'
    """

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]


@final
@objectives.register("feature")
class Feature(Objective):
    """Distillation by features: the distance of the student's maps from the teacher's.

        mean over pairs of  ‖ A(mean_t o_t) − f ‖² / entries

    Source: KDSNN, arXiv 2304.05627, section 3.3; its constants are not known to us. The student's
    feature is its average over time. Where channels differ, A is a 1×1 convolution that is trained
    with the student. Where sizes differ, the larger map is averaged down to the smaller. The
    adapters A begin at random in each new ``Feature``, and so in each stage of a recipe.

    The average over all steps leaves the first steps free to be far off. With ``each_step`` the
    average over the steps so far is compared after every step. The distance is then the mean over
    the steps. This is our own addition; it keeps T maps of each pair in memory.

    Args:
        teacher: any network, or a :class:`Teacher` shared with other objectives.
        student: the network that is trained.
        x: an input of both, ``[N, C, H, W]``, of which only the shape matters.
        pairs: paths of the student's modules to paths of the teacher's. Default:
            :func:`find_pairs`.
        each_step: whether every step is compared; an ANN has one.

    Raises:
        LeanspikeError: for a path that does not exist, or whose output is no map.

    >>> from leanspike import spike
    >>> conv, relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
    >>> ann = nn.Sequential(conv, relu, nn.Flatten(), nn.Linear(256, 2))
    >>> teacher = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2))
    >>> snn, x = spike(ann, example_input=torch.zeros(1, 3, 8, 8)), torch.rand(2, 3, 8, 8)
    >>> feature = Feature(teacher, snn, x)
    >>> [(pair.student, pair.teacher) for pair in feature.pairs], feature.adapters[0]
    ([('1', '1')], Conv2d(4, 6, kernel_size=(1, 1), stride=(1, 1), bias=False))
    >>> with feature.watch(snn):
    ...     y_TNK = snn(x)
    >>> feature(y_TNK, torch.zeros(2), x).item() > 0
    True
    """

    class Config(Term):
        """Knowledge distillation by feature: the teacher's maps, by adapters of each stage."""

        pairs: dict[str, str] | None = None
        """Modules of the student to modules of the teacher; null: paired by depth and size."""
        each_step: bool = False
        """The average over the steps so far is compared after every step, not only at the end."""

    taught: ClassVar[bool] = True

    def __init__(
        self,
        teacher: nn.Module | Teacher,
        student: nn.Module,
        x: Tensor,
        pairs: Mapping[str, str] | None = None,
        each_step: bool = False,
    ) -> None:
        super().__init__()
        if pairs is not None and not pairs:
            raise LeanspikeError("pairs is empty; name some, or give None to have them found")
        self.teacher, self.each_step = Teacher.of(teacher), each_step
        self.pairs = (
            find_pairs(student, self.teacher.network, x)
            if pairs is None
            else _named(pairs, student, self.teacher.network, x)
        )
        for pair in self.pairs:
            self.teacher.watch(pair.teacher)
        self.adapters = nn.ModuleList(_adapter(pair) for pair in self.pairs).to(x.device)
        self._seen: dict[str, Tensor] = {}

    @classmethod
    def within(cls, options: Mapping[str, Any], around: Around) -> Feature:
        return cls(around.teacher(), around.network, around.x, **options)

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        self._seen.clear()
        with maps(network, [pair.student for pair in self.pairs], self._seen, self.each_step):
            yield

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        if not self._seen:
            raise LeanspikeError(
                "no features were seen; run the student inside watch(student) before each loss"
            )
        seen = dict(self._seen)
        self._seen.clear()
        losses = []
        adapters: Iterable[Any] = self.adapters
        for pair, adapter in zip(self.pairs, adapters, strict=True):
            maps_TN = seen[pair.student]
            if not self.each_step:
                maps_TN = maps_TN[None]
            student = adapter(maps_TN.flatten(0, 1))
            teacher = self.teacher.feature(pair.teacher, x)
            size = tuple(map(min, student.shape[2:], teacher.shape[2:]))
            ours_N = _resized(student, size)
            ours_TN = ours_N.reshape(maps_TN.shape[:2] + ours_N.shape[1:])
            losses.append(F.mse_loss(ours_TN, _resized(teacher, size).expand_as(ours_TN)))
        return torch.stack(losses).mean()


def find_pairs(student: nn.Module, teacher: nn.Module, x: Tensor) -> tuple[Pair, ...]:
    """Return the last map of each resolution in the student, beside the teacher's last one.

    In a spiking network the neurons count, in another network every module that is called once. A
    ReLU that is a function does not count, nor does a module at several places: name such pairs.
    Where the two networks have no resolution in common, their stages are paired by relative depth.

    Raises:
        LeanspikeError: if one of them has no maps.

    >>> student = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten())
    >>> teacher = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    >>> [(p.student, p.teacher) for p in find_pairs(student, teacher, torch.zeros(1, 3, 8, 8))]
    [('1', '1')]
    """
    ours, theirs = stages(student, x), stages(teacher, x)
    for whose, found in (("student", ours), ("teacher", theirs)):
        if not found:
            raise LeanspikeError(
                f"the {whose} has no feature maps [N, C, H, W]; name pairs of modules, or leave "
                "the feature distillation out"
            )
    common = [size for size in ours if size in theirs]
    if common:
        matched = [(ours[size], theirs[size]) for size in common]
    else:
        mine, others = list(ours.values()), list(theirs.values())
        count = min(len(mine), len(others))
        matched = [
            (mine[_spread(i, count, len(mine))], others[_spread(i, count, len(others))])
            for i in range(count)
        ]
    return tuple(Pair(a, b, a_shape, b_shape) for (a, a_shape), (b, b_shape) in matched)


def _spread(index: int, count: int, length: int) -> int:
    """Return the ``index``-th of ``count`` positions spread over a list; the last is its end."""
    return (index + 1) * length // count - 1


def stages(network: nn.Module, x: Tensor) -> dict[tuple[int, ...], tuple[str, tuple[int, ...]]]:
    """Return the last module of each resolution (H, W), and the shape (C, H, W) of its map.

    Resolutions come in the order of the network. In a spiking network the neurons count, in another
    network every module that is called once.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    >>> stages(net, torch.zeros(1, 3, 8, 8))
    {(8, 8): ('1', (4, 8, 8)), (4, 4): ('2', (4, 4, 4))}
    """
    shapes = output_shapes(network, x)
    found: dict[tuple[int, ...], tuple[str, tuple[int, ...]]] = {}
    for path, shape in shapes.items():
        if len(shape) == 3 and shape[1:] != (1, 1):
            found.pop(shape[1:], None)
            found[shape[1:]] = (path, shape)
    return found


@torch.no_grad()
def output_shapes(network: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample's output of each module, in the order in which they finish.

    >>> output_shapes(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 4))
    {'0': (4,), '1': (2,)}
    """
    spiking = isinstance(network, SpikingNetwork)
    inside = network.neurons() if isinstance(network, SpikingNetwork) else network.named_modules()
    modules = {path: module for path, module in inside if path}
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()

    def note(path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            calls[path] += 1
            if isinstance(output, Tensor):
                shapes.pop(path, None)
                shapes[path] = tuple(output.shape[2 if spiking else 1 :])

        return hook

    with eval_mode(network), hooks([(module, note(path)) for path, module in modules.items()]):
        network(x[:1])
    return {path: shape for path, shape in shapes.items() if calls[path] == 1}


def _named(
    pairs: Mapping[str, str], student: nn.Module, teacher: nn.Module, x: Tensor
) -> tuple[Pair, ...]:
    ours, theirs = output_shapes(student, x), output_shapes(teacher, x)
    return tuple(
        Pair(a, b, _shape("student", a, ours), _shape("teacher", b, theirs))
        for a, b in pairs.items()
    )


def _shape(whose: str, path: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    maps = [name for name, shape in shapes.items() if len(shape) == 3]
    if path not in maps:
        near = get_close_matches(path, maps, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise LeanspikeError(
            f"the {whose} has no feature map {path!r}; {hint}it has {', '.join(maps) or 'none'}"
        )
    return shapes[path]


def _adapter(pair: Pair) -> nn.Module:
    channels, wanted = pair.student_shape[0], pair.teacher_shape[0]
    return nn.Identity() if channels == wanted else nn.Conv2d(channels, wanted, 1, bias=False)


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, (size[0], size[1]))
