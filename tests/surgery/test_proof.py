"""The proof at conversion: what tracing does not see is found, and refused with a way out."""

import copy
import random
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from leanspike import LIF, SurgeryError, calibrate, load, save, spike
from leanspike.errors import LeanspikeError

X = torch.rand(2, 4, generator=torch.Generator().manual_seed(3))


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


class Net(nn.Module):
    """A network whose forward is a function of itself and its input, with two layers."""

    def __init__(self, forward, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.compute = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.compute(self, x)


def plain(net, x):
    return net.b(F.relu(net.a(x)))


def assert_same(ann, x=X):
    """The network converts, and answers as itself with ReLUs for neurons."""
    snn = spike(ann, example_input=x[:1], neuron=nn.ReLU(), timesteps=2)
    with torch.no_grad():
        torch.testing.assert_close(snn.eval()(x)[1], ann.eval()(x))
    return snn


def refused(ann, *fragments, x=X, **options):
    with pytest.raises(SurgeryError) as error:
        spike(ann, example_input=x, **options)
    message = str(error.value)
    assert [f for f in fragments if f not in message] == [], message
    assert "\n" not in message
    return message


def follow(message, net):
    """Run the code that a message says, on a network."""
    code = message.split("say ")[-1].split(", and ")[0].split("; what")[0].split(" before ")[0]
    exec(code, {"net": net, "torch": torch})


# -- hooks and forwards ------------------------------------------------------------------------

HOOKS = {
    "forward hook": lambda m: m.register_forward_hook(lambda _m, _a, y: y / 2),
    "forward hook, observing": lambda m: m.register_forward_hook(lambda *_: None),
    "forward pre-hook": lambda m: m.register_forward_pre_hook(lambda _m, a: (a[0] - 0.5,)),
    "backward hook": lambda m: m.register_full_backward_hook(lambda _m, gi, _go: gi),
    "backward pre-hook": lambda m: m.register_full_backward_pre_hook(lambda _m, go: go),
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("path", ["", "1", "2"])
def test_hooks_are_refused_by_their_path_and_the_advice_works(kind, path):
    ann = mlp()
    HOOKS[kind](ann.get_submodule(path))
    place = f"module {path}: " if path else "the network: "
    message = refused(ann, place + f"has a {kind.split(',')[0]}", "_hooks.clear()")
    follow(message, ann)
    assert_same(ann)


@pytest.mark.parametrize(
    "register",
    [
        lambda weight: weight.register_hook(lambda g: g * 0),
        lambda weight: weight.register_post_accumulate_grad_hook(lambda _: None),
    ],
)
def test_a_gradient_hook_is_refused_and_the_advice_works(register):
    ann = mlp()
    register(ann[0].weight)
    message = refused(ann, "module 0: its weight has a gradient hook, which a copy does not keep")
    follow(message, ann)
    assert_same(ann)


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_of_all_modules_are_refused_and_the_advice_works(kind):
    handle = getattr(nn.modules.module, f"register_module_{kind}_hook")(lambda *_: None)
    try:
        message = refused(mlp(), "hook of all modules", "clear()")
        follow(message, mlp())
        assert_same(mlp())
    finally:
        handle.remove()


def test_hooks_within_a_declared_module_stay_there():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            return self.inner(x)

    ann = nn.Sequential(mlp(), Half()).eval()
    ann[1].inner.register_forward_hook(lambda _m, _a, y: y / 2)
    snn = spike(ann, example_input=X, ops={Half: "analog"}, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))


def test_a_forward_replaced_on_the_object_is_refused_and_the_advice_works():
    ann = mlp()
    ann.forward = types.MethodType(lambda self, x: self[2](self[1](self[0](x))) * 2, ann)
    message = refused(ann, "the network: its forward was replaced on the object", "del net.forward")
    follow(message, ann)
    assert_same(ann)
    ann[1].forward = lambda x: x
    refused(ann, "module 1: its forward was replaced", "say del net[1].forward")


class Chooses(nn.Module):
    """Chooses its forward when it is made."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(4, 4)
        self.forward = self.doubled if way == "doubled" else self.halved

    def doubled(self, x):
        return self.inner(x) * 2

    def halved(self, x):
        return F.relu(self.inner(x)) / 2


class ChoosingLayer(nn.Linear):
    """A layer of the table whose class chooses another forward."""

    def __init__(self):
        super().__init__(4, 4)
        self.forward = self.doubled

    def doubled(self, x):
        return F.linear(x, self.weight, self.bias) * 2


@pytest.mark.parametrize("way", ["doubled", "halved"])
def test_a_forward_that_the_class_itself_chooses_is_traced(way, tmp_path):
    for ann in (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Chooses(way)), Chooses("halved")):
        assert_same(ann)
        snn = spike(ann, example_input=X[:1], neuron=LIF(0.2)).eval()
        again = load(save(snn, tmp_path / type(ann).__name__), ann=ann)
        torch.testing.assert_close(again(X), snn(X))


def test_a_forward_of_another_object_or_of_a_layer_is_refused():
    ann = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Chooses("doubled"))
    ann[2].forward = Chooses("doubled").halved
    refused(ann, "module 2: its forward was replaced")
    ann[2] = ChoosingLayer()
    refused(ann, "module 2: its forward was replaced")


class Keeps(nn.Module):
    """Writes to a buffer what a function says, where that has not the right length."""

    def __init__(self, write):
        super().__init__()
        self.write = write
        self.register_buffer("kept", torch.zeros(1))

    def forward(self, x):
        if self.kept.shape[0] != x.shape[1]:
            self.kept = self.write(x)
        return x * self.kept


def keeping(write):
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Keeps(write)).eval()


def test_a_buffer_that_keeps_what_no_input_changes_is_no_state():
    ann = keeping(lambda x: torch.arange(x.shape[1]) * 2.0)
    snn = assert_same(ann)
    torch.testing.assert_close(snn(X)[0], ann(X))  # which reads it by now


@pytest.mark.parametrize(
    "write", [lambda x: x.mean((0,)) + 1, lambda x: x.detach().amax(1).repeat(6)]
)
def test_a_buffer_that_keeps_the_first_input_is_a_state(write):
    refused(keeping(write), x=X[:1])


def test_a_buffer_that_counts_is_a_state():
    def counts(net, x):
        net.calls = net.calls + 1
        return plain(net, x)

    ann = Net(counts)
    ann.register_buffer("calls", torch.zeros(1))
    refused(ann, "its forward writes to the buffer calls")


def test_a_call_of_its_own_is_found_by_what_it_answers():
    class Scaled(Net):
        def __call__(self, x):
            return super().__call__(x / 255)

    message = refused(Scaled(plain), "in eval mode", "module a gets another input")
    assert "a __call__ of its own" in message
    assert_same(Net(lambda net, x: plain(net, x / 255)))


# -- what Python does around tensors -----------------------------------------------------------


def test_what_depends_on_whether_it_is_a_tensor_is_found():
    refused(Net(lambda net, x: plain(net, x) * (2 if isinstance(x, torch.Tensor) else 1)), "differ")


def test_numbers_that_numpy_draws_are_found():
    refused(
        Net(lambda net, x: plain(net, x) + float(np.random.rand())),
        "draws a number with Python or NumPy",
    )
    drawn = Net(lambda net, x: plain(net, x) * torch.from_numpy(np.random.rand(1, 3)).float())
    refused(drawn, "the answers differ by")


def test_autocast_within_a_forward_is_found():
    def low(net, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return plain(net, x)

    refused(Net(low), "in eval mode, module b gets another input", "autocast")


def no_grad(net, x):
    with torch.no_grad():
        h = F.relu(net.a(x))
    return net.b(h)


class Straight(torch.autograd.Function):
    """A sign whose gradient passes through."""

    @staticmethod
    def forward(ctx, x):  # noqa: ARG004
        return x * 2

    @staticmethod
    def backward(ctx, grad):  # noqa: ARG004
        return grad


def test_gradients_that_the_network_stops_are_found_and_the_advice_works():
    refused(
        Net(no_grad), "gradients differ from its graph's", "a.bias, a.weight", "write x.detach()"
    )
    snn = assert_same(Net(lambda net, x: net.b(F.relu(net.a(x)).detach())))
    snn(X).sum().backward()
    assert snn.a.weight.grad is None
    assert snn.b.weight.grad is not None


def test_a_gradient_of_its_own_is_found_and_the_advice_works():
    class Sign(nn.Module):
        def forward(self, x):
            return Straight.apply(x)

    ann = Net(lambda net, x: net.sign(plain(net, x)), sign=Sign())
    refused(ann, "gradients differ from its graph's", "ops={ThatModule: 'analog'}")
    spike(ann, example_input=X, ops={Sign: "analog"})(X).sum().backward()


def test_a_state_between_calls_is_found():
    def counts(net, x):
        net.calls += 1
        return plain(net, x) * net.calls

    refused(Net(counts, calls=0), "answers otherwise when it is called again")


def test_a_buffer_that_the_forward_writes_is_found():
    class Tracks(Net):
        def __init__(self):
            super().__init__(None)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return plain(self, x)

    refused(Tracks(), "iadd in the network itself: writes to a parameter or buffer", "take it out")


def test_a_cached_feature_map_is_copied_without_its_graph_and_not_kept():
    class Caches(Net):
        def forward(self, x):
            self.features = F.relu(self.a(x))
            return self.b(self.features)

    ann = Caches(None)
    ann(X).sum().backward()
    kept = ann.features
    snn = assert_same(ann)
    assert not isinstance(vars(snn).get("features"), torch.fx.Proxy)
    assert ann.features is not kept  # of the comparison above
    copy.deepcopy(snn)


def test_what_cannot_be_copied_is_named_and_the_advice_works(tmp_path):
    ann = mlp()
    with (tmp_path / "log").open("w") as file:
        ann.add_module("3", nn.Identity())
        ann[3].log = file
        message = refused(ann, "attribute 3.log: a TextIOWrapper cannot be copied")
    follow(message, ann)
    assert_same(ann)


# -- weights that are computed -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (torch.nn.utils.weight_norm, "remove_weight_norm(net[0], 'weight')"),
        (torch.nn.utils.spectral_norm, "remove_spectral_norm(net[0], 'weight')"),
        (torch.nn.utils.parametrizations.weight_norm, "remove_parametrizations(net[0], 'weight')"),
        (torch.nn.utils.parametrizations.spectral_norm, "remove_parametrizations(net[0], 'weight"),
        (torch.nn.utils.parametrizations.orthogonal, "remove_parametrizations(net[0], 'weight')"),
        (
            lambda m: torch.nn.utils.prune.l1_unstructured(m, "weight", 0.5),
            "torch.nn.utils.prune.remove(net[0], 'weight')",
        ),
    ],
)
def test_computed_weights_are_refused_and_the_advice_works(make, advice):
    ann = mlp()
    make(ann[0])
    ann.eval()
    before = ann(X).detach()
    follow(refused(ann, "module 0: its weight is computed", advice), ann)
    torch.testing.assert_close(ann(X), before)
    assert_same(ann)


def test_values_that_are_not_there_are_named_and_the_advice_works():
    ann = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 3)).eval()
    refused(ann, "0.weight: a lazy module has no values yet", "net(example_input)")
    ann(X)
    assert_same(ann)
    with torch.device("meta"):
        ann = mlp()
    refused(ann, "0.weight: lies on the meta device", "net.to_empty(device='cpu')")
    ann = ann.to_empty(device="cpu")
    ann.load_state_dict(mlp().state_dict())
    assert_same(ann)


def test_a_network_that_does_not_run_in_training_mode_is_told_of(caplog):
    ann = nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True), nn.ReLU()).eval()
    assert_same(ann, torch.rand(2, 4, 1))
    assert "does not run in training mode (Expected more than 1 spatial elem" in caplog.text
    assert "so only its eval mode was compared with its graph" in caplog.text
    caplog.clear()
    assert_same(nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()).eval(), torch.rand(2, 4, 1))
    assert "training mode" not in caplog.text


def test_a_module_that_takes_the_examples_samples_alone_is_refused():
    class Alone(nn.Module):
        def forward(self, x):
            return x.reshape(1, 4)

    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Alone(), nn.Linear(4, 3)).eval()
    ops = {Alone: "analog"}
    refused(net, "cannot be computed for 2 samples", "write it for any number", x=X[:1], ops=ops)
    net[2] = nn.Identity()
    assert_same(net)


def test_nan_is_named():
    ann = mlp()
    ann[2].bias.data[1] = torch.nan
    refused(ann, "2.bias: 1 of its 3 entries are NaN or infinite", "names all such")
    ann[2].bias.data[1] = -torch.inf
    message = refused(ann, "2.bias: 1 of its 3 entries are NaN or infinite")
    code = message.partition("diverge. ")[2].partition(" names")[0]
    assert eval(code, {"net": ann}) == ["2.bias"]
    ann.register_buffer("mask", torch.tensor(-torch.inf))
    ann[2].bias.data[1] = 0
    assert_same(ann)
    refused(Net(lambda net, x: torch.log(-plain(net, x).abs() - 1)), "answers NaN to the example")


# -- wrappers ----------------------------------------------------------------------------------


def test_wrappers_are_named_and_the_advice_works():
    refused(torch.compile(mlp()), "is a wrapper of torch.compile", "give net._orig_mod")
    assert_same(torch.compile(mlp())._orig_mod)
    refused(nn.DataParallel(mlp()), "a wrapper of torch.nn.DataParallel", "give net.module")
    assert_same(nn.DataParallel(mlp()).module)
    ann = nn.Sequential(torch.compile(mlp()), nn.ReLU())
    follow(
        refused(ann, "module 0: is a wrapper of torch.compile", "net[0] = net[0]._orig_mod"), ann
    )
    assert_same(ann)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_named_and_the_advice_works():
    for scripted in (torch.jit.script(mlp()), torch.jit.trace(mlp(), X)):
        refused(scripted, "TorchScript", "net.state_dict()")
        ann = mlp()
        ann.load_state_dict(scripted.state_dict())
        assert_same(ann)


# -- nothing of the user's changes -------------------------------------------------------------


def test_random_numbers_of_devices_that_are_not_used_are_left_alone(monkeypatch):
    def seeded(_seed):
        raise AssertionError("a GPU's random numbers begin anew")

    for device in (torch.cuda, torch.xpu):
        monkeypatch.setattr(device, "manual_seed_all", seeded)
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5)).train()
    assert spike(ann, example_input=X)(X).shape[1:] == (2, 6)


def test_the_network_and_all_random_numbers_are_left_alone():
    ann = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5)).train()
    ann[1].eval()
    ann(X).sum().backward()
    before = copy.deepcopy(ann)
    grads = [p.grad.clone() for p in ann.parameters()]
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    snn = spike(ann, example_input=X, neuron=lambda path: LIF(leak=0.9))  # noqa: ARG005
    drawn = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    assert drawn == (torch.rand(1), random.random(), np.random.rand())
    for (name, value), other in zip(
        ann.state_dict().items(), before.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name
    assert all(torch.equal(p.grad, g) for p, g in zip(ann.parameters(), grads, strict=True))
    assert [m.training for m in ann] == [True, False, True, True]
    assert [m.training for m in (snn.get_submodule(str(k)) for k in range(4))] == [
        *(True, False, True, True)
    ]


# -- what is frozen stays frozen ---------------------------------------------------------------


class Frozen(nn.Module):
    """Freezes its first batch norm, as detectors do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.bn1 = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.b, self.bn2 = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.bn2.num_batches_tracked += 10

    def forward(self, x):
        return self.bn2(self.b(F.relu(self.bn1(self.a(x)))))

    def train(self, mode=True):
        super().train(mode)
        self.bn1.eval()
        self.bn2.eval()
        for p in self.bn2.parameters():
            p.requires_grad = False
        return self


@pytest.mark.parametrize("norm", ["keep", "bntt"])
def test_what_a_network_freezes_stays_frozen(norm):
    snn = spike(Frozen().eval(), example_input=X, norm=norm, timesteps=2).train()
    assert (snn.training, snn.a.training) == (True, True)
    assert (snn.bn1.training, snn.bn2.training) == (False, False)
    assert {p.requires_grad for p in snn.bn2.parameters()} == {False}
    before = {name: b.clone() for name, b in snn.named_buffers()}
    snn(X).sum().backward()
    assert all(torch.equal(b, before[name]) for name, b in snn.named_buffers())
    assert all(p.grad is None for p in snn.bn2.parameters())
    again = copy.deepcopy(snn).eval().train()
    assert not again.bn1.training


# -- types and scales --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given", ["float32", "its own"])
def test_networks_of_other_types_convert_with_either_example(dtype, given):
    ann = mlp().to(dtype)
    example = X if given == "float32" else X.to(dtype)
    snn = spike(ann, example_input=example, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X.to(dtype))[0], ann(X.to(dtype)))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_inputs_of_any_scale_are_proved(scale):
    assert_same(mlp(), X * scale)
    wrong = Net(lambda net, x: plain(net, x) * (2 if isinstance(x, torch.Tensor) else 1))
    refused(wrong, "the answers differ", x=X * scale)


def test_an_example_of_zeros_hides_nothing():
    ann = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))

    class Doubles(nn.Sequential):
        def __call__(self, x):
            return super().__call__(x) * 2

    refused(Doubles(*ann), "the answers differ", x=torch.zeros(1, 4))


def test_a_fault_is_found_where_the_output_hardly_shows_it():
    layers = [part for _ in range(12) for part in (nn.Linear(8, 8), nn.ReLU())]

    class Shifted(nn.Sequential):
        def __call__(self, x):
            return super().__call__(x + 0.01)

    torch.manual_seed(0)
    refused(Shifted(*layers), "module 0 gets another input", x=torch.rand(1, 8))


def test_inputs_in_volts_are_calibrated_as_the_advice_says():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3)).eval()
    volts = torch.randn(64, 4) * 1e-6
    with pytest.raises(LeanspikeError) as error:
        calibrate(spike(ann, example_input=volts), volts)
    message = str(error.value)
    assert (
        "no threshold may be below 0.0001; multiply weight and bias of the layer before" in message
    )
    factor = float(message.split("before them by ")[1].split(",")[0])
    before = ann(volts)
    with torch.no_grad():
        ann[0].weight *= factor
        ann[2].weight /= factor
    torch.testing.assert_close(ann(volts), before)
    calibrate(spike(ann, example_input=volts), volts, scale=1.0)


# -- timesteps stay apart ----------------------------------------------------------------------


class OverBatch(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class PerSample(nn.Module):
    def forward(self, x):
        return x - x.mean(1, keepdim=True)


def test_a_declared_module_that_mixes_samples_is_found():
    ann = nn.Sequential(mlp(), OverBatch())
    message = refused(ann, "depends on the other samples", ops={OverBatch: "analog"}, x=X[:1])
    assert "one of those declared (OverBatch) mixes them" in message
    spike(nn.Sequential(mlp(), PerSample()), example_input=X, ops={PerSample: "analog"})


def test_norms_of_each_batch_may_be_where_no_time_is_and_nowhere_else():
    norm, layers = nn.BatchNorm1d(6, track_running_stats=False), [nn.Linear(4, 6), nn.ReLU()]
    behind = nn.Sequential(*layers, nn.Linear(6, 6), norm).eval()
    refused(behind, "module 3: has no running statistics, so it mixes samples and timesteps")
    ann, x = nn.Sequential(layers[0], norm, layers[1]).eval(), torch.cat([X, -X])
    torch.testing.assert_close(spike(ann, example_input=x, neuron=nn.ReLU())(x)[4], ann(x))


# -- siblings ----------------------------------------------------------------------------------


def test_an_activation_with_a_weight_is_put_back_with_it():
    ann = Net(lambda net, x: net.b(F.prelu(net.a(x), net.slope)), slope=nn.Parameter(torch.ones(1)))
    assert len(list(spike(ann, example_input=X, activations=(F.prelu,)).neurons())) == 1


def test_a_train_that_returns_nothing_does_no_harm():
    class Nothing(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)

    ann = Nothing(*mlp())
    snn = spike(ann, example_input=X, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))


def test_a_class_in_a_networks_place_is_refused():
    with pytest.raises(LeanspikeError, match=r"give a network, as Net\(\)"):
        spike(nn.Sequential, example_input=X)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_within_a_network_may_be_declared():
    scripted = torch.jit.script(nn.Linear(4, 4))
    ann = nn.Sequential(scripted, mlp()).eval()
    refused(ann, "module 0: is TorchScript")
    snn = spike(ann, example_input=X, ops={type(scripted): "analog"}, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))


def test_a_frozen_backbone_without_gradients_converts_as_the_advice_says():
    ann = Net(no_grad)
    ann.a.requires_grad_(False)
    refused(ann, "gradients differ from its graph's", "write x.detach()")
    snn = assert_same(Net(lambda net, x: net.b(F.relu(net.a(x.detach())))))
    assert snn.a.weight.requires_grad


def test_checkpointed_parts_convert():
    def forward(net, x):
        return net.b(checkpoint(net.part, x, use_reentrant=False))

    assert_same(Net(forward, part=nn.Sequential(nn.Linear(4, 6), nn.ReLU())))


def test_dropouts_are_compared_with_the_same_masks():
    def forward(net, x):
        return net.b(F.dropout(net.drop(F.relu(net.a(x))), 0.5, net.training))

    assert_same(Net(forward, drop=nn.Dropout(0.5)))

    class Stronger(nn.Dropout):  # a leaf for tracing, whose call is its own
        def __call__(self, x):
            return super().__call__(x) * (2 if self.training else 1)

    refused(Net(forward, drop=Stronger(0.5)), "training")


def test_what_mixes_a_sample_with_those_before_it_alone_is_found():
    ann = Net(lambda net, x: net.b(F.relu(net.a(x)).cumsum(0))).eval()
    with pytest.raises(SurgeryError, match=r"one of those declared \('cumsum'\) mixes them"):
        spike(ann, example_input=X[:1], ops={"cumsum": "analog"})


def test_a_train_of_its_own_may_want_its_mode():
    class Own(nn.Sequential):
        def train(self, mode):
            return super().train(mode)

    ann = Own(*mlp()).eval()
    torch.testing.assert_close(spike(ann, example_input=X, neuron=nn.ReLU())(X)[0], ann(X))


class Gated(nn.Module):
    def forward(self, x):
        a, b = x.chunk(2, 1)
        return a * torch.sigmoid(b)


@pytest.mark.parametrize("gate", [nn.GLU(1), Gated()])
def test_an_activation_that_changes_the_shape_is_no_neuron_and_the_advice_works(gate):
    ann = nn.Sequential(nn.Linear(4, 6), gate, nn.Linear(3, 3), nn.ReLU()).eval()
    message = refused(ann, "makes [2, 3] of [2, 6]", activations=(type(gate),))
    ops = eval(message.partition("ops=")[2].partition(",")[0], {"nn": nn, "Gated": Gated})
    assert [path for path, _ in spike(ann, example_input=X, ops=ops).neurons()] == ["3"]


def test_tokens_are_refused_and_the_advice_works():
    tokens = torch.tensor([[1, 2, 0]])
    ann = nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(12, 3), nn.ReLU()).eval()
    refused(ann, "the part behind its embedding", x=tokens, ops={nn.Embedding: "analog"})
    assert spike(ann[1:], example_input=ann[0](tokens))(ann[0](tokens)).shape == (5, 1, 3)
