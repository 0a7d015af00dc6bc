"""Loading of published weights: all or nothing, and never code."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.cifar_resnet import CifarResNet
from leanspike.models.published import load_published


def trained() -> CifarResNet:
    """A network that is not as it was built: its norms have seen data."""
    torch.manual_seed(1)
    net = CifarResNet(8, width=0.125)
    net(torch.randn(4, 3, 8, 8))
    return net.eval()


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("counters", [False, True])
def test_round_trip(tmp_path: Path, wrapper: str, nested: bool, counters: bool) -> None:
    source, target = trained(), CifarResNet(8, width=0.125).eval()
    state = {
        wrapper + name: value
        for name, value in source.state_dict().items()
        if counters or not name.endswith("num_batches_tracked")
    }
    torch.save({"state_dict": state, "best": 91.7} if nested else state, tmp_path / "w.th")
    load_published(target, tmp_path / "w.th")
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(target(x), source(x))


def test_a_child_that_is_really_called_module_keeps_its_name(tmp_path: Path) -> None:
    source = nn.ModuleDict({"module": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    target = nn.ModuleDict({"module": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_published(target, str(tmp_path / "w.pt"))
    assert torch.equal(target["module"].weight, source["module"].weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("linear.bias"), "(linear.bias is missing)"),
        (lambda state: state.update(extra=torch.ones(1)), "(extra has no place there)"),
        (
            lambda state: state.update({"linear.bias": torch.ones(100)}),
            "(linear.bias is [100], not [10])",
        ),
    ],
)
def test_another_network(tmp_path: Path, change: object, message: str) -> None:
    state = dict(trained().state_dict())
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "w.pt")
    target = CifarResNet(8, width=0.125)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(LeanspikeError) as error:
        load_published(target, tmp_path / "w.pt")
    assert str(error.value) == (
        f"{tmp_path / 'w.pt'} holds the weights of another network {message}; "
        "build the network they were trained in"
    )
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(LeanspikeError, match=f"^no file at {tmp_path}; give the path"):
        load_published(trained(), tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9])
def test_a_truncated_file(tmp_path: Path, zipped: bool, keep: float) -> None:
    path = tmp_path / "w.pt"
    torch.save(trained().state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(LeanspikeError) as error:
        load_published(trained(), path)
    assert str(error.value).startswith(f"{path} is damaged or not a file of plain tensors (")
    assert "\n" not in str(error.value)


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("Not found\n" * 50)
    with pytest.raises(LeanspikeError, match="is damaged or not a file of plain tensors"):
        load_published(trained(), tmp_path / "w.pt")


class Payload:
    """Makes a folder when it is unpickled the careless way."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "evil": Payload(tmp_path / "pwned")}, tmp_path / "w.pt")
    with pytest.raises(LeanspikeError, match=r"plain tensors \(UnpicklingError\); download it"):
        load_published(trained(), tmp_path / "w.pt")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [([1, 2], "list"), ({}, "dict"), ({"epoch": 3}, "dict"), (torch.ones(2), "Tensor")],
)
def test_no_state_dict_inside(tmp_path: Path, content: object, kind: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(LeanspikeError, match=f"holds no state_dict but {kind}; give a file"):
        load_published(trained(), tmp_path / "w.pt")
