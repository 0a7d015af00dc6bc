"""The pages build without a warning, and the reference holds every public name."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType

import pytest

from test_layers import packages

DOCS = Path(__file__).parents[1] / "docs"

pytestmark = pytest.mark.skipif(find_spec("sphinx") is None, reason="needs leanspike[docs]")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs")
    options = ["-W", "--keep-going", "-q", "-E", "-b", "html", "-d", str(out / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_every_page_is_built(pages: Path) -> None:
    written = [path.relative_to(DOCS) for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    assert len(written) >= 18
    assert [page for page in written if not (pages / page.with_suffix(".html")).is_file()] == []


def test_the_reference_holds_every_public_name(pages: Path) -> None:
    reference = (pages / "reference").glob("*.html")
    html = "".join(path.read_text(encoding="utf-8") for path in reference)
    for package in packages():
        for name in package.__all__:
            if package.__name__ == "leanspike":
                assert f"ls.{name}<" in html, name
            elif isinstance(value := getattr(package, name), FunctionType | type):
                # Where it stands once, under whichever package that exports it.
                places = [p.__name__ for p in packages() if getattr(p, name, None) is value]
                found = [place for place in places if f'id="{place}.{name}"' in html]
                assert found, (package.__name__, name)


def test_links_to_files_outside_the_pages_lead_to_copies(pages: Path) -> None:
    copies = {path.name for path in (pages / "_downloads").rglob("*.*")}
    assert {"README.md", "table.py", "reference.py", "lif_block.h", "test_lif.py"} <= copies
