"""The network itself, with which a conversion is compared: how it is run, and what it gives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from leanspike.errors import SurgeryError, check_memory, one_line
from leanspike.graph.outputs import tensors
from leanspike.graph.trace import device_of
from leanspike.modes import buffers_kept

SEED = 0x5EED
"""The seed of the dropout masks while both are run, and of the random sample."""


@dataclass
class Run:
    """The record of a run: the output's tensors, their graph of gradients, the modules' inputs.

    ``arriving`` holds the Euclidean norm of the input of each call, for each module that the graph
    calls. A fault far from the output may be too small to be seen in the output.
    """

    outputs: list[Tensor]
    gradients: Counter[str] = field(default_factory=Counter)
    arriving: dict[str, list[float]] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)


@final
class Reference:
    """An untouched copy of the network to compare with.

    ``example`` is an input that it accepts, and ``answer`` its run on that in eval mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.paths = {module: path for path, module in network.named_modules()}
        self.example: Tensor
        self.answer: Run

    def held(self) -> tuple[str, ...]:
        """Return the paths of the modules that the network's ``train()`` leaves in eval mode."""
        self.network.train(True)
        return tuple(path for path, m in self.network.named_modules() if not m.training)

    def accepts(self, example_input: Tensor) -> Tensor:
        """Return the example in a form that the network accepts, with values that tell something.

        Only the shape of an example matters. Random values replace values that are all the same,
        and the type becomes that of the network. Each of these is done if the network accepts it.

        Raises:
            SurgeryError: If the network does not accept the example, or answers NaN to it.
        """
        x = example_input.detach().to(device_of(self.network), copy=True)
        typed = x.to(_dtype(self.network, x.dtype)) if x.is_floating_point() else x
        before = {module: dict(vars(module)) for module in self.paths}
        first = next(self._tried(x, typed))
        if isinstance(first, Exception):
            check_memory(first, example_input.shape)
            raise SurgeryError(
                f"the network does not accept the example input of shape "
                f"{tuple(example_input.shape)} ({one_line(first)[:160]}); pass an example_input "
                "that it accepts"
            ) from first
        if not first.is_floating_point():
            raise SurgeryError(
                f"the network takes {first.dtype}, but neurons take floating point; give the part "
                "behind its embedding, and the embedding's output as the example_input"
            )
        self.example = first
        if self._wrote_to_itself(before):
            self._check_again()
        return first

    def _tried(self, given: Tensor, typed: Tensor) -> Iterator[Tensor | Exception]:
        failed: Exception | None = None
        says_little = typed.is_floating_point() and bool((typed == typed.flatten()[:1]).all())
        tries = [typed, given] if typed.dtype != given.dtype else [given]
        for x in [*([random_like(typed)] if says_little else []), *tries]:
            try:
                run = self.run(x, training=False)
            except Exception as error:
                failed = error
                continue
            self._check_values(run)
            self.answer = run
            yield x
        assert failed is not None
        yield failed

    def _wrote_to_itself(self, before: Mapping[nn.Module, Mapping[str, Any]]) -> bool:
        """Whether attributes of modules are other objects than before, apart from their modes."""
        return any(
            before[module].get(name) is not value
            for module in self.paths
            for name, value in vars(module).items()
            if name != "training"
        )

    def _check_again(self) -> None:
        """Raise SurgeryError unless the network answers the same when it is called again."""
        again = self.run(self.example, training=False)
        if not alike(self.answer.outputs, again.outputs):
            raise SurgeryError(
                "the network answers otherwise when it is called again, since it keeps a state "
                "between calls; take that out: a spiking network has none"
            )

    def _check_values(self, run: Run) -> None:
        if not any(torch.isnan(y).any() for y in run.outputs if y.is_floating_point()):
            return
        raise SurgeryError(
            "the network answers NaN to the example input; give a network and an example_input "
            "whose answer is a number"
        )

    def run(self, x: Tensor, *, training: bool) -> Run:
        """Run the network on a copy of ``x``, seeded, and leave its buffers as they were."""
        with buffers_kept(self.network):
            return self._run(x, training)

    def run_after_the_example(self, x: Tensor) -> Run:
        """Run the network on ``x`` in eval mode, with the buffers that the example's run left."""
        with buffers_kept(self.network):
            self._run(self.example, training=False)
            return self._run(x, training=False)

    def _run(self, x: Tensor, training: bool) -> Run:
        self.network.train(training)
        found = Run([])
        handles = [
            module.register_forward_pre_hook(
                lambda _module, args, path=path: note(found, path, args)
            )
            for module, path in self.paths.items()
            if not isinstance(module, torch.jit.ScriptModule)  # it takes no hooks
        ]
        try:
            with seeded(self.network, training):
                return completed(found, self.network(entering(x, training)), self.network)
        finally:
            for handle in handles:
                handle.remove()


TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""The share of the largest entry by which two runs may differ on a CPU."""


def tolerance(x: Tensor) -> float:
    """Return how far off two runs may be. Other devices round more, TensorFloat32 to 10 bits."""
    return TOLERANCE.get(x.dtype, 3e-5) * (1 if x.device.type == "cpu" else 16)


def alike(expected: list[Tensor], found: list[Tensor], factor: float = 1) -> bool:
    """Return whether two lists of tensors are equal to rounding, by the largest entry of each."""
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
        bound = tolerance(a) * factor * scale
        if not torch.allclose(b, a, rtol=0, atol=bound, equal_nan=True):
            return False
    return True


def completed(found: Run, answer: Any, network: nn.Module) -> Run:
    found.outputs = tensors(answer)
    found.gradients = _gradients(found.outputs, network)
    found.buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return found


def _gradients(outputs: list[Tensor], network: nn.Module) -> Counter[str]:
    """Count the operations of each kind that gradients go through, and the parameters reached.

    Copies are not counted: they change no gradient, and a graph adds some.
    """
    names = {id(p): name for name, p in network.named_parameters()}
    waiting: list[Any] = [y.grad_fn for y in outputs if y.grad_fn is not None]
    seen = set(waiting)
    found: Counter[str] = Counter()
    while waiting:
        step = waiting.pop()
        reached = names.get(id(getattr(step, "variable", None)))
        if step.name() != "CloneBackward0":
            found[reached or step.name()] += 1
        new = {source for source, _ in step.next_functions if source is not None} - seen
        seen |= new
        waiting += new
    return found


def answer_of(run: Callable[[], Any], what: str) -> Any:
    """Return what a run gives. Raise SurgeryError if it fails: the network itself does not."""
    try:
        return run()
    except Exception as error:
        raise SurgeryError(
            f"the network's graph does not run for {what} ({one_line(error)[:160]}): something in "
            "it takes only as many samples as the example has; write it for any number"
        ) from error


def difference(expected: list[Tensor], found: list[Tensor]) -> str:
    """Return in words how two lists of outputs differ."""
    for a, b in zip(expected, found, strict=False):
        if a.shape != b.shape or a.dtype != b.dtype:
            return (
                f"it answers {tuple(a.shape)} of {a.dtype}, the graph {tuple(b.shape)} of {b.dtype}"
            )
        if not alike([a], [b]):
            most = (a - b).abs().max().item()
            return f"the answers differ by {most:.3g}, and reach {a.abs().max().item():.3g}"
    return f"it gives {len(expected)} tensors, the graph {len(found)}"


def note(found: Run, path: str, args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
        length = torch.linalg.vector_norm(args[0].detach(), dtype=_wide(args[0].dtype))
        found.arriving.setdefault(path, []).append(length.item())


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def entering(x: Tensor, training: bool) -> Tensor:
    """Return a copy that may be overwritten; in training it has a gradient."""
    return x.detach().clone().requires_grad_().clone() if training else x.clone()


def random_like(x: Tensor) -> Tensor:
    """Return values around 0, of the shape, type and device of ``x``, the same at each call."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(x.shape, generator=generator).to(x)


def _dtype(network: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, otherwise)


@contextmanager
def seeded(network: nn.Module, training: bool) -> Iterator[None]:
    """Draw torch's random numbers from the same seed inside, and restore the state outside."""
    place = device_of(network) or torch.device("cpu")
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.set_grad_enabled(training):
        if place.type == "cpu":
            torch.default_generator.manual_seed(SEED)  # torch.manual_seed sets those of GPUs, too
        else:
            torch.manual_seed(SEED)
        yield


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the state of Python's and NumPy's random numbers afterwards."""
    ours, numpys = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
