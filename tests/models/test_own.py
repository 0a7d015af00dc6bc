"""Networks of the user's own by name: imported where trusted, one line for what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.own import create_own, find_own

CODE = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("imported").touch()

class Net(nn.Module):
    def __init__(self, width: int = 8):
        super().__init__()
        if width < 1:
            raise ValueError("width is\\ntoo small")
        self.layer = nn.Linear(64, width)

def small(width: int = 2) -> nn.Module:
    return nn.Linear(64, width)

def nothing():
    return 3

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with ``firstnet.py`` and ``packed/inner/net.py``, current and on Python's path."""
    (tmp_path / "firstnet.py").write_text(CODE)
    inner = tmp_path / "packed" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "packed" / "__init__.py").write_text("raise RuntimeError('imported')")
    (inner / "net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.split(".")[0] in ("firstnet", "packed", "broken"):
            del sys.modules[name]


def test_without_trust_nothing_is_imported_and_what_would_be_is_said(here: Path) -> None:
    place = here / "firstnet.py"
    with pytest.raises(
        LeanspikeError,
        match=rf"would import firstnet \({place}\) and call Net\(width=4\): .*; add --trust",
    ):
        create_own("firstnet:Net", {"width": 4}, trust=False)
    with pytest.raises(LeanspikeError, match=r"would import packed.inner.net \(\S+inner/net.py\)"):
        find_own("packed.inner.net:Net", {}, trust=False)
    with pytest.raises(LeanspikeError, match=r"would import nowhere and call Net\(\)"):
        find_own("nowhere:Net", {}, trust=False)
    assert not list(here.rglob("imported"))
    assert "firstnet" not in sys.modules
    assert "packed" not in sys.modules


def test_with_trust_it_is_built_from_its_options(here: Path) -> None:
    network = create_own("firstnet:Net", {"width": 4}, trust=True)
    assert isinstance(network.layer, nn.Linear)
    assert network.layer.out_features == 4
    assert isinstance(create_own("firstnet:small", {}, trust=True), nn.Linear)
    assert (here / "imported").is_file()


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        *("../firstnet:Net", "/etc/firstnet:Net", ".firstnet:Net", "packed..net:Net", "~/net:Net"),
        *(":Net", "firstnet:", "firstnet:Net:Net", "firstnet:Net()", "firstnet:__import__('os')"),
        *("packed/inner/net.py:Net", "first net:Net", "firstnet:Net\n", "C:\\net:Net"),
    ],
)
def test_names_that_are_paths_or_code_are_refused(name: str, trust: bool, here: Path) -> None:
    with pytest.raises(LeanspikeError, match=r"write package.module:Class, as in mynet:Net") as e:
        create_own(name, {}, trust)
    assert "\n" not in str(e.value)
    assert not list(here.rglob("imported"))


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("firstnet.py:Net", {}, "leave out .py: firstnet:Net"),
        ("nowhere:Net", {}, "no module 'nowhere' in .*; go to the folder that holds it"),
        ("firstnet.deeper:Net", {}, "no module 'firstnet.deeper' in"),
        ("firstnet:Nets", {}, r"firstnet \(\S+firstnet.py\) has no class .* called Nets"),
        ("firstnet:number", {}, "has no class of nn.Module called number"),
        ("firstnet:Path", {}, "has no class of nn.Module called Path"),
        ("os:system", {"command": "true"}, "has no class of nn.Module called system"),
        ("firstnet:nothing", {}, "returns a int; let it return an nn.Module"),
        ("firstnet:Net", {"depth": 3}, r"argument 'depth'\); it is Net\(width=8\)"),
        ("firstnet:Net", {"width": 0}, r"\(ValueError: width is too small; \S+, line 11\)"),
        ("packed.inner.net:Net", {}, r"failed \(RuntimeError: imported; \S+__init__.py, line 1\)"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_is_wrong_is_one_line(name: str, options: dict[str, object], why: str) -> None:
    with pytest.raises(LeanspikeError, match=why) as caught:
        create_own(name, options, trust=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def (", r"failed \(SyntaxError: .*broken.py, line 1\); mend it there"),
        ("import nothing_of_that_name", r"failed \(ModuleNotFoundError: No module named 'nothing_"),
        ("\nraise SystemExit(3)", r"failed \(SystemExit: 3; \S+broken.py, line 2\)"),
    ],
)
def test_code_that_does_not_import_is_named_with_its_line(code: str, why: str, here: Path) -> None:
    (here / "broken.py").write_text(code)
    with pytest.raises(LeanspikeError, match=why):
        create_own("broken:Net", {}, trust=True)
