"""The registry: building by name, checked options, and what holds for every architecture."""

import inspect
import re
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.models import MODELS, VGG, create_model
from leanspike.surgery import spike

OWN = {"vgg": {"layers": [16, "A", 32], "head": [24]}}  # options that a model cannot do without
SIZES = {"airbench94": 32}  # pixels, of those that need more than the others
SIZE = 16


def size_of(name: str) -> int:
    return SIZES.get(name, SIZE)


def small(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return create_model(
        *(name, 5),
        in_channels=2,
        image_size=size_of(name),
        width=0.125,
        **OWN.get(name, {}),
        **options,
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_model_maps_images_to_logits(name: str) -> None:
    net = small(name)
    logits = net(torch.randn(4, 2, size_of(name), size_of(name)))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_traced_for_any_batch_size(name: str) -> None:
    net = small(name).double().eval()
    traced = torch.fx.symbolic_trace(net)
    x = torch.randn(6, 2, size_of(name), size_of(name), dtype=torch.float64)
    with torch.no_grad():
        whole = traced(x)
        torch.testing.assert_close(whole, net(x), rtol=0, atol=0)
        torch.testing.assert_close(whole, torch.cat([traced(row) for row in x.split([1, 2, 3])]))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_spikes_with_a_neuron_for_each_call_of_a_relu(name: str) -> None:
    net = small(name).eval()
    nodes = torch.fx.symbolic_trace(net).graph.nodes
    relus = [n for n in nodes if n.target is F.relu or _is_relu(net, n)]
    x = torch.randn(3, 2, size_of(name), size_of(name))
    snn = spike(net, example_input=x[:1], timesteps=2)
    assert len(list(snn.neurons())) == len(relus) > 1
    snn.load_ann(small(name).state_dict())
    assert snn(x).shape == (2, 3, 5)


def _is_relu(net: nn.Module, node: torch.fx.Node) -> bool:
    if node.op != "call_module":
        return False
    return isinstance(net.get_submodule(str(node.target)), nn.ReLU)


@pytest.mark.parametrize("name", MODELS)
def test_no_operation_reads_a_shape(name: str) -> None:
    """Time is stacked into the batch: a size in the graph would freeze the number of steps."""
    graph = torch.fx.symbolic_trace(small(name)).graph
    functions = {node.target for node in graph.nodes if node.op in ("call_method", "call_function")}
    assert functions.isdisjoint({"size", "view", "reshape", getattr})


@pytest.mark.parametrize("name", MODELS)
def test_no_activation_works_in_place(name: str) -> None:
    assert not any(m.inplace for m in small(name).modules() if isinstance(m, nn.ReLU | nn.Dropout))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_documented_and_typed(name: str) -> None:
    build = MODELS[name]
    assert inspect.getdoc(build)
    parameters = list(inspect.signature(build).parameters.values())
    assert parameters[0].name == "num_classes"
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[1:])
    assert all(p.annotation is not p.empty for p in parameters)


def test_options_as_yaml_gives_them() -> None:
    net = create_model("vgg", 3, layers=[8, "A", 8], head=[], width=1, dropout_conv=0, pool="max")
    assert isinstance(net, VGG)
    assert isinstance(net.features.pool1, nn.MaxPool2d)
    assert net.classifier.linear1.in_features == 8 * 16 * 16


def test_image_size_reaches_only_those_that_ask() -> None:
    assert create_model("vgg6", 2, image_size=12, width=0.1)(torch.zeros(1, 3, 12, 12)).shape
    assert create_model("cifar_resnet20", 2, image_size=-1)(torch.zeros(1, 3, 12, 12)).shape


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg61", {}, "no model 'vgg61'; did you mean 'vgg6'?"),
        ("ResNet20", {}, "no model 'ResNet20'; did you mean 'resnet20'?"),
        ("", {}, "no model ''; did you mean '"),
        ("vgg6", {"widht": 1}, "model vgg6 has no option 'widht'; did you mean 'width'?"),
        ("cifar_resnet20", {"batch_norm": True}, "model cifar_resnet20 has no option 'batch_norm'"),
        ("cifar_resnet20", {"depth": 20}, "model cifar_resnet20 has no option 'depth'; valid"),
        ("vgg", {}, "model vgg needs the option 'layers'; give it a value"),
        (
            "vgg6",
            {"width": "x"},
            "option 'width' of model vgg6 is 'x': Input should be a valid num",
        ),
        (
            "vgg6",
            {"batch_norm": 1},
            "option 'batch_norm' of model vgg6 is 1: Input should be a val",
        ),
        (
            "vgg6",
            {"pool": "mean"},
            "option 'pool' of model vgg6 is 'mean': Input should be 'avg' o",
        ),
        (
            "vgg6",
            {"head": "4096"},
            "option 'head' of model vgg6 is '4096': 'str' instances are not",
        ),
        (
            "vgg",
            {"layers": [1.5]},
            "option 'layers' of model vgg is [1.5]: Input should be a valid",
        ),
        ("vgg6", {"num_classes": "10"}, "option 'num_classes' of model vgg6 is '10': Input should"),
        ("vgg6", {"image_size": 2}, "2 pools do not fit an image of 2 pixels, at most 1 do; give"),
    ],
)
def test_errors(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(LeanspikeError) as error:
        create_model(**{"name": name, "num_classes": 10} | options)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_new_row_is_all_that_a_new_model_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(nn.Module):
        def __init__(self, num_classes: int, *, in_channels: int, depth: int = 1) -> None:
            super().__init__()
            self.sizes = (num_classes, in_channels, depth)

    monkeypatch.setitem(MODELS, "mine", Mine)
    assert create_model("mine", 7, in_channels=4, depth=2).sizes == (7, 4, 2)
    with pytest.raises(LeanspikeError, match=r"option 'depth' of model mine is 1\.5"):
        create_model("mine", 7, depth=1.5)


class TestTorchvision:
    """Networks of torchvision, by name."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("torchvision")

    def test_builds_untrained_with_its_options(self) -> None:
        net = create_model("torchvision/resnet18", 7, image_size=64, zero_init_residual=True)
        assert net.fc.out_features == 7
        assert not net.layer1[0].bn2.weight.detach().any()

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("resnet19", {}, "no model 'torchvision/resnet19'; did you mean 'torchvision/resnet1"),
            ("resnet18", {"in_channels": 1}, "model torchvision/resnet18 takes 3 channels, not 1"),
            ("resnet18", {"widht": 2}, "model torchvision/resnet18 does not take {'widht': 2}: "),
            ("resnet18", {"weights": "x"}, "model torchvision/resnet18 does not take {'weights'"),
        ],
    )
    def test_errors(self, name: str, options: dict[str, object], message: str) -> None:
        with pytest.raises(LeanspikeError, match="^" + re.escape(message)):
            create_model(f"torchvision/{name}", 10, **options)  # type: ignore[arg-type]


def test_torchvision_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(LeanspikeError, match=r"is not installed; pip install 'leanspike\[vision"):
        create_model("torchvision/resnet18", 10)
