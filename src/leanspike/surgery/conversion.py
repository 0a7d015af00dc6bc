"""The surgery, which turns an ordinary network into the same network with spiking neurons."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

from torch import Tensor, nn

from leanspike.errors import LeanspikeError, check_count
from leanspike.execute.doubts import warn_of_training_mode
from leanspike.execute.network import SpikingNetwork
from leanspike.graph.modules import as_module
from leanspike.graph.named import Declared
from leanspike.graph.ops import OPERATIONS, Meaning, is_batch_norm
from leanspike.graph.plan import Plan
from leanspike.graph.replacement import Parts
from leanspike.lower import DEFAULT, Pass, apply_passes
from leanspike.lower.folding import fold_into_layers
from leanspike.neuron import Calibrated, create_neuron
from leanspike.notice import say
from leanspike.surgery.choices import (
    PAPERS,
    NormsBefore,
    Preset,
    check_preset,
    choose_neurons,
    is_trained,
    norm_of_each_step,
)
from leanspike.surgery.subject import Subject
from leanspike.synapse import step_around
from leanspike.temporal import (
    Encoder,
    NormFactory,
    TemporalDropout,
    TemporalNorm,
    create_encoder,
    norms,
    temporal_norm,
)

NeuronFactory = nn.Module | Callable[[str], nn.Module]
NORM_FORM = "norm=lambda channels, timesteps: BNTT(channels, timesteps)"


def spike(
    ann: nn.Module,
    *,
    example_input: Tensor,
    encode: str | Encoder = "direct",
    timesteps: int = 5,
    neuron: NeuronFactory | None = None,
    norm: str | NormFactory | None = None,
    activations: Collection[Any] = (),
    ops: Mapping[Any, Meaning] | None = None,
    preset: Preset = "network",
    lower: Iterable[str | Pass] = DEFAULT,
) -> SpikingNetwork:
    """Make a network spike: put a layer of neurons into the place of each activation.

    The network is traced with ``torch.fx`` and copied; ``ann`` itself stays as it is. Each call of
    a ReLU gets its own neuron. The neuron takes the path of the ReLU module if that is called
    once. Otherwise it lies at ``<owner>.neuron_<k>``, in the order of the calls. All other modules
    keep their paths, so the ANN's ``state_dict`` loads with :meth:`SpikingNetwork.load_ann`.
    Dropout draws one mask for all timesteps. What does not depend on time is computed once.

    Args:
        ann: any network that torch.fx can trace and whose operations are in the op table.
        example_input: an input as for a call, ``[N, ...]`` (``[T, N, ...]`` for frames), whose
            samples ``ann`` accepts. Only its shape matters, not its device.
        encode: "direct" (analog input as a constant current), "poisson" (random spikes, see
            ``leanspike.temporal.Poisson``), "frames" (``[T, N, ...]``), or an encoder object.
        timesteps: T, 1 or more: the default number of steps of a call.
        neuron: A neuron to copy for each call, or a function from the path to a new neuron. The
            default is ``LIF(learn=("leak", "threshold"))``, as in the papers. If time reaches
            batch norms or branches meet, it has ``height="threshold", initial="half"`` ("zero"
            before max pools). One line on stderr says which was taken. Any module from
            ``[T, N, ...]`` to the same shape works: with ``nn.ReLU()`` the result answers as the
            ANN at each step.
        norm: "keep" batch norms, or "fold" them into the layers before them (eval statistics).
            Another norm may take their place where time reaches them. It begins with their
            parameters. It is "bntt", "tdbn" (scaled to the threshold of ``neuron``), "tebn", or a
            function from channels and timesteps to a new ``leanspike.temporal.TemporalNorm``. The
            default is "keep". With the default neuron and trained norms the default is a "bntt"
            with their shift. It has statistics for each step, so the SNN then runs for
            ``timesteps`` steps at most.
        activations: further activations to replace: module types, functions, method names.
        ops: further time-safe operations, by module type, function or method name. The value is
            the kind of signal that it emits: "analog", "graded", "spike", or "same" as its input.
            It may also be a whole row (``leanspike.graph.ops.Operation``). The inside of modules
            named here is not examined.
        preset: "paper" makes the papers' neuron the default, whatever the network has.
        lower: the passes that put in layers which give the same at a lower cost. Each is a name,
            or a function from a ``Plan`` to another. The default is "event_driven" convolutions
            and "tiled_pooling"; () is none.

    Returns:
        The spiking network, in the mode (train or eval) and on the device of ``ann``.

    Raises:
        SurgeryError: for what cannot be traced or is not time-safe, by its path, with a way out.
        LeanspikeError: for arguments out of range, or a norm that finds no batch norm to replace.

    Example:
        >>> import torch
        >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
        >>> snn(torch.randn(4, 8)).shape  # [T, N, K]
        torch.Size([5, 4, 3])
    """
    timesteps = check_count("timesteps", timesteps)
    check_preset(preset)
    if not isinstance(ann, nn.Module):
        raise LeanspikeError(f"ann is {ann!r}; give a network, as Net()")
    if isinstance(ann, SpikingNetwork):
        raise LeanspikeError("ann is a SpikingNetwork already; pass the ANN it was made from")
    encoder = create_encoder(encode) if isinstance(encode, str) else encode
    operations = OPERATIONS.for_call(ops or {}, activations)
    sample = _sample(example_input, encoder)
    subject = Subject(ann, sample, operations, ops or {})
    chooses = neuron is None and norm is None and preset == "network"
    each_step = norm_of_each_step(subject.root, subject.graph) if chooses else None
    before: NormsBefore = "kept" if each_step is None else "renewed"
    if norm == "fold":
        before = "folded" if _has_norms(subject.root) else "kept"
        fold_into_layers(subject.root, subject.graph)
    parts = Parts(
        neuron=_neuron_factory(create_neuron("lif", PAPERS) if neuron is None else neuron),
        norm=_norm_factory(norm or each_step or "keep", timesteps, neuron),
        operations=operations,
    )
    subject.rewrite(parts, encoder)
    if parts.norm is not None and each_step is None:
        _check_placed(subject.root)
    declared = Declared.of(activations, ops or {})
    plan = _plan(subject, encoder, "fold" if norm == "fold" else "keep", declared)
    snn = SpikingNetwork(apply_passes(plan, lower), timesteps)
    _put_into_mode_of(ann, snn)
    step_around(snn)
    if neuron is None:
        say(choose_neurons(snn, preset, before))
    _tell_types(subject)
    _raise_doubts(snn, ann)
    return snn


def _plan(
    subject: Subject, encoder: Encoder, norm: Literal["keep", "fold"], declared: Declared
) -> Plan:
    sample = subject.reference.example
    return Plan(
        as_module(subject.root, subject.graph),
        encoder,
        norm,
        sample_shape=tuple(sample.shape[1:]),
        fixed_shape=subject.fixed_shape,
        held=subject.held,
        sample_dtype=sample.dtype,
        declared=declared,
        replaced=subject.replaced,
    )


def _tell_types(subject: Subject) -> None:
    """Say where code branches on a type or a device, which may change after the surgery."""
    if not subject.by_type:
        return
    x, rest = subject.reference.example, len(subject.by_type) - 1
    first = f"module {subject.by_type[0]}" if subject.by_type[0] else "the network's own forward"
    say(
        f"{first}{f' and {rest} more' * bool(rest)}: the code branches on the type or device of a "
        f"tensor; the SNN always takes the branch for {x.dtype} on {x.device.type}: for another "
        "branch call spike with the network in that type and on that device"
    )


def _sample(example_input: Tensor, encoder: Encoder) -> Tensor:
    """Return a batch of the example as the network sees it at one step."""
    if not isinstance(example_input, Tensor):
        kind = type(example_input).__name__
        raise LeanspikeError(
            f"example_input is a {kind}; give a tensor, as torch.as_tensor(x).float()"
        )
    sample = example_input[0] if encoder.batch_axis else example_input
    if sample.dim() < 2:
        raise LeanspikeError(
            f"example_input has the shape {tuple(example_input.shape)}; give a batch, "
            f"{'[T, N, ...]' if encoder.batch_axis else '[N, ...]'}"
        )
    return sample


def _check_placed(root: nn.Module) -> None:
    if not any(isinstance(m, TemporalNorm) for m in root.modules()):
        raise LeanspikeError(
            "norm: this network has no batch norm behind its first neurons that another norm could "
            "replace; give it batch norms there, or norm='keep'"
        )


def _put_into_mode_of(ann: nn.Module, snn: SpikingNetwork) -> None:
    """Put each module into the mode of its original, and new ones into that of the whole ANN."""
    snn.train(ann.training)
    modules = dict(snn.named_modules())
    for path, module in ann.named_modules():
        if path in modules:
            modules[path].training = module.training


def _has_norms(ann: nn.Module) -> bool:
    return any(map(is_batch_norm, ann.modules()))


def _raise_doubts(snn: SpikingNetwork, ann: nn.Module) -> None:
    """Warn of a trained ANN in training mode, and note what later calls are to warn about."""
    trained = is_trained(ann)
    snn.doubts.uncalibrated = trained or not (ann.training or _has_norms(ann))
    active = _active(snn)
    if trained and active:
        warn_of_training_mode(active)
    elif not _has_norms(ann):  # without norms nothing tells a trained ANN from a new one
        snn.doubts.active = active


def _active(snn: SpikingNetwork) -> tuple[str, ...]:
    """Return the paths of the norms and dropouts that are in training mode and have an effect."""
    found = [
        (path, module)
        for path, module in snn.named_modules()
        if module.training
        and (is_batch_norm(module) or isinstance(module, TemporalNorm | TemporalDropout))
    ]
    return tuple(p for p, m in found if not (isinstance(m, TemporalDropout) and m.p == 0))


def _neuron_factory(neuron: NeuronFactory) -> Callable[[str], nn.Module]:
    if isinstance(neuron, type):
        name = neuron.__name__
        raise LeanspikeError(f"neuron is the class {name}; give one to copy, as in {name}()")
    if not callable(neuron):
        raise LeanspikeError(f"neuron is {neuron!r}; give one to copy, as in LIF()")
    if isinstance(neuron, nn.Module):
        template = neuron
        return lambda _path: deepcopy(template)
    factory = neuron
    _check_takes(factory, "neuron", ("path",), "neuron=lambda path: LIF()")

    def make(path: str) -> nn.Module:
        made = factory(path)
        if not isinstance(made, nn.Module):
            raise LeanspikeError(f"neuron({path!r}) gives {made!r}; return a neuron, as LIF()")
        return made

    return make


def _norm_factory(
    norm: str | NormFactory, timesteps: int, neuron: NeuronFactory | None
) -> Callable[[int], TemporalNorm] | None:
    if isinstance(norm, str):
        if norm in ("keep", "fold"):
            return None
        norms.find(norm, also=("keep", "fold"))
        threshold = neuron.scale().mean().item() if isinstance(neuron, Calibrated) else 1.0
        norm = temporal_norm(norm, threshold=threshold)
    if isinstance(norm, nn.Module) or not callable(norm):
        raise LeanspikeError(f"norm is {norm!r}; give its name, as norm='bntt', or {NORM_FORM}")
    factory = norm
    _check_takes(factory, "norm", ("channels", "timesteps"), NORM_FORM)

    def make(channels: int) -> TemporalNorm:
        made = factory(channels, timesteps)
        if not isinstance(made, TemporalNorm):
            raise LeanspikeError(
                f"norm({channels}, {timesteps}) gives {made!r}; return a TemporalNorm, as "
                "BNTT(channels, timesteps)"
            )
        return made

    return make


def _check_takes(
    factory: Callable[..., object], name: str, arguments: Sequence[str], form: str
) -> None:
    """Raise LeanspikeError for a function that cannot be called with these arguments."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # a function of another language does not tell
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise LeanspikeError(
            f"{name} is a function of {signature}, but is called with ({', '.join(arguments)}); "
            f"write {form}"
        ) from None
