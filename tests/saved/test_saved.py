"""Models on disk: what comes back is what was saved, and nothing in a file is executed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.saved import SPEC, WEIGHTS


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        self.b.weight.data[0] = 1

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x.flatten(1))))


def make_snn(**neuron: object) -> ls.SpikingNetwork:
    torch.manual_seed(0)
    template = ls.LIF(0.7, 0.9, learn=("leak",), **neuron)  # type: ignore[arg-type]
    return ls.spike(Own().eval(), example_input=torch.zeros(1, 6), timesteps=4, neuron=template)


def test_a_network_of_the_zoo_needs_no_code(tmp_path: Path) -> None:
    spec = ls.ModelSpec(name="vgg6", num_classes=4, image_size=8, options={"width": 0.1})
    ann = ls.models.create_model("vgg6", 4, image_size=8, width=0.1).eval()
    x = torch.rand(3, 3, 8, 8)
    snn = ls.spike(ann, example_input=x[:1], timesteps=3)
    ls.calibrate(snn, x)
    for network in (ann, snn):
        same = ls.load(ls.save(network, tmp_path / type(network).__name__, spec))
        assert type(same) is type(network)
        assert torch.equal(same(x), network(x))


@pytest.mark.parametrize(
    "neuron",
    [
        {"reset": "hard", "initial": "half", "height": "threshold"},
        {"reset": "undecayed", "surrogate": ls.Arctan(alpha=3.0)},
        {"surrogate": ls.Triangle(gamma=1.0, width=2.0)},
    ],
)
def test_a_users_network_comes_back_with_its_neurons(
    neuron: dict[str, object], tmp_path: Path
) -> None:
    snn = make_snn(**neuron)
    same = ls.load(ls.save(snn, tmp_path), ann=Own())
    assert isinstance(same, ls.SpikingNetwork)
    x = torch.rand(5, 6)
    assert torch.equal(same(x), snn(x))
    for (path, ours), (other, theirs) in zip(snn.neurons(), same.neurons(), strict=True):
        assert isinstance(ours, ls.LIF)
        assert isinstance(theirs, ls.LIF)
        assert (path, ours.dynamics, ours.learn) == (other, theirs.dynamics, theirs.learn)
        assert theirs.leak.requires_grad
        assert not theirs.threshold.requires_grad


def test_a_spiking_network_of_the_users_making_is_loaded_into(tmp_path: Path) -> None:
    snn = make_snn()
    ls.save(snn, tmp_path)
    other = make_snn()
    with torch.no_grad():
        other.get_parameter("a.weight").zero_()
    assert ls.load(tmp_path, ann=other) is other
    assert torch.equal(other.get_parameter("a.weight"), snn.get_parameter("a.weight"))


def make_normed() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()
    return nn.Sequential(*body, nn.Linear(8, 3))


def make_temporal(encode: str = "direct") -> ls.SpikingNetwork:
    blank = torch.zeros(1, 6)
    return ls.spike(make_normed().eval(), example_input=blank, encode=encode, norm="bntt")


def norm_of(timesteps: float, **options: object) -> dict[str, object]:
    return {"temporal_norm": {"name": "bntt", "timesteps": timesteps, "options": options}}


def test_what_a_users_norms_have_learnt_is_not_in_the_way(tmp_path: Path) -> None:
    snn = make_temporal()
    ann = make_normed()
    for value in ann[3].state_dict().values():
        value.fill_(7)  # the shift, too, which the saved norms have not
    before = {key: value.clone() for key, value in ann.state_dict().items()}
    same = ls.load(ls.save(snn, tmp_path), ann=ann)
    x = torch.rand(5, 6)
    assert torch.equal(same(x), snn(x))
    assert all(torch.equal(value, before[key]) for key, value in ann.state_dict().items())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"encode_options": {"gain": "x"}}, r"gain\.float: Input should be a valid number"),
        ({"encode_options": {"seed": 1.5}}, r"seed is 1\.5; give a whole number"),
        ({"timesteps": 0}, "timesteps: Input should be greater than or equal to 1"),
        ({"sample_shape": [-3]}, r"sample_shape\.0: Input should be greater than or equal to 1"),
        ({"sample_shape": [10**13]}, "sample_shape: Value error, more than 268,435,456 values"),
        ({"sample_shape": [2**10] * 3}, "sample_shape: Value error, more than 268,435,456 values"),
        ({"sample_shape": [5]}, r"takes no inputs \[5\] of torch\.float32 .*; pass the arch"),
        (norm_of(5, eps="x"), r"eps\.float: Input should be a valid number"),
        (norm_of(5, eps=0), "eps is 0; give a small number above 0"),
        (norm_of(0), r"norm\.timesteps: Input should be greater than or equal to 1"),
        (norm_of(10**13), r"norm\.timesteps: Input should be less than or equal to 16384"),
    ],
)
def test_a_damaged_spec_is_one_line(change: dict[str, object], why: str, tmp_path: Path) -> None:
    ls.save(make_temporal("poisson"), tmp_path)
    spec = json.loads((tmp_path / SPEC).read_text())
    (tmp_path / SPEC).write_text(json.dumps({**spec, "spike": {**spec["spike"], **change}}))
    with pytest.raises(LeanspikeError, match=rf"spec\.json[ :].*{why}") as error:
        ls.load(tmp_path, ann=make_normed())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"num_classes": 10**13}, r"a vgg6 of [\d,]{18,} values is described, model\.safetensors"),
        ({"options": {"width": 1e5}}, r"values is described, model\.safetensors holds 193,445"),
        ({"num_classes": 2**62}, "describes no network that can be built"),
    ],
)
def test_a_network_of_another_size_is_not_built(
    change: dict[str, object], why: str, tmp_path: Path
) -> None:
    spec = ls.ModelSpec(name="vgg6", num_classes=4, image_size=8, options={"width": 0.1})
    ann = ls.models.create_model("vgg6", 4, image_size=8, width=0.1)
    ls.save(ann, tmp_path, spec.model_copy(update=change))
    with pytest.raises(LeanspikeError, match=rf"spec\.json.*{why}"):
        ls.load(tmp_path)


def test_settings_that_could_not_be_loaded_are_not_saved(tmp_path: Path) -> None:
    snn = make_snn()
    snn.timesteps = 0
    with pytest.raises(LeanspikeError, match=r"cannot be saved \(.*timesteps"):
        ls.save(snn, tmp_path)


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LeanspikeError, match="file is a file; give the name of a folder"):
        ls.save(make_snn(), tmp_path / "file")
    with pytest.raises(LeanspikeError, match=r"no model in .*nowhere: spec\.json"):
        ls.load(tmp_path / "nowhere")
    ls.save(make_snn(), tmp_path)
    with pytest.raises(LeanspikeError, match=r"build it and pass load\(path, ann=\.\.\.\)"):
        ls.load(tmp_path)
    with pytest.raises(LeanspikeError, match=r"has no neuron '1'; pass the architecture"):
        ls.load(tmp_path, ann=nn.Sequential(nn.Linear(6, 2), nn.ReLU()))
    wider = Own()
    wider.b = nn.Linear(8, 4)
    with pytest.raises(LeanspikeError, match=r"does not fit the network.*b\.weight"):
        ls.load(tmp_path, ann=wider)
    weights = (tmp_path / WEIGHTS).read_bytes()
    for damaged in (b"", weights[: len(weights) // 2], b"\xff" * 64):
        (tmp_path / WEIGHTS).write_bytes(damaged)
        with pytest.raises(LeanspikeError, match=r"model\.safetensors is damaged"):
            ls.load(tmp_path, ann=Own())
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(LeanspikeError, match="no weights at"):
        ls.load(tmp_path, ann=Own())


def test_hostile_files_run_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> object:
            return (Path.touch, (tmp_path / "executed",))

    ls.save(make_snn(), tmp_path)
    (tmp_path / WEIGHTS).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(LeanspikeError):
        ls.load(tmp_path, ann=Own())
    spec = json.loads((tmp_path / SPEC).read_text())
    for change in ({"model": {"name": "os.system", "num_classes": 1}}, {"format": 9}, {"x": 1}):
        (tmp_path / SPEC).write_text(json.dumps({**spec, **change}))
        with pytest.raises(LeanspikeError):
            ls.load(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"timesteps": 4', '"timesteps": 4, "timesteps": 9', "'timesteps' stands there twice"),
        ('"timesteps": 4', '"timesteps": "4"', r"timesteps: Input should be a valid integer"),
        ('"timesteps": 4', '"timesteps": true', r"timesteps: Input should be a valid integer"),
        ('"input_range": null', '"input_range": [NaN, 1]', "input_range.0: .* a finite number"),
        ('"input_range": null', '"input_range": [1, 1e999]', "input_range.1: .* a finite number"),
        (
            '"input_range": null',
            '"input_range": [5, -5]',
            "5 to -5 is not a range from low to high",
        ),
        ('"width": 1.0', '"width": -Infinity', "-Infinity is no number"),
        ('"sample_shape": [6]', '"sample_shape": [7]', r"takes no inputs \[7\] of .*shapes cannot"),
        ('"neurons": {', '"neurons": {"z": {"name": "lif"}, ', "has a neuron 'z', but this"),
    ],
)
def test_nothing_in_a_spec_is_ignored(old: str, new: str, why: str, tmp_path: Path) -> None:
    ls.save(make_snn(), tmp_path)
    text = (tmp_path / SPEC).read_text()
    text = json.dumps(json.loads(text))
    assert old in text
    (tmp_path / SPEC).write_text(text.replace(old, new))
    with pytest.raises(LeanspikeError, match=why):
        ls.load(tmp_path, ann=Own())


class Tied(Own):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.relu(self.d(torch.relu(self.c(x)))))

    def tie(self) -> Tied:
        self.d.weight = self.c.weight
        return self


def test_two_parameters_are_not_loaded_into_one(tmp_path: Path) -> None:
    x = torch.rand(3, 6)
    for network in (Tied().eval(), ls.spike(Tied().eval(), example_input=x[:1])):
        ls.save(network, tmp_path)
        words = r"c\.weight and d\.weight differ, but are one parameter .*; pass the architecture"
        with pytest.raises(LeanspikeError, match=words):
            ls.load(tmp_path, ann=Tied().tie())
        assert torch.equal(ls.load(tmp_path, ann=Tied())(x), network(x))  # as the advice says
    tied = Tied().tie().eval()
    ls.save(tied, tmp_path)
    for ann in (Tied(), Tied().tie()):
        assert torch.equal(ls.load(tmp_path, ann=ann)(x), tied(x))


def test_weights_of_another_kind_of_numbers_are_refused(tmp_path: Path) -> None:
    ls.save(make_snn(), tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    for odd in (torch.int64, torch.bool, torch.complex64):
        save_file({**weights, "a.bias": torch.zeros(8, dtype=odd)}, tmp_path / WEIGHTS)
        words = rf"model\.safetensors: a\.bias is {odd}, and torch\.float32 here; pass the arch"
        with pytest.raises(LeanspikeError, match=words):
            ls.load(tmp_path, ann=Own())


def test_a_bit_that_flipped_is_noticed_and_the_advice_works(tmp_path: Path) -> None:
    folder = ls.save(Own(), tmp_path)
    whole, spec = (folder / WEIGHTS).read_bytes(), (folder / SPEC).read_text()
    (folder / WEIGHTS).write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    words = r"model\.safetensors is not the file that spec\.json was written with; restore both"
    with pytest.raises(LeanspikeError, match=words):
        ls.load(folder, ann=Own())
    told = json.loads(spec)
    (folder / SPEC).write_text(json.dumps({**told, "weights_sha256": None}))
    ls.load(folder, ann=Own())
    (folder / SPEC).write_text(spec)
    (folder / WEIGHTS).write_bytes(whole)
    ls.load(folder, ann=Own())


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LeanspikeError, match=r"cannot write .*; make room or give another place"):
        ls.save(Own(), tmp_path / "file" / "folder")
    ls.save(Own(), tmp_path / "folder")


def test_a_neuron_without_a_name_cannot_be_saved(tmp_path: Path) -> None:
    snn = ls.spike(Own(), example_input=torch.zeros(1, 6), neuron=nn.ReLU())
    with pytest.raises(LeanspikeError, match=r"neuron neuron_0 is a ReLU, which has no name"):
        ls.save(snn, tmp_path)


def test_the_range_of_the_calibration_is_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ann = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    snn = ls.spike(ann, example_input=torch.zeros(1, 8))
    ls.calibrate(snn, torch.rand(32, 8))
    ls.save(snn, tmp_path)
    fresh = ls.spike(ann, example_input=torch.zeros(1, 8))
    for other in (ann, fresh):
        caplog.clear()
        loaded = ls.load(tmp_path, ann=other)
        assert isinstance(loaded, ls.SpikingNetwork)
        assert loaded.input_range == snn.input_range is not None
        loaded(255 * torch.rand(4, 8))
        assert "was calibrated on images of" in caplog.text
