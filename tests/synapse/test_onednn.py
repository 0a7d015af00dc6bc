"""What oneDNN gets wrong is never asked of it, and what is asked instead is the same."""

import copy
import io
import logging
import os
import subprocess
import sys
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import leanspike as ls
from leanspike.processor import instructions
from leanspike.synapse import EventConv2d, onednn, step_around, stepping_around

LAST = torch.channels_last
BLOCKS = {"avx2": 8, "avx512": 16, "avx512_bf16": 16}


@pytest.fixture(params=BLOCKS)
def blocked(request):
    """Each processor that gets the first kind wrong."""
    with patch.object(onednn, "instructions", return_value=request.param):
        yield BLOCKS[request.param]


@pytest.fixture
def avx512():
    with patch.object(onednn, "instructions", return_value="avx512"):
        yield


class Functional(nn.Module):
    """A convolution that is no nn.Conv2d, called in as many ways as there are."""

    def __init__(self, channels):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, channels, 1, 1))
        self.shift = nn.Parameter(torch.randn(8))

    def forward(self, x):
        y = F.conv2d(x, self.kernel, stride=2) + torch.conv2d(x, self.kernel, self.shift, (2, 2))
        return y + F.conv2d(input=x, weight=self.kernel, padding="valid", stride=[2])


class Own(nn.Conv2d):
    """A user's, with a forward pass of its own."""

    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean(), self.bias, self.stride)


def transposed(channels):
    return nn.ConvTranspose2d(4, channels, 1, stride=2, output_padding=1)


LAYERS = {
    "stride 2": lambda channels: nn.Conv2d(channels, 8, 1, stride=2),
    "stride 3": lambda channels: nn.Conv2d(channels, 8, 1, stride=3),
    "rows": lambda channels: nn.Conv2d(channels, 5, 1, stride=(2, 1), bias=False),
    "columns": lambda channels: nn.Conv2d(channels, 5, 1, stride=(1, 2), padding="valid"),
    "events": lambda channels: EventConv2d.of(nn.Conv2d(channels, 8, 1, stride=2)),
    "parametrised": lambda channels: parametrizations.weight_norm(
        nn.Conv2d(channels, 8, 1, stride=2)
    ),
}
OTHERS = {  # those that leave nothing to nn.Conv2d
    "functional": Functional,
    "transposed": transposed,
    "subclass": lambda channels: Own(channels, 8, 1, stride=2),
}


def gradients(layer, x, seed=1):
    """The output of a layer, dL/dx and those of its parameters."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    found = torch.autograd.grad(y, [x, *layer.parameters()], grad.to(y))
    return [y, *found]


def agree(layer, x, tolerance=1e-4):
    """Whether output and gradients are those of the same layer in float64 and contiguous."""
    exact = copy.deepcopy(layer).double()
    for parameter in exact.parameters():
        parameter.data = parameter.data.contiguous()
    found = gradients(layer, x)
    with patch.object(onednn, "instructions", return_value="none"):
        expected = gradients(exact, x.double().contiguous())
    for ours, theirs in zip(found, expected, strict=True):
        error = (ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-3)
        assert error < tolerance, (ours.shape, error)


def image(channels, batch=4, size=(6, 12)):
    torch.manual_seed(0)
    return torch.randn(batch, channels, *size).to(memory_format=LAST)


@pytest.fixture(params=[1, 3])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("channels", [2, 7, 15])
def test_results_are_float64s(blocked, name, channels):
    layer = LAYERS[name](channels).to(memory_format=LAST)
    step_around(layer)
    assert (onednn.PLACE in vars(layer)) == (channels < blocked)
    if channels < blocked:
        agree(layer, image(channels))
        agree(layer, image(channels, batch=1))
        agree(layer, image(channels, size=(5, 7)))


@pytest.mark.usefixtures("_threads", "blocked")
@pytest.mark.parametrize("name", [*LAYERS, *OTHERS])
def test_results_are_float64s_for_a_while(name):
    layer = {**LAYERS, **OTHERS}[name](4).to(memory_format=LAST)
    with stepping_around(layer):
        agree(layer, image(4))
    assert onednn.PLACE not in vars(layer)


@pytest.mark.usefixtures("blocked")
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
def test_the_gradient_is_laid_out_as_the_image(layout):
    """Else what follows would work in another layout than its own, and slowly."""
    x = image(3).contiguous(memory_format=layout).requires_grad_()
    seen = []
    x.register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=layout)))
    layer = nn.Conv2d(3, 8, 1, stride=2).to(memory_format=layout)
    step_around(layer)
    layer(x).square().sum().backward()
    assert seen == [True]


@pytest.mark.usefixtures("blocked")
@pytest.mark.parametrize("name", LAYERS)
def test_no_stride_is_asked_for(name):
    layer = LAYERS[name](4)
    step_around(layer)
    with patch("torch.nn.functional.conv2d", wraps=F.conv2d) as asked:
        layer(image(4))
    (call,) = asked.call_args_list
    assert (len(call.args), call.kwargs) == (3, {})


@pytest.mark.usefixtures("_threads", "blocked")
def test_under_autocast():
    layer = nn.Conv2d(5, 8, 1, stride=2).to(memory_format=LAST)
    step_around(layer)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(layer, image(5))
    assert found[0].dtype == torch.bfloat16
    exact = gradients(copy.deepcopy(layer).double(), image(5).double().contiguous())
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours.double() - theirs).norm() < 2e-2 * theirs.norm()


@pytest.mark.usefixtures("avx512", "_threads")
@pytest.mark.parametrize("size", [(1, 1), (4, 1), (3, 2), (4, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride"), [(2, 2), (2, 3), (3, 2), (5, 2), (3, 3), ((1, 3), (1, 2))]
)
@pytest.mark.parametrize("groups", [1, 2])
def test_images_narrower_than_the_stride_are_padded_beforehand(kernel, stride, groups, size):
    """In bfloat16 their gradient of the weights was memory that nobody wrote."""
    rows, columns = nn.modules.utils._pair(kernel)
    padding = (rows // 2, columns // 2)
    layer = nn.Conv2d(16, 8, kernel, stride=stride, padding=padding, groups=groups)
    layer = layer.to(torch.bfloat16, memory_format=LAST)
    step_around(layer)
    agree(layer, image(16, size=size).to(torch.bfloat16), tolerance=2e-2)


@pytest.mark.usefixtures("avx512")
@pytest.mark.parametrize("make", [nn.Conv1d, nn.Conv3d])
def test_so_are_lines_and_volumes(make):
    layer = make(16, 8, 3, stride=2, padding=1).to(torch.bfloat16)
    step_around(layer)
    x = torch.randn(4, 16, *[2] * (layer.weight.dim() - 3), 1, dtype=torch.bfloat16)
    agree(layer, x, tolerance=2e-2)


class Blurring(nn.Conv2d):
    """A user's, with a convolution of its own."""

    def _conv_forward(self, x, weight, bias):
        return F.conv2d(F.avg_pool2d(x, 1), weight, bias, self.stride)


CASES = [  # a layer, and with which instructions it computes in another way
    (nn.Conv2d(3, 8, 1, stride=2), {"avx2", "avx512", "avx512_bf16"}),
    (nn.Conv2d(7, 8, 1, stride=(1, 2)), {"avx2", "avx512", "avx512_bf16"}),
    (nn.Conv2d(8, 8, 1, stride=2), {"avx512", "avx512_bf16"}),
    (nn.Conv2d(15, 8, 1, stride=2), {"avx512", "avx512_bf16"}),
    (nn.LazyConv2d(8, 1, stride=2), {"avx2", "avx512", "avx512_bf16"}),
    (nn.Conv2d(4, 8, 3, stride=2, padding=1), {"avx512", "avx512_bf16"}),
    (Blurring(4, 8, 1, stride=2), set()),
    (nn.Conv2d(1, 8, 1, stride=2), set()),
    (nn.Conv2d(16, 8, 1, stride=2), set()),
    (nn.Conv2d(3, 8, 1), set()),
    (nn.Conv2d(4, 8, 1, stride=2, groups=2), set()),
    (nn.Conv2d(3, 8, 1, stride=2, padding=1), set()),
    (nn.Conv2d(3, 8, 3, padding=1), set()),
    (nn.Conv2d(3, 8, 3, stride=2), set()),
    (nn.Conv2d(3, 8, 3, stride=(2, 1), padding=1), set()),
    (nn.Conv2d(3, 8, 3, stride=2, padding=1, padding_mode="reflect"), set()),
    (nn.Conv1d(3, 8, 3, stride=2, padding=1), {"avx512", "avx512_bf16"}),
    (nn.Conv1d(3, 8, 1, stride=2), set()),
    (nn.Conv3d(3, 8, 1, stride=2), set()),
    (nn.Linear(3, 8), set()),
]


@pytest.mark.parametrize("name", ["none", *BLOCKS])
@pytest.mark.parametrize(("layer", "where"), CASES, ids=[str(layer)[:60] for layer, _ in CASES])
def test_no_other_layer_is_touched(layer, where, name):
    layer = copy.deepcopy(layer)
    before, needed = dict(vars(layer)), name in where
    with patch.object(onednn, "instructions", return_value=name):
        with stepping_around(layer):
            assert (onednn.PLACE in vars(layer)) == needed
        assert vars(layer) == before
        step_around(layer)
        step_around(layer)
        assert (onednn.PLACE in vars(layer)) == needed
        with stepping_around(layer):
            pass
        assert (onednn.PLACE in vars(layer)) == needed


@pytest.mark.usefixtures("blocked")
def test_calls_in_python_are_watched_only_for_a_network_that_may_need_it():
    plain = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2), nn.Conv2d(8, 4, 1), nn.Linear(4, 2))
    others = Functional(4), transposed(4), Own(4, 8, 1, stride=2), Blurring(4, 8, 1, stride=2)
    for network, watched in ((plain, 0), *((other, 1) for other in others)):
        with stepping_around(network):
            assert torch._C._len_torch_function_stack() == watched
        assert torch._C._len_torch_function_stack() == 0


@pytest.mark.usefixtures("blocked")
def test_a_transposed_convolution_with_other_arguments_is_pytorchs():
    torch.manual_seed(0)
    with stepping_around(transposed(4)):
        for channels, options in ((4, {"padding": 1}), (16, {}), (4, {"bias": False})):
            how = {"stride": 2, "output_padding": 1, **options}
            layer = nn.ConvTranspose2d(4, channels, 1, **how)
            agree(layer, image(4))


@pytest.mark.usefixtures("blocked")
def test_the_layer_may_change():
    """Stride and padding are those of the call, also in copies and in a spiking network."""
    layer = nn.Conv2d(4, 8, 1, stride=2)
    step_around(layer)
    for changed in (layer, copy.deepcopy(layer)):
        changed.stride = (1, 3)
        agree(changed, image(4))
        changed.padding = (1, 1)
        agree(changed, image(4))
    snn = ls.spike(narrow(), example_input=torch.zeros(1, 3, 8, 8), timesteps=2)
    for copied in (snn, copy.deepcopy(snn)):
        layer = copied.get_submodule("2")
        assert vars(layer)[onednn.PLACE].layer is layer


@pytest.mark.usefixtures("avx512")
def test_a_padded_layer_may_change():
    layer = nn.Conv2d(4, 8, 3, stride=2, padding=1)
    step_around(layer)
    layer.stride, layer.dilation = (1, 3), (1, 1)
    agree(layer, image(4, size=(4, 2)))
    layer.padding = "valid"
    agree(layer, image(4, size=(4, 4)))


@pytest.mark.usefixtures("blocked")
def test_what_somebody_else_put_there_stays():
    layer = nn.Conv2d(4, 8, 1, stride=2)
    vars(layer)["_conv_forward"] = theirs = lambda x, _weight, _bias: x
    step_around(layer)
    with stepping_around(layer):
        assert vars(layer)["_conv_forward"] is theirs


@pytest.mark.usefixtures("blocked")
def test_the_layer_is_what_it_was():
    """Twice in one graph, with a hook of the user's, called by name, copied, and saved."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 1, stride=2).to(memory_format=LAST)
    keys, seen = list(layer.state_dict()), []
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"))
    step_around(layer)
    assert type(layer) is nn.Conv2d
    assert list(layer.state_dict()) == keys
    agree(nn.Sequential(layer, layer), image(3, size=(8, 8)))
    assert {*seen} == {"before", "after"}
    assert torch.equal(layer(input=image(3)), layer(image(3)))

    plain = nn.Conv2d(3, 3, 1, stride=2)
    step_around(plain)
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    for same in (copy.deepcopy(plain), torch.load(file, weights_only=False)):
        assert onednn.PLACE in vars(same)
        assert torch.equal(same(image(3)), plain(image(3)))


@pytest.mark.usefixtures("blocked")
@pytest.mark.parametrize("name", ["stride 2", "functional", "transposed"])
@pytest.mark.parametrize("before", [False, True])
def test_under_torch_compile(name, before):
    """For good, and for a while in a network that was compiled and called before."""
    torch._dynamo.reset()
    layer = {**LAYERS, **OTHERS}[name](3).to(memory_format=LAST)
    x = image(4 if name == "transposed" else 3, size=(8, 8))
    sizes = []

    def backend(module, _):
        nodes = [n for n in module.graph.nodes if "conv" in str(n.target)]
        sizes.append([tuple(n.all_input_nodes[0].meta["example_value"].shape[2:]) for n in nodes])
        return module

    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    if before:
        compiled(x)
    with stepping_around(compiled):
        agree(compiled, x)
    if name != "transposed":
        assert {*sizes.pop()} == {(4, 4)}


@pytest.mark.usefixtures("blocked")
def test_a_hook_that_stays_is_compiled():
    torch._dynamo.reset()
    layer = nn.Conv2d(3, 8, 1, stride=2).to(memory_format=LAST)
    step_around(layer)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    agree(compiled, image(3))


def narrow():
    """As a shortcut of a ResNet at an eighth of its width."""
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
    return nn.Sequential(*stem, nn.Conv2d(4, 8, 1, stride=2), nn.Flatten(), nn.Linear(128, 2))


@pytest.mark.usefixtures("blocked")
def test_a_spiking_network_is_kept_from_it():
    ann = narrow()
    snn = ls.spike(ann, example_input=torch.zeros(1, 3, 8, 8), timesteps=2)
    assert onednn.PLACE not in vars(ann.get_submodule("2"))  # left untouched
    assert onednn.PLACE in vars(snn.get_submodule("2"))
    assert {*ann.state_dict()} < {*snn.state_dict()}
    snn.to(memory_format=LAST)
    y_TNK = snn(image(3, size=(8, 8)))
    y_TNK.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in snn.parameters())
    folded = ls.spike(ann.eval(), example_input=torch.zeros(1, 3, 8, 8), norm="fold")
    assert onednn.PLACE in vars(folded.get_submodule("2"))


@pytest.fixture
def untold(caplog):
    onednn._told.cache_clear()
    with caplog.at_level(logging.WARNING, "leanspike"):
        yield caplog
    onednn._told.cache_clear()


@pytest.mark.usefixtures("blocked")
def test_it_is_said_once(untold):
    for _ in range(2):
        ls.spike(narrow(), example_input=torch.zeros(1, 3, 8, 8))
        ls.models.create_model("wrn16_2", 10, width=0.125)
    (record,) = untold.records
    assert "layer '2' (1x1, stride (2, 2), 4 input channels)" in record.message
    assert f"PyTorch {torch.__version__} can write outside its memory" in record.message
    assert "you need to do nothing" in record.message


@pytest.mark.usefixtures("blocked")
def test_create_model_says_it(untold):
    network = ls.models.create_model("wrn16_2", 10, width=0.125)
    assert len(untold.records) == 1
    ways = [vars(m)[onednn.PLACE] for m in network.modules() if onednn.PLACE in vars(m)]
    assert any(isinstance(way, onednn.Strided) for way in ways)


def test_where_all_is_well_nothing_is_said(untold):
    with patch.object(onednn, "instructions", return_value="none"):
        ls.spike(narrow(), example_input=torch.zeros(1, 3, 8, 8))
    assert not untold.records


FIT = """
import tempfile
from pathlib import Path
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F
from leanspike.data import Loader, TensorSplit
from leanspike.train import Checkpoints, CrossEntropy, Monitor, Stage, create_optimizer, fit
from leanspike.train.schedule import create_schedule

torch.manual_seed(0)
torch.set_num_threads({threads})

class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, {channels}, 1, 1))

    def forward(self, x):
        return F.conv2d(x, self.weight, stride=2)

images = torch.randint(0, 256, (160, 3, 16, 16), dtype=torch.uint8)
split = TensorSplit(images, torch.randint(10, (160,)))
how = {{"seed": 0, "train": True, "memory_format": torch.channels_last}}
train = Loader(split, batch_size=16, mean=(0.5,) * 3, std=(0.3,) * 3, **how)
monitor = Monitor(Console(quiet=True))
how = {{"stride": 2, "output_padding": 1}}
layers = {{
    nn.Conv2d({channels}, 8, 1, stride=2): 8,
    Functional(): 8,
    nn.ConvTranspose2d({channels}, 4, 1, **how): 4,
}}
for layer, outputs in layers.items():
    first = nn.Conv2d(3, {channels}, 3, padding=1)
    last = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(outputs, 10)
    network = nn.Sequential(first, nn.ReLU(), layer, *last).to(memory_format=torch.channels_last)
    stage = Stage(
        name="ann", number=0, epochs=2, timesteps=None, train=train, val=None,
        objective=CrossEntropy(), optimizer=create_optimizer(network, learning_rate=0.01),
        schedule=create_schedule("constant", 20), seed=0, select="last",
    )
    folder = Path(tempfile.mkdtemp())
    fit(network, stage, [], Checkpoints(folder / "checkpoint.pt", 1e9), monitor)
    print("fine", all(p.isfinite().all() for p in network.parameters()))
"""


@pytest.mark.skipif(instructions() == "none", reason="oneDNN has no such kernels here")
@pytest.mark.parametrize(("isa", "threads", "channels"), [("AVX2", 1, 4), ("ALL", 3, 12)])
def test_fit_never_reaches_it(isa, threads, channels):
    """Without the ways around it crashes, or does not end."""
    program = FIT.format(threads=threads, channels=channels)
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "MALLOC_PERTURB_": "165"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "fine True\n" * 3), ran.stderr[-500:]
