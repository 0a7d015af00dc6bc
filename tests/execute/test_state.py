"""The state of a stream: copied, pickled, written to disk and read again."""

import pickle
from copy import deepcopy

import pytest
import torch

from leanspike import LIF, LeanspikeError, spike
from leanspike.surgery import State
from networks import build, draw

N = 3


def stream(name="padded_shortcut", **options):
    """A network, its input, and the state after two steps."""
    neuron = LIF(threshold=0.5, leak=0.9)
    snn = spike(build(name), example_input=draw(name, 1), neuron=neuron, **options).eval()
    x, state = draw(name, N), None
    for _ in range(2):
        _, state = snn.step(x, state)
    return snn, x, state


def through_pickle(state, _folder):
    return pickle.loads(pickle.dumps(state))


def through_disk(state, folder):
    return State.load(state.save(folder / "state.safetensors"))


@pytest.mark.parametrize("norm", ["keep", "tebn"])
@pytest.mark.parametrize("way", [through_pickle, through_disk, lambda state, _: deepcopy(state)])
@pytest.mark.parametrize("name", ["padded_shortcut", "dense", "vector"])
def test_a_stream_goes_on_from_its_state_wherever_that_was(name, way, norm, tmp_path):
    if name == "dense" and norm == "tebn":
        pytest.skip("it has no norm")
    snn, x, state = stream(name, norm=norm)
    again = way(state, tmp_path)
    assert again.steps == state.steps == 2
    for _ in range(2):
        expected, state = snn.step(x, state)
        found, again = snn.step(x, again)
        assert torch.equal(found, expected)


def test_another_process_of_the_same_network_goes_on(tmp_path):
    snn, x, state = stream()
    twin, _, _ = stream()
    path = state.save(tmp_path / "state")
    assert torch.equal(twin.step(x, State.load(path))[0], snn.step(x, state)[0])


def test_states_of_any_structure_are_kept_and_written(tmp_path):
    last = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    neurons = {"a": (torch.arange(2.0), {"trace": last}), "b": [torch.ones(2, 1)], "c": None}
    state = State(3, neurons, {"image": last}, {"size": 7, "shape": (1, 2)})
    kept = state.keep(torch.tensor([False, True]))
    assert kept.neurons["a"][0].tolist() == [1]
    assert kept.neurons["c"] is None
    assert torch.equal(kept.static["image"], last[1:])
    assert kept.constants == state.constants
    again = through_disk(state, tmp_path)
    assert again.steps == 3
    assert torch.equal(again.neurons["a"][1]["trace"], last)
    assert again.neurons["a"][1]["trace"].stride() == last.stride()
    assert isinstance(again.neurons["b"], list)
    assert again.constants == {"size": 7, "shape": (1, 2)}


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        LeanspikeError, match=r"cannot write \S+ \(.*\); make room or give another place"
    ):
        State(1, {}).save(tmp_path / "file" / "state")
    State.load(State(1, {}).save(tmp_path / "folder" / "state"))


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(LeanspikeError, match="holds a set, which cannot be written"):
        State(1, {"a": {1, 2}}).save(tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", b"\x00" * 64])
def test_files_that_are_missing_or_damaged_are_one_line(content, tmp_path):
    path = tmp_path / "state"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LeanspikeError, match="is missing, damaged or not of leanspike"):
        State.load(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(LeanspikeError, match=r"holds no state; write one with state\.save"):
        State.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("tensors", "said", "why"),
    [
        (
            {"0": [float("nan")]},
            '[1, "", {"dict": {"a": TENSOR}}, {"dict": {}}, {"dict": {}}]',
            "NaN",
        ),
        (
            {"0": [1.0], "1": [1.0]},
            '[1, "", {"dict": {"a": TENSOR}}, {"dict": {}}, {"dict": {}}]',
            "tensor '1' belongs to nothing",
        ),
        (
            {"0": [1.0]},
            '[1, "", {"dict": {"a": TENSOR, "a": TENSOR}}, {"dict": {}}, {"dict": {}}]',
            "'a' stands there twice",
        ),
    ],
)
def test_a_file_that_says_too_much_or_nothing_is_refused(tensors, said, why, tmp_path):
    from safetensors.torch import save_file

    said = said.replace("TENSOR", '{"tensor": "0", "channels_last": false}')
    tensors = {name: torch.tensor(value) for name, value in tensors.items()}
    about = {"format": "leanspike state 1", "state": said}
    save_file(tensors, tmp_path / "state", about)
    with pytest.raises(LeanspikeError, match=why):
        State.load(tmp_path / "state")
    right = {"format": "leanspike state 1", "state": said.replace('"a": ', '"b": ', 1)}
    save_file({"0": torch.ones(1)}, tmp_path / "state", right)
    assert State.load(tmp_path / "state").neurons["b"].item() == 1


def test_the_old_name_says_the_new_one():
    _, _, state = stream()
    with pytest.warns(DeprecationWarning, match=r"State\.membranes is State.neurons now"):
        assert state.membranes is state.neurons
