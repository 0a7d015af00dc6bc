"""Windows, patches and heads along the batch axis: each sample keeps entries of its own there."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LIF, SurgeryError, evaluate, load, save, spike
from leanspike.evaluation import OperationCounter
from leanspike.evaluation.activity import record_example
from leanspike.graph import batch_size, rules, trial_runs
from leanspike.graph.ops import Operation
from leanspike.graph.samples import pieces
from leanspike.train import SpikeRate

T, N, C, SIDE, W = 3, 3, 4, 4, 2
WINDOWS = (SIDE // W) ** 2
X = torch.rand(N, C, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def windows(x, w=W):
    """``[N, H, W, C]`` to ``[N*windows, w, w, C]``, as in Swin."""
    n, height, width, c = x.shape
    parts = x.view(n, height // w, w, width // w, w, c)
    return parts.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, w, w, c)


def together(parts, height, width, w=W):
    """The way back, with the number of samples computed from that of the windows."""
    n = parts.shape[0] // (height // w * (width // w))
    x = parts.view(n, height // w, width // w, w, w, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, height, width, -1)


class Windowed(nn.Module):
    """Attention in windows, which are shifted the second time, and a neuron inside them."""

    def __init__(self, relu=nn.ReLU):
        super().__init__()
        self.qkv, self.proj, self.relu = nn.Linear(C, 3 * C), nn.Linear(C, C), relu()

    def attend(self, x, shift):
        _, height, width, c = x.shape
        y = windows(torch.roll(x, (-shift, -shift), dims=(1, 2))).view(-1, W * W, c)
        rows, length, _ = y.shape
        q, k, v = self.qkv(y).reshape(rows, length, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        y = self.relu(self.proj(y.transpose(1, 2).reshape(rows, length, c)))
        y = together(y.view(-1, W, W, c), height, width)
        return x + torch.roll(y, (shift, shift), dims=(1, 2))

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        return self.attend(self.attend(x, 0), 1).mean((1, 2))


class Around(nn.Module):
    """Some way into pieces, a layer and a ReLU there, and the way back."""

    def __init__(self, into, back, inside=None):
        super().__init__()
        self.into, self.back = into, back
        self.first = nn.Conv2d(C, C, 1)
        self.inside = nn.Linear(SIDE, SIDE) if inside is None else inside
        self.relu = nn.ReLU()
        self.token = nn.Parameter(torch.rand(1, 1, SIDE))

    def forward(self, x):
        y = self.relu(self.first(x))
        y = self.relu(self.inside(self.into(self, x, y)))
        return self.back(self, x, y)


def with_token(net, _x, y):
    y = y.reshape(-1, SIDE, SIDE)
    return torch.cat([net.token.expand(y.shape[0], -1, -1), y], 1)


def unfolded(_net, _x, y):
    """MobileViT's: pixels at the same place of all patches attend to each other."""
    n, c, height, width = y.shape
    y = y.reshape(n * c * (height // W), W, width // W, W).transpose(1, 2)
    return y.reshape(n, c, -1, W * W).transpose(1, 3).reshape(n * W * W, -1, c)


def folded(_net, _x, y):
    y = y.view(-1, W * W, (SIDE // W) ** 2, C).transpose(1, 3)
    y = y.reshape(-1, SIDE // W, W, W).transpose(1, 2)
    return y.reshape(-1, C, SIDE, SIDE)


def gridded(_net, _x, y):
    """MaxViT's: an entry of each window."""
    n, c, height, width = y.shape
    y = y.reshape(n, c, height // W, W, width // W, W).permute(0, 2, 4, 3, 5, 1)
    return y.reshape(n, -1, W * W, c).swapaxes(-2, -3).reshape(-1, (SIDE // W) ** 2, c)


WAYS = {
    "channels": Around(
        lambda _n, _x, y: y.flatten(0, 1), lambda _n, _x, y: y.view(-1, C, SIDE, SIDE)
    ),
    "unflatten": Around(
        lambda _n, _x, y: y.flatten(0, 1), lambda _n, _x, y: y.unflatten(0, (-1, C))
    ),
    "rows": Around(
        lambda _n, _x, y: y.reshape(-1, SIDE),
        lambda _n, x, y: torch.reshape(y, (x.size(0), -1)),
    ),
    "size of the image": Around(
        lambda _n, x, y: y.reshape(x.shape[0] * C, SIDE, SIDE),
        lambda _n, x, y: y.view(len(x.flatten(1).unbind(1)) // (C * SIDE * SIDE) * x.size(0), -1),
    ),
    "of both": Around(
        lambda _n, x, y: y.reshape(x.shape[0] * y.shape[1], SIDE, SIDE),
        lambda _n, x, y: y.view(-1, y.shape[0] // x.shape[0], SIDE, SIDE).sum(1),
    ),
    "token of each": Around(with_token, lambda _n, _x, y: y[:, 0].view(-1, C, SIDE).mean(1)),
    "unfolding": Around(unfolded, folded),
    "grid": Around(gridded, lambda _n, _x, y: y.reshape(-1, C * SIDE * SIDE)),
    "convolution and norm": Around(
        lambda _n, _x, y: windows(y).permute(0, 3, 1, 2),
        lambda _n, _x, y: together(y.permute(0, 2, 3, 1), SIDE, SIDE),
        nn.Sequential(nn.Conv2d(SIDE, C, 1), nn.BatchNorm2d(C)),
    ),
    "windows": Windowed(),
}


def seeded(way):
    torch.manual_seed(0)
    ann = WAYS[way].eval()
    for parameter in ann.parameters():
        nn.init.normal_(parameter, std=0.5)
    return ann


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encode", ["direct", "frames"])
@torch.no_grad()
def test_samples_in_pieces_answer_as_the_network_does(way, encode, tmp_path):
    ann, frames = seeded(way), torch.stack([X, X.flip(0), 1 - X])
    x = frames if encode == "frames" else X
    for samples in (1, 2):
        example = x[:, :samples] if encode == "frames" else x[:samples]
        relus = spike(ann, example_input=example, encode=encode, neuron=nn.ReLU(), timesteps=T)
        for t, y in enumerate(relus(x)):
            torch.testing.assert_close(y, ann(x[t] if encode == "frames" else x))
    example = x[:, :1] if encode == "frames" else x[:1]
    snn = spike(ann, example_input=example, encode=encode, neuron=LIF(0.1), timesteps=T).eval()
    whole, state, steps = snn(x), None, []
    for t in range(T):
        y_N, state = snn.step(x[t] if encode == "frames" else x, state)
        steps.append(y_N)
    torch.testing.assert_close(torch.stack(steps), whole)
    each = x.split(1, dim=1 if encode == "frames" else 0)
    torch.testing.assert_close(torch.cat([snn(one) for one in each], 1), whole)
    same = load(save(snn, tmp_path / "net"), ann=ann)
    torch.testing.assert_close(same(x), whole)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_shapes_are_answered_where_no_memory_is_left_for_values(way, monkeypatch):
    monkeypatch.setattr(trial_runs, "KEPT_BYTES", 0)
    relus = spike(seeded(way), example_input=X[:1], neuron=nn.ReLU(), timesteps=T)
    for y in relus(X):
        torch.testing.assert_close(y, seeded(way)(X))


@pytest.mark.parametrize("way", ["windows", "unfolding", "convolution and norm"])
@pytest.mark.parametrize("kept", [torch.tensor([True, False, True]), torch.tensor([2, 0])])
@torch.no_grad()
def test_samples_that_leave_take_all_their_pieces_along(way, kept, tmp_path):
    ann = seeded(way)
    snn = spike(ann, example_input=X[:1], neuron=LIF(0.1), timesteps=T).eval()
    _, state = snn.step(X)
    assert state.samples() == N
    some = state.keep(kept)
    assert some.samples() == 2
    again = type(state).load(some.save(tmp_path / "state.safetensors"))
    y_N, _ = snn.step(X[kept], again)
    torch.testing.assert_close(y_N, snn.step(X, state)[0][kept])
    torch.testing.assert_close(y_N, snn(X[kept])[1])


@torch.no_grad()
def test_the_energy_of_a_sample_is_that_of_all_its_windows():
    ann = seeded("windows")
    snn = spike(ann, example_input=X[:2], neuron=LIF(0.1), timesteps=T).eval()
    result = evaluate(snn, [(X, torch.zeros(N).long())])
    rows = {row.path: row for row in result.operations}
    tokens, window = SIDE * SIDE, W * W
    called = [row for path, row in rows.items() if path.startswith("qkv")]
    assert [row.ann_macs for row in called] == [tokens * C * 3 * C] * len(called)
    assert {row.dense_macs for row in called} == {tokens * C * 3 * C}
    products = [row for path, row in rows.items() if "matmul" in path]
    assert {row.ann_macs for row in products} == {tokens * window * C}
    assert [row.snn_macs for row in products] == [
        row.ann_macs * T ** (not row.static) for row in products
    ]
    assert [layer.neurons for layer in result.neurons] == [tokens * C, tokens * C]
    one = evaluate(snn, [(X[i : i + 1], torch.zeros(1).long()) for i in range(N)])
    assert one.energy == result.energy
    rasters = record_example(snn, X[:1], (255 * X[0, :3]).byte(), 0).rasters
    assert [raster.neurons for raster in rasters] == [tokens * C, tokens * C]


@torch.no_grad()
def test_what_is_counted_inside_and_norms_are_of_all_windows():
    class Inside(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    counted = []
    for into in (lambda _n, _x, y: y.reshape(-1, SIDE), lambda _n, _x, y: y):
        inside = nn.Sequential(Inside(SIDE, SIDE), nn.LayerNorm(SIDE))
        ann = Around(into, lambda _n, _x, y: y.reshape(-1, C * SIDE * SIDE), inside).eval()
        snn = spike(ann, example_input=X[:1], ops={Inside: "analog"}, neuron=LIF(10.0), timesteps=T)
        result = evaluate(snn.eval(), [(X, torch.zeros(N).long())])
        counted.append((result.energy, [row.model_dump() for row in result.operations]))
    assert counted[0] == counted[1]
    assert counted[0][0].norm_pj > 0


def test_a_spike_rate_weighs_layers_by_all_their_neurons():
    snn = spike(seeded("windows"), example_input=X[:1], neuron=LIF(0.1), timesteps=T)
    rate, spikes, neurons = SpikeRate(), 0.0, 0
    with rate.watch(snn):
        y_TNK = snn(X)

    def count(node, _values, value):
        nonlocal spikes, neurons
        if node.meta.get("neuron"):
            spikes += torch.count_nonzero(value).item()
            neurons += value[0].numel()
            assert pieces(node) == WINDOWS

    snn.run(X, observer=count)
    assert rate(y_TNK, torch.zeros(N), X).item() == pytest.approx(spikes / neurons)


# -- what mixes samples ------------------------------------------------------------------------


def tiled(_net, _x, y):
    """Samples one after another, and again: not those of the windows, as in GCViT."""
    parts = windows(y.permute(0, 2, 3, 1)).flatten(1, 2)
    query = y.mean((2, 3)).unsqueeze(1)
    return parts * query.repeat(parts.shape[0] // query.shape[0], 1, 1)


def each(_net, _x, y):
    """The same with each sample's windows together."""
    parts = windows(y.permute(0, 2, 3, 1)).flatten(1, 2)
    query = y.mean((2, 3)).view(-1, 1, 1, C).expand(-1, WINDOWS, -1, -1)
    return parts * query.reshape(parts.shape[0], 1, C)


def windows_first(_net, _x, y):
    parts = y.permute(0, 2, 3, 1).reshape(-1, W, W, SIDE, C).permute(1, 0, 2, 3, 4)
    return parts.reshape(-1, SIDE, C)


WRONG = {
    "tiled": (tiled, "repeat in the network itself: repeats the samples", each),
    "windows slowest": (
        windows_first,
        "permute in the network itself: moves the batch axis; keep axis 0 first",
        lambda _n, _x, y: y.reshape(-1, SIDE, C),
    ),
    "other pieces": (
        lambda _n, _x, y: y.reshape(-1, SIDE, C) + y.mean((1, 2)).view(-1, 1, C),
        "add in the network itself: cannot be computed for 2 samples",
        lambda _n, _x, y: (y.flatten(2) + y.flatten(2).mean(1, keepdim=True)).view(-1, SIDE, C),
    ),
    "half the samples": (
        lambda _n, x, y: y.reshape((x.shape[0] + 1) // 2, -1, SIDE),
        "floordiv in the network itself: computes with the number of samples, which differs",
        lambda _n, x, y: y.reshape(x.shape[0], -1, SIDE),
    ),
    "a quotient as int makes it": (
        lambda _n, x, y: y.reshape(int(2 * x.shape[0] / 2), -1, SIDE),
        "as with a // b in place of int(a / b)",
        lambda _n, x, y: y.reshape(2 * x.shape[0] // 2, -1, SIDE),
    ),
    "a number beside them": (
        lambda _n, x, y: y.reshape(x.shape[0] + 0 * x.shape[0] ** 2, -1, SIDE) * (x.shape[0] + 1),
        "add in the network itself: computes with the number of samples",
        lambda _n, x, y: y.reshape(x.shape[0], -1, SIDE) * 2,
    ),
    "samples meet": (
        lambda _n, _x, y: y.flatten(2)[:, :1] + y.flatten(2).mean(1),
        "add in the network itself: gives [1, 1, 16] for 1 samples and [2, 2, 16] for 2",
        lambda _n, _x, y: y.flatten(2)[:, :1] + y.flatten(2).mean(1, keepdim=True),
    ),
    "baked": (
        lambda _n, _x, y: y.view(4, -1, SIDE),
        "bakes the batch size 4 in; write flatten(1), or -1 for the batch",
        lambda _n, _x, y: y.view(-1, 4, SIDE),
    ),
    "all in one": (
        lambda _n, _x, y: y.unflatten(0, (1, -1)),
        "unflatten in the network itself: gives [1, 1, 4, 4, 4] for 1 samples and [1, 2, 4, 4, 4]",
        lambda _n, _x, y: y.unflatten(1, (1, -1)),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@torch.no_grad()
def test_what_does_not_keep_samples_apart_is_refused_and_the_advice_works(wrong):
    into, message, advice = WRONG[wrong]
    anns = [Around(way, lambda _n, _x, y: y.mean(-1), nn.Identity()) for way in (into, advice)]
    with pytest.raises(SurgeryError) as error:
        spike(anns[0], example_input=X[:1])
    assert message in str(error.value)
    followed = Around(advice, lambda _n, x, y: y.reshape(x.shape[0], -1), nn.Identity())
    snn = spike(followed, example_input=X[:1], neuron=nn.ReLU(), timesteps=T)
    for y in snn(X):
        torch.testing.assert_close(y, followed(X))


def test_a_result_in_pieces_is_refused_and_the_advice_works():
    ann = Around(lambda _n, _x, y: y.flatten(0, 1), lambda _n, _x, y: y.mean(-1))
    with pytest.raises(SurgeryError, match=r"with the shape \(4, 4\) for 1 samples; return"):
        spike(ann, example_input=X[:1])
    spike(Around(ann.into, lambda _n, _x, y: y.mean(-1).view(-1, C, SIDE)), example_input=X[:1])


@pytest.mark.parametrize(
    ("faint", "shown"),
    [(1e3, "the answers differ by"), (1e-7, "module branch.inside gets another input")],
)
def test_the_proof_finds_what_no_check_knows(faint, shown, monkeypatch):
    """Samples that are mixed in windows, also where the output hardly shows it."""

    def into(net, x, y):
        return tiled(net, x, y)

    def back(_net, _x, y):
        return faint * y.reshape(-1, WINDOWS * W * W, C)

    ann = Behind(Around(into, back))
    for function in ("apart", "expanded"):
        monkeypatch.setattr(batch_size, function, lambda _call: None)
    with pytest.raises(SurgeryError, match="depends on the other samples of the batch") as error:
        spike(ann, example_input=X[:1], neuron=nn.ReLU(), ops={"repeat": Operation(rules.same)})
    assert shown in str(error.value)


class Behind(nn.Module):
    """A branch beside which nothing of it is seen."""

    def __init__(self, branch):
        super().__init__()
        self.branch, self.last = branch, nn.Linear(C, 2)

    def forward(self, x):
        return self.last(1e3 * x.mean((2, 3)) + self.branch(x).mean(1))


def test_the_proof_sees_neither_windows_nor_their_order_as_a_mixture():
    ann = Behind(Around(each, lambda _n, _x, y: y.reshape(-1, WINDOWS * W * W, C)))
    spike(ann, example_input=X[:1])


def test_operations_are_counted_of_a_batch_of_any_size():
    snn = spike(seeded("unfolding"), example_input=X[:1], neuron=LIF(0.1), timesteps=T).eval()
    counts = []
    for batch in (X, X.repeat(2, 1, 1, 1)):
        counter = OperationCounter(snn)
        counter.begin_batch(len(batch))
        snn.run(batch, observer=counter)
        counts.append(counter.macs and [counter.ann[node] for node in counter.found])
    assert counts[0] == counts[1]


def test_windows_that_do_not_divide_are_padded_as_the_network_does():
    class Padded(Windowed):
        def forward(self, x):
            return super().forward(F.pad(x, (0, -x.shape[3] % W, 0, -x.shape[2] % W)))

    torch.manual_seed(0)
    ann = Padded().eval()
    snn = spike(ann, example_input=X[:1, :, :3, :3], neuron=nn.ReLU(), timesteps=T)
    torch.testing.assert_close(snn(X[:, :, :3, :3])[-1], ann(X[:, :, :3, :3]))
