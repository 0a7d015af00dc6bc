import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from leanspike.data.small import read_digits
from leanspike.errors import LeanspikeError
from leanspike.optional import import_optional


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(LeanspikeError, match=r"pip install 'leanspike\[vision\]'$"):
        read_digits()


def test_the_advice_works_wherever_leanspike_came_from(monkeypatch):
    """Without an index to find leanspike in: here all that the extra asks for is installed."""
    pytest.importorskip("pip")
    try:
        distribution("leanspike")
    except PackageNotFoundError:
        pytest.skip("leanspike is not installed, but on the path")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(LeanspikeError) as refusal:
        read_digits()
    advice = re.search(r"pip install .*", str(refusal.value))[0]
    command = [sys.executable, "-m", *shlex.split(advice), "--no-index", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Requirement already satisfied: leanspike[vision]" in done.stdout


def test_an_installed_package_is_imported():
    assert import_optional("json.decoder", "vision") is sys.modules["json.decoder"]
