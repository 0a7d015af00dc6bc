"""Other devices than the CPU, without one: fake CUDA tensors, and the device "meta".

Both refuse what mixes devices, and what needs a value on the way: on a GPU that would wait for all
work before it. Fake tensors know the rules of CUDA but cannot be differentiated here; "meta" can.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import leanspike as ls
from leanspike.data import Augment, EventAugment, Loader, TensorSplit
from leanspike.evaluation import choose_confidence
from leanspike.evaluation.fan_out import weighted
from leanspike.graph.ops import OPERATIONS, Signal
from leanspike.graph.replacement import Parts
from leanspike.graph.rewrite import Rewriting
from leanspike.graph.trace import trace
from leanspike.run.build import choose_dtype
from leanspike.surgery import SpikingNetwork, fold_norms
from leanspike.temporal import TEBN, TEMPORAL_NORMS
from leanspike.train import (
    TET,
    Accumulates,
    CrossEntropy,
    Feature,
    Objective,
    Response,
    SelfDistillation,
    SpikeRate,
    Weighted,
)

NORMS = ("keep", "fold", *TEMPORAL_NORMS)
T, N = 3, 4


@pytest.fixture(autouse=True)
def no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one look at values in a forward pass, which is meant: it comes first."""
    monkeypatch.setattr("leanspike.execute.network.value_range", lambda _: (0.0, 1.0))


@contextmanager
def fake_cuda(*modules: nn.Module) -> Iterator[None]:
    """CUDA tensors without CUDA: shapes, types and devices of what would be computed.

    The modules' own are replaced by such.
    """
    if torch.version.cuda is None or older_than(2, 14):
        pytest.skip("a torch built without CUDA, or before 2.14, aborts at a pretended convolution")
    with FakeTensorMode():
        for part in (part for module in modules for part in module.modules()):
            for name, parameter in part.named_parameters(recurse=False):
                value = nn.Parameter(on_cuda(parameter), parameter.requires_grad)
                part.register_parameter(name, value)
            for name, buffer in part.named_buffers(recurse=False):
                part.register_buffer(name, on_cuda(buffer))
        yield


def older_than(*version: int) -> bool:
    return torch.torch_version.TorchVersion(torch.__version__) < version


def on_cuda(like: Tensor) -> Tensor:
    return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device="cuda")


def ann(name: str = "vgg6", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return ls.models.create_model(name, 10, image_size=16, width=0.125, **options)


def spiking(
    norm: str = "keep", encode: str = "direct", network: nn.Module | None = None
) -> SpikingNetwork:
    framed = () if encode != "frames" else (T,)
    return ls.spike(
        network or ann(batch_norm=True),
        example_input=torch.zeros(*framed, 1, 3, 16, 16),
        norm=norm,
        encode=encode,
        timesteps=T,
    )


def images(device: str, encode: str = "direct") -> Tensor:
    framed = () if encode != "frames" else (T,)
    return torch.empty(*framed, N, 3, 16, 16, device=device)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("encode", ["direct", "frames", "poisson"])
def test_a_forward_pass_stays_on_the_gpu_and_waits_for_nothing(norm: str, encode: str) -> None:
    snn = spiking(norm, encode)
    with fake_cuda(snn):
        assert snn(images("cuda", encode)).device.type == "cuda"
        if encode != "poisson":  # whose spikes in eval mode are drawn on the CPU, by design
            assert snn.eval()(images("cuda", encode)).device.type == "cuda"


@pytest.mark.parametrize("name", ["resnet12", "resnet18", "cifar_resnet20", "wrn16_2", "mlp"])
def test_so_does_that_of_other_networks(name: str) -> None:
    snn = spiking(network=ls.models.create_model(name, 10, image_size=16))
    with fake_cuda(snn):
        assert snn(images("cuda")).device.type == "cuda"


@pytest.mark.parametrize("norm", NORMS)
def test_streaming_and_folded_norms_stay_on_the_gpu(norm: str) -> None:
    snn = fold_norms(spiking(norm).eval()) if norm != "fold" else spiking(norm).eval()
    with fake_cuda(snn):
        state = None
        for _ in range(T):
            y_NK, state = snn.step(images("cuda"), state)
        assert y_NK.device.type == "cuda"
        assert {u.device.type for u in state.neurons.values()} == {"cuda"}
        kept = state.keep(torch.empty(2, dtype=torch.int64, device="cuda"))
        assert {len(u) for u in kept.neurons.values()} == {2}


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_need_no_other_device_and_no_values(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # "meta" has none
    snn, work = spiking(norm), Accumulates()
    with work.watch(snn):  # what each spike causes is found where there are weights
        snn.to("meta")
    for objective in [*objectives(snn), Weighted([(1.0, work)])]:
        with objective.watch(snn):
            y_TNK = snn(images("meta"))
        labels = torch.empty(N, dtype=torch.int64, device="meta")
        objective(y_TNK, labels, images("meta")).backward()
        grads = [p.grad for p in snn.parameters() if p.requires_grad]
        assert {grad.device.type for grad in grads if grad is not None} == {"meta"}
        assert sum(grad is not None for grad in grads) > 10


def objectives(snn: SpikingNetwork) -> list[Objective]:
    teacher = ann().to("meta")
    features = [Feature(teacher, snn, images("meta"), each_step=each) for each in (False, True)]
    labels = [CrossEntropy(label_smoothing=0.1), TET()]
    terms = [*labels, Response(teacher), SelfDistillation(), SpikeRate(), *features]
    return [Weighted([(1.0, term)]) for term in terms]


def test_what_the_surgery_adds_is_where_the_network_is() -> None:
    root = ann(batch_norm=True).to("meta")
    graph = trace(root, torch.zeros(1, 3, 16, 16, device="meta"), OPERATIONS).graph
    parts = Parts(lambda _path: ls.LIF(), lambda channels: TEBN(channels, T), OPERATIONS)
    Rewriting(root, graph, parts).run(Signal(timed=False, kind="analog"))
    assert [type(m) for m in root.modules() if isinstance(m, ls.LIF | TEBN)]
    assert {value.device.type for value in root.state_dict().values()} == {"meta"}


def test_augmentation_and_batches_are_the_devices_work() -> None:
    split = TensorSplit(torch.zeros(8, 3, 16, 16, dtype=torch.uint8), torch.zeros(8).long())
    loader = Loader(
        split,
        batch_size=4,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        seed=0,
        train=True,
        augment=Augment(crop=2, flip=True, cutout=4),
        memory_format=torch.channels_last,
        device="meta",
    )
    x, labels = next(loader.epoch(0))
    assert x.shape == (4, 3, 16, 16)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.device.type == labels.device.type == "meta"


def test_events_are_augmented_on_the_device_too() -> None:
    frames = torch.empty(4, T, 2, 16, 16, dtype=torch.uint8, device="meta")
    moved = EventAugment(flip=True, shift=2)(frames, torch.Generator().manual_seed(0))
    assert moved.device.type == "meta"


def test_operations_are_counted_where_the_spikes_are() -> None:
    with fake_cuda():
        spikes = torch.empty(N, 8, 4, 4, device="cuda") > 0
        with pytest.raises(DataDependentOutputException):  # not of devices: the sum itself
            weighted(spikes, torch.empty(8, 4, 4, dtype=torch.float64, device="cuda"))


def test_leaving_early_is_chosen_where_the_answers_are() -> None:
    with fake_cuda():
        answers, labels = torch.empty(T, N, 10, device="cuda"), torch.empty(N, device="cuda")
        with pytest.raises(DataDependentOutputException):  # not of devices: the thresholds
            choose_confidence(answers, labels)


def test_bfloat16_is_for_gpus_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def emulated(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulated)
    assert choose_dtype("auto", torch.device("cuda")) == torch.float32
    assert choose_dtype("bfloat16", torch.device("cuda")) == torch.bfloat16


@pytest.mark.filterwarnings("ignore:Guards may run slower")  # Python 3.13.0 only
@pytest.mark.parametrize("norm", ["keep", "bntt"])
def test_a_network_of_reference_neurons_compiles_whole_at_its_first_call(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if older_than(2, 13):
        pytest.skip("an older torch (2.6 does) breaks the graph at an autograd.Function")
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")  # as on a GPU
    small = ann("vgg", layers=[8, "A", 8], head=[], batch_norm=True, dropout_conv=0.0)
    snn, x = spiking(norm, network=small), torch.randn(N, 3, 16, 16)
    compiled = torch.compile(copy.deepcopy(snn), backend="aot_eager", fullgraph=True)
    found = []
    for network in (compiled, snn):
        y_TNK = network(x)
        y_TNK.square().sum().backward()
        found.append([y_TNK.detach(), *(p.grad for p in network.parameters())])
    torch.testing.assert_close(*found)
