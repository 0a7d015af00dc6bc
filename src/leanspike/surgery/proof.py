"""The proof at conversion: what was traced, and what was made of it, answers as the network does.

Tracing sees what a network's code does with a tensor. It does not see what Python does around it:
contexts, ``__call__``, random numbers that are not torch's. So the network itself, a copy that
nobody has touched, is run beside the graph.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, fx, nn

from leanspike.errors import SurgeryError, one_line
from leanspike.graph.ops import Operations
from leanspike.graph.rewrite import Rewriting
from leanspike.graph.trace import device_of
from leanspike.modes import buffers_kept
from leanspike.temporal import broadcast, repeat, stack, unstack

SEED = 0x5EED
"""Of what dropout draws while both are run, and of the random sample."""

LOST = (
    "contexts as autocast, a __call__ of its own, isinstance(x, torch.Tensor), numbers that Python "
    "or NumPy draw: write that into modules, or take it out"
)


@dataclass
class Run:
    """What a run gave: the tensors of the output, their graph of gradients, and what came in.

    ``arriving`` has, for each module that the graph calls, the length (Euclidean norm) of what
    entered it at each call: at the output a fault far from it may be too small to be seen.
    """

    outputs: list[Tensor]
    gradients: Counter[str] = field(default_factory=Counter)
    arriving: dict[str, list[float]] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)


@final
class Reference:
    """The network itself, to compare with: a copy that is run as it is."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.paths = _paths(network)

    def held(self) -> tuple[str, ...]:
        """The paths of the modules that the network's own ``train()`` leaves in eval mode."""
        self.network.train()
        return tuple(path for path, m in self.network.named_modules() if not m.training)

    def accepts(self, example_input: Tensor) -> Tensor:
        """The example as the network takes it, with values that say something.

        Only the shape of an example matters. So of values that are all the same random ones take
        the place, and its type becomes that of the network, each if the network accepts that.

        Raises:
            SurgeryError: if the network does not accept the example, or gives NaN for it.
        """
        x = example_input.to(device_of(self.network), copy=True)
        typed = x.to(_dtype(self.network, x.dtype)) if x.is_floating_point() else x
        first = next(self._tried(x, typed))
        if isinstance(first, Exception):
            raise SurgeryError(
                f"the network does not accept the example input of shape "
                f"{tuple(example_input.shape)} ({one_line(first)[:160]}); pass an example_input "
                "that it accepts"
            ) from first
        return first

    def _tried(self, given: Tensor, typed: Tensor) -> Iterator[Tensor | Exception]:
        failed: Exception | None = None
        says_little = typed.is_floating_point() and bool((typed == typed.flatten()[:1]).all())
        tries = [typed, given] if typed.dtype != given.dtype else [given]
        for x in [*([_random_like(typed)] if says_little else []), *tries]:
            try:
                run = self.run(x, training=False)
            except Exception as error:
                failed = error
                continue
            self._check_values(run)
            yield x
        assert failed is not None
        yield failed

    def _check_values(self, run: Run) -> None:
        if not any(torch.isnan(y).any() for y in run.outputs if y.is_floating_point()):
            return
        state = self.network.state_dict()
        names = [n for n, v in state.items() if v.is_floating_point() and torch.isnan(v).any()]
        if names:
            raise SurgeryError(
                f"{names[0]}: holds NaN, and so does the network's answer; give one whose training "
                "did not diverge, or load its weights again"
            )
        raise SurgeryError(
            "the network answers NaN to the example input; give a network and an example_input "
            "whose answer is a number"
        )

    def run(self, x: Tensor, *, training: bool, watched: frozenset[str] = frozenset()) -> Run:
        """Run it on a copy of ``x``, seeded; ``watched`` are modules whose input is told."""
        self.network.train(training)
        found = Run([])
        handles = [
            self.network.get_submodule(path).register_forward_pre_hook(
                lambda _module, args, path=path: _note(found, path, args)
            )
            for path in watched
        ]
        try:
            with buffers_kept(self.network), _seeded(self.network, training):
                return _completed(found, self.network(_entering(x, training)), self.network)
        finally:
            for handle in handles:
                handle.remove()


def prove_graph(
    reference: Reference, root: nn.Module, graph: fx.Graph, x: Tensor, operations: Operations
) -> None:
    """Raise SurgeryError unless the graph answers as the network does, to rounding.

    In eval mode, on the example; and in training mode, on two samples with the same dropouts, where
    the network can be run so: the same answers, statistics and paths of gradients.
    """
    watched = frozenset(
        path
        for path in (str(node.target) for node in graph.nodes if node.op == "call_module")
        if reference.paths.get(reference.network.get_submodule(path)) == path
    )
    traced = _Traced(root, graph, operations, watched)
    _prove_mode(reference, traced, x, training=False)
    _prove_mode(reference, traced, torch.cat([x[:1], _random_like(x[:1])]), training=True)
    root.eval()


def prove_steps(
    reference: Reference, rewriting: Rewriting, x: Tensor, declared: Collection[Any]
) -> None:
    """Raise SurgeryError unless timesteps stay apart in the rewritten graph.

    Activations, dropouts and norms are put back into their places, and a random sample is the
    second timestep of the first sample. To that the graph must answer as the network does to it
    alone. ``declared`` are the operations that the user spoke for.
    """
    first = x[:1]
    try:
        expected = reference.run(first, training=False)
    except Exception:  # it does not take a single sample
        first = x
        expected = reference.run(first, training=False)
    with _seeded(rewriting.root, training=False):
        answer = _Steps(rewriting).run(torch.cat([first, _random_like(first)]), 2)
    found = [y_TN[0] for y_TN in _tensors(answer)]
    if _alike(expected.outputs, found, x.dtype, factor=16):
        return
    names = ", ".join(getattr(op, "__name__", repr(op)) for op in declared)
    spoken = f"one of those declared ({names})" if names else "something in it"
    raise SurgeryError(
        f"the answer to a sample depends on the other samples of the batch, among which an SNN has "
        f"its timesteps ({_difference(expected.outputs, found)}): {spoken} mixes them; take it "
        "out, or write it for each sample by itself"
    )


def _prove_mode(reference: Reference, traced: _Traced, x: Tensor, *, training: bool) -> None:
    before = {id(m): dict(vars(m)) for m in reference.network.modules()}
    try:
        expected = reference.run(x, training=training, watched=traced.watched)
    except Exception:
        if training:  # not defined for two samples, or for random ones
            return
        raise
    mode = "training" if training else "eval"
    found = traced.run_as(x, training=training)
    _compare(expected, found, f"in {mode} mode", x.dtype)
    if not training and _wrote_to_itself(reference.network, before):
        again = reference.run(x, training=False)
        if not _alike(expected.outputs, again.outputs, x.dtype):
            raise SurgeryError(
                "the network answers otherwise when it is called again, as it keeps a state from "
                "call to call; take that out: a spiking network has none"
            )


@final
class _Traced(fx.Interpreter):
    """Runs the traced graph in the mode asked for, and tells what enters its modules."""

    def __init__(
        self, root: nn.Module, graph: fx.Graph, operations: Operations, watched: frozenset[str]
    ) -> None:
        super().__init__(root, graph=graph)
        self.extra_traceback = False
        self.root, self.operations, self.watched = root, operations, watched
        self.training = False
        self.found = Run([])

    def run_as(self, x: Tensor, *, training: bool) -> Run:
        """One run, which leaves the buffers as they were."""
        self.training, self.found = training, Run([])
        self.root.train(training)
        with buffers_kept(self.root), _seeded(self.root, training):
            return _completed(self.found, self.run(_entering(x, training)), self.root)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As usual, and tell what enters."""
        if target in self.watched:
            _note(self.found, target, args)
        return super().call_module(target, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As usual; functional dropouts, which were traced in eval mode, drop in training."""
        if self.training and self.operations.row(target).dropout and kwargs.get("p") != 0:
            kwargs = {**kwargs, "training": True}
        return super().call_function(target, args, kwargs)


def _compare(expected: Run, found: Run, mode: str, dtype: torch.dtype) -> None:
    for path, calls in found.arriving.items():
        theirs = expected.arriving.get(path, [])
        if len(theirs) < len(calls):
            _differ(
                mode, f"module {path} is called {len(theirs)} times, and in the graph more often"
            )
        if len(theirs) == len(calls) and not all(
            math.isclose(a, b, rel_tol=_tolerance(dtype), abs_tol=1e-30)
            for a, b in zip(theirs, calls, strict=True)
        ):
            _differ(mode, f"something else enters module {path}")
    if not _alike(expected.outputs, found.outputs, dtype):
        _differ(mode, _difference(expected.outputs, found.outputs))
    for name, value in found.buffers.items():
        theirs_ = expected.buffers.get(name)
        if theirs_ is not None and not _alike([theirs_], [value], dtype):
            _differ(mode, f"its forward writes to the buffer {name}")
    if expected.gradients != found.gradients:
        names = sorted((found.gradients - expected.gradients) or expected.gradients)
        raise SurgeryError(
            f"the network stops gradients, or has some of its own, where its graph has those of "
            f"{', '.join(names[:3])}: torch.no_grad and autograd functions are not traced; write "
            "x.detach() for what is to have no gradient, or put the code into a module of its own "
            "and declare that with ops={ThatModule: 'analog'}"
        )


def _differ(mode: str, what: str) -> None:
    raise SurgeryError(
        f"the network's graph is not the network: {mode}, {what}; torch.fx does not see {LOST}"
    )


def _difference(expected: list[Tensor], found: list[Tensor]) -> str:
    for a, b in zip(expected, found, strict=False):
        if a.shape != b.shape or a.dtype != b.dtype:
            return (
                f"it answers {tuple(a.shape)} of {a.dtype}, the graph {tuple(b.shape)} of {b.dtype}"
            )
        if not _alike([a], [b], a.dtype):
            most = (a - b).abs().max().item()
            return (
                f"the answers differ by {most:.3g}, and are as large as {a.abs().max().item():.3g}"
            )
    return f"it gives {len(expected)} tensors, the graph {len(found)}"


def _tolerance(dtype: torch.dtype) -> float:
    return 256 * torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps


def _alike(
    expected: list[Tensor], found: list[Tensor], dtype: torch.dtype, factor: float = 1
) -> bool:
    """Whether these are the same to rounding, by the largest entry of each."""
    if len(expected) != len(found):
        return False
    for a, b in zip(expected, found, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not a.is_floating_point():
            if not torch.equal(a, b):
                return False
            continue
        finite = a[torch.isfinite(a)]
        scale = finite.abs().max().item() if finite.numel() else 0.0
        bound = _tolerance(dtype) * factor * scale
        if not torch.allclose(b, a, rtol=0, atol=bound, equal_nan=True):
            return False
    return True


@final
class _Steps(fx.Interpreter):
    """Runs the rewritten graph with two timesteps, on an input that has them as samples."""

    def __init__(self, rewriting: Rewriting) -> None:
        super().__init__(rewriting.root, graph=rewriting.graph)
        self.extra_traceback = False
        self.originals = rewriting.originals

    def run_node(self, n: fx.Node) -> Any:
        """As usual, but for what was put in and what is the same at each step in a real run."""
        original = self.originals.get(n)
        args = self.fetch_args_kwargs_from_env(n)[0]
        if original is not None:
            y = original(stack(args[0]))
            return unstack(y, len(args[0]))
        if n.target is broadcast and args[1] > 1:
            return unstack(*args)
        return args[0] if n.target is repeat else super().run_node(n)


def _completed(found: Run, answer: Any, network: nn.Module) -> Run:
    found.outputs = list(_tensors(answer))
    found.gradients = _gradients(found.outputs, network)
    found.buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return found


def _tensors(answer: Any) -> Iterator[Tensor]:
    """The tensors of an answer of any structure, in its order."""
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, Mapping):
        for value in answer.values():
            yield from _tensors(value)
    elif isinstance(answer, list | tuple):
        for value in answer:
            yield from _tensors(value)
    elif is_dataclass(answer):
        for part in fields(answer):
            yield from _tensors(getattr(answer, part.name))


def _gradients(outputs: list[Tensor], network: nn.Module) -> Counter[str]:
    """How many operations of each kind gradients go through, and which parameters they reach."""
    names = {id(p): name for name, p in network.named_parameters()}
    waiting: list[Any] = [y.grad_fn for y in outputs if y.grad_fn is not None]
    seen = set(waiting)
    found: Counter[str] = Counter()
    while waiting:
        step = waiting.pop()
        reached = names.get(id(getattr(step, "variable", None)))
        found[reached or step.name()] += 1
        new = {source for source, _ in step.next_functions if source is not None} - seen
        seen |= new
        waiting += new
    return found


def _note(found: Run, path: str, args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
        length = torch.linalg.vector_norm(args[0].detach(), dtype=_wide(args[0].dtype))
        found.arriving.setdefault(path, []).append(length.item())


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _entering(x: Tensor, training: bool) -> Tensor:
    """A copy, which may be overwritten; in training with a gradient."""
    return x.detach().clone().requires_grad_().clone() if training else x.clone()


def _random_like(x: Tensor) -> Tensor:
    """Values around 0, of the shape, type and place of ``x``, the same at each call."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(x.shape, generator=generator).to(x)


def _dtype(network: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, otherwise)


def _paths(network: nn.Module) -> dict[nn.Module, str]:
    return {module: path for path, module in network.named_modules()}


def _wrote_to_itself(network: nn.Module, before: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether attributes of modules are other objects than before, apart from their modes."""
    for module in network.modules():
        past = before.get(id(module), {})
        for name, value in vars(module).items():
            if name != "training" and past.get(name, None) is not value:
                return True
    return False


@contextmanager
def _seeded(network: nn.Module, training: bool) -> Iterator[None]:
    """torch's random numbers from the same seed, and those of outside as they were afterwards."""
    place = device_of(network)
    devices = [place] if place is not None and place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.set_grad_enabled(training):
        torch.manual_seed(SEED)
        yield


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Python's and NumPy's random numbers go on afterwards as if nothing had been drawn."""
    ours, numpys = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
