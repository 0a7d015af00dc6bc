"""The one place where a backend is chosen: by whom, in which order, and what is wrong."""

import logging

import pytest
import torch
from backend_calls import lif_call

from leanspike import native as library
from leanspike.backends import Backend, LIFCall, backends, choice, choose, use_backend
from leanspike.errors import LeanspikeError

built = pytest.mark.skipif(not library.is_built(), reason="the native library is not built")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("LEANSPIKE_BACKEND", "LEANSPIKE_KERNEL", "LEANSPIKE_INSTRUCTIONS"):
        monkeypatch.delenv(name, raising=False)


def chosen(dtype=torch.float32):
    """The name of the backend that serves a layer."""
    return backends.name_of(type(choose(lif_call(torch.zeros(2, 3, dtype=dtype)))))


@built
@pytest.mark.parametrize("variable", ["LEANSPIKE_BACKEND", "LEANSPIKE_KERNEL"])
def test_the_environment_chooses(monkeypatch, variable):
    for name, expected in (("reference", "reference"), ("native", "native"), ("auto", "native")):
        monkeypatch.setenv(variable, name)
        assert chosen() == expected
        assert chosen(torch.float64) == "reference"  # which native does not know


@built
def test_the_new_name_goes_before_the_old_one_and_python_before_both(monkeypatch):
    monkeypatch.setenv("LEANSPIKE_KERNEL", "native")
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")
    assert chosen() == "reference"
    with use_backend("native"):
        assert chosen() == "native"
        with use_backend("auto"):
            assert chosen() == "native"
    assert chosen() == "reference"


def test_the_old_name_says_once_what_replaced_it(monkeypatch, caplog):
    choice._say_what_replaced_it.cache_clear()
    monkeypatch.setenv("LEANSPIKE_KERNEL", "reference")
    with caplog.at_level(logging.WARNING, logger="leanspike"):
        assert [chosen(), chosen()] == ["reference", "reference"]
    assert caplog.messages == [
        "LEANSPIKE_KERNEL is LEANSPIKE_BACKEND now; set LEANSPIKE_BACKEND=reference instead"
    ]


@pytest.mark.parametrize("variable", ["LEANSPIKE_BACKEND", "LEANSPIKE_KERNEL"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_unknown_name_is_an_error_of_one_line(monkeypatch, variable, dtype):
    monkeypatch.setenv(variable, "natve")
    names = ", ".join(backends.names())
    with pytest.raises(LeanspikeError) as caught:
        chosen(dtype)
    expected = f"{variable} is 'natve'; choose one of auto, {names}; did you mean 'native'?"
    assert str(caught.value) == expected


def test_an_unknown_name_is_refused_before_the_context_begins():
    with pytest.raises(LeanspikeError, match=r"^backend is 'fast'; choose one of auto, "):
        use_backend("fast").__enter__()
    assert chosen() in backends.names()


@pytest.fixture
def not_built(monkeypatch):
    monkeypatch.setattr(library, "_find", lambda: None)
    library._load.cache_clear()
    yield
    library._load.cache_clear()


@pytest.mark.usefixtures("not_built")
def test_native_without_a_build_is_an_error(monkeypatch):
    monkeypatch.setenv("LEANSPIKE_BACKEND", "native")
    message = "^LEANSPIKE_BACKEND is 'native', but the native kernel is not built: install a C comp"
    with pytest.raises(LeanspikeError, match=message):
        chosen()


@pytest.mark.usefixtures("not_built")
def test_without_a_build_the_reference_serves_and_says_so_once(caplog):
    from leanspike.backends import native

    native._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="leanspike"):
        assert [chosen() for _ in range(2)] == ["reference"] * 2
    assert len(caplog.messages) == 1
    assert "slow reference; the native kernel is not built" in caplog.text


class Later(Backend):
    def serves(self, call):
        return isinstance(call, LIFCall) and call.x_TN.dtype == torch.float64

    def run(self, call):
        return call.reference()


def test_auto_asks_the_latest_first_and_the_reference_last():
    before = chosen()
    backends.register("later")(Later)
    try:
        assert choice.candidates()[0] == "later"
        assert choice.candidates()[-1] == "reference"
        assert (chosen(), chosen(torch.float64)) == (before, "later")
    finally:
        backends.unregister("later")
    assert (chosen(), chosen(torch.float64)) == (before, "reference")
