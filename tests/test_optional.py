import sys

import pytest

from leanspike.data.small import read_digits
from leanspike.errors import LeanspikeError
from leanspike.optional import import_optional


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(LeanspikeError, match=r"pip install 'leanspike\[vision\]'$"):
        read_digits()


def test_an_installed_package_is_imported():
    assert import_optional("json.decoder", "vision") is sys.modules["json.decoder"]
