"""The whole answer: accuracy after each step, spikes, and its way to disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation import accuracy, anytime, load_result, record_example


def make(timesteps: int = 4) -> tuple[nn.Module, ls.SpikingNetwork, list[tuple[torch.Tensor, ...]]]:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    snn = ls.spike(ann, example_input=torch.zeros(1, 3, 2, 2), timesteps=timesteps)
    ls.calibrate(snn, torch.rand(64, 3, 2, 2))
    x, labels = torch.rand(50, 3, 2, 2), torch.randint(3, (50,))
    return ann, snn, [(x[:20], labels[:20]), (x[20:], labels[20:])]


def test_accuracy_and_spikes_are_those_of_a_plain_loop() -> None:
    ann, snn, batches = make()
    result = ls.evaluate(snn, batches, ann=ann)  # type: ignore[arg-type]
    x, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    fired: list[torch.Tensor] = []
    snn.get_submodule("2").register_forward_hook(lambda _m, _x, y: fired.append(y))
    y_TNK = snn(x)
    for t in range(4):
        right = (y_TNK[: t + 1].sum(0).argmax(1) == labels).float().mean().item()
        assert result.accuracy[t] == pytest.approx(right)
        rate = (fired[0][t] != 0).double().mean().item()
        assert result.neurons[0].spikes_per_step[t] == pytest.approx(rate)
    assert result.ann_accuracy == pytest.approx((ann(x).argmax(1) == labels).float().mean().item())
    assert (result.n, result.timesteps, result.neurons[0].neurons) == (50, 4, 20)


def test_asking_leaves_every_module_in_its_mode_and_the_weights_alone() -> None:
    ann, snn, batches = make()
    for network in (ann, snn):
        network.train().get_submodule("2").eval()
    before = {key: value.clone() for key, value in snn.state_dict().items()}
    ls.evaluate(snn, batches, ann=ann)  # type: ignore[arg-type]
    anytime(snn, batches)  # type: ignore[arg-type]
    assert all(value.equal(before[key]) for key, value in snn.state_dict().items())
    ls.calibrate(snn, batches[0][0], method="one_pass")
    for network in (ann, snn):
        assert [path for path, module in network.named_modules() if not module.training] == ["2"]


def test_a_result_reads_back_equal_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    _, snn, batches = make()
    result = ls.evaluate(snn, batches)  # type: ignore[arg-type]
    path = tmp_path / "result.json"
    path.write_text(result.model_dump_json())
    assert load_result(path) == result
    whole = path.read_text()
    for text in ("{}", "no json", whole[:-9], whole.replace("{", '{"name": "another", ', 1)):
        path.write_text(text)
        with pytest.raises(LeanspikeError, match=r"result\.json is not a leanspike result"):
            load_result(path)


def test_the_example_shows_what_the_network_did() -> None:
    _, snn, batches = make()
    x, pixels = batches[0][0][:1], torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    example = record_example(snn.eval(), x, pixels, label=2)
    fired: list[torch.Tensor] = []
    snn.get_submodule("2").register_forward_hook(lambda _m, _x, y: fired.append(y))
    probabilities = snn(x).cumsum(0).softmax(-1)[:, 0]
    assert torch.tensor(example.probabilities).allclose(probabilities)
    assert set(example.rasters[0].spikes) == set(map(tuple, fired[0][:, 0].nonzero().tolist()))
    assert example.pixels[1][0] == (2, 6, 10)


def test_what_is_no_measurement_is_refused() -> None:
    ann, snn, batches = make()
    (x, labels), _ = batches
    for wrong in (labels[:1], labels[None], labels.float()):
        with pytest.raises(LeanspikeError, match="expected a whole number for each of the 20"):
            ls.evaluate(snn, [(x, wrong)])
    relus = ls.spike(ann, example_input=x[:1], neuron=nn.ReLU())
    with pytest.raises(LeanspikeError, match="neurons 2: a ReLU does not say what it emits"):
        ls.evaluate(relus, batches)  # type: ignore[arg-type]
    with pytest.raises(LeanspikeError, match="a Sequential has no spikes to count"):
        ls.evaluate(ann, batches)  # type: ignore[arg-type]
    snn.get_submodule("1").weight.data[0] = float("nan")
    with pytest.raises(LeanspikeError, match=r"1\.weight has values that are NaN or infinite"):
        ls.evaluate(snn, batches)  # type: ignore[arg-type]


def test_no_samples_is_an_error() -> None:
    _, snn, _ = make()
    for measure in (lambda: ls.evaluate(snn, []), lambda: accuracy(snn, [])):
        with pytest.raises(LeanspikeError, match="no samples"):
            measure()


LABELS = {
    "from 1": (lambda y: y + 1, r"label 3, and .* 3 outputs are 0 to 2; .* give labels - 1"),
    "one-hot": (
        lambda y: torch.eye(3)[y],
        r"rows of labels with a single 1 each, .* give labels\.argmax\(1\) or .* one-hot rows",
    ),
    "probabilities": (
        lambda y: 0.9 * torch.eye(3)[y] + 0.1 / 3,
        r"rows of labels that add up to 1 each, .* labels\.argmax\(1\)",
    ),
    "floats": (lambda y: y.float(), r"type torch\.float32; .* give labels\.long\(\)"),
    "a column": (lambda y: y[:, None], r"shape \(9, 1\) .* give labels\[:, 0\]"),
}
MENDED = {
    "from 1": lambda labels: labels - 1,
    "one-hot": lambda labels: labels.argmax(1),
    "probabilities": lambda labels: labels.argmax(1),
    "floats": lambda labels: labels.long(),
    "a column": lambda labels: labels[:, 0],
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_another_form_are_refused_and_the_advice_works(kind: str) -> None:
    _, snn, _ = make()
    x, y = torch.rand(9, 3, 2, 2), torch.arange(9) % 3
    change, message = LABELS[kind]
    wrong = change(y)
    for measure in (ls.evaluate, accuracy):
        with pytest.raises(LeanspikeError, match=message):
            measure(snn, [(x, wrong)])  # type: ignore[operator]
    assert ls.evaluate(snn, [(x, MENDED[kind](wrong))]).accuracy == tuple(accuracy(snn, (x, y)))


def test_labels_of_no_output_are_named() -> None:
    _, snn, _ = make()
    x, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, -100, 2, 1])
    message = r"label -100, and the network's 3 outputs are 0 to 2; leave those samples out"
    for measure in (ls.evaluate, accuracy, anytime):
        with pytest.raises(LeanspikeError, match=message):
            measure(snn, (x, labels))  # type: ignore[operator]
    assert ls.evaluate(snn, (x[labels >= 0], labels[labels >= 0])).n == 3
    message = "label 7, and the network's 3 .* or a network of 8 outputs or more"
    with pytest.raises(LeanspikeError, match=message):
        ls.evaluate(snn, (x, [0, 1, 7, 2]))


def test_what_belongs_to_other_outputs_is_refused() -> None:
    ann, snn, batches = make()
    with pytest.raises(LeanspikeError, match="classes has 2 names, and the network 3 outputs"):
        ls.evaluate(snn, batches, classes=("cat", "dog"))
    assert ls.evaluate(snn, batches, classes=("cat", "dog", "cow")).classes[2] == "cow"
    with pytest.raises(LeanspikeError, match="classes has 2 names, and there are no labels of cl"):
        ls.evaluate(snn, [(x,) for x, _ in batches], classes=("cat", "dog"))
    other = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    with pytest.raises(LeanspikeError, match="the ANN has 4 outputs, and the SNN 3; give the ANN"):
        ls.evaluate(snn, batches, ann=other)
    message = r"the ANN has outputs of shape \[20, 1\], and the SNN \[20, 3\]; give the ANN"
    with pytest.raises(LeanspikeError, match=message):
        ls.evaluate(snn, batches, ann=nn.Sequential(nn.Flatten(), nn.Linear(12, 1)))
    assert ls.evaluate(snn, batches, ann=ann).ann_accuracy is not None


def test_guessing_is_one_in_k_or_the_commonest_label() -> None:
    _, snn, _ = make()
    x = torch.rand(90, 3, 2, 2)
    assert ls.evaluate(snn, (x, torch.arange(90) % 3)).chance == pytest.approx(1 / 3)
    skewed = ls.evaluate(snn, (x, [0] * 60 + [1] * 30))
    assert skewed.chance == pytest.approx(2 / 3)
    always = ls.evaluate(snn, (x, [int(snn(x).sum(0)[0].argmax())] * 90))
    assert always.chance == 1
    assert always.at_chance  # whatever it answers, there is nothing to tell apart
    assert always.summary["at_chance"]


def test_with_more_than_twenty_classes_the_five_likeliest_are_counted() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 30), nn.ReLU(), nn.Linear(30, 21)).eval()
    snn = ls.spike(ann, example_input=torch.zeros(1, 8), timesteps=3)
    ls.calibrate(snn, torch.rand(64, 8))
    x, labels = torch.rand(90, 8), torch.randint(21, (90,))
    result = ls.evaluate(snn, [(x[:50], labels[:50]), (x[50:], labels[50:])], ann=ann)
    outputs = [*snn(x).cumsum(0), ann(x)]
    for found, y in zip((*result.top5, result.ann_top5), outputs, strict=True):
        order = y.detach().argsort(dim=1, descending=True, stable=True)
        assert found == pytest.approx(
            (order[:, :5] == labels[:, None]).any(1).float().mean().item()
        )
    assert result.top5[-1] > result.accuracy[-1]
    assert result.summary["snn_top5"] == result.top5[-1]
    assert type(result).model_validate_json(result.model_dump_json()) == result


def test_with_few_classes_they_are_not() -> None:
    ann, snn, batches = make()
    result = ls.evaluate(snn, batches, ann=ann)  # type: ignore[arg-type]
    assert (result.top5, result.ann_top5) == ((), None)
    assert "snn_top5" not in result.summary
    with pytest.raises(ValueError, match="1 of top5 for 4 timesteps"):
        type(result).model_validate({**result.model_dump(), "top5": (0.5,)})
