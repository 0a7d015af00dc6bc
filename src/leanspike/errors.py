"""The one exception that stands for a mistake in what was asked, not in the library."""

import operator
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

WANTING = (
    *("allocate memory", "std::bad_alloc"),
    *("can't start new thread", "failed to map segment from shared object"),
)
"""What errors say where memory has ended."""


class LeanspikeError(Exception):
    """Something the user can mend: the message names the value, what was expected and the fix.

    The command line prints the message in one line, without a traceback. Every error that
    leanspike raises on purpose is one of these.

    >>> raise LeanspikeError("timesteps is 0; give 1 or more")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: timesteps is 0; give 1 or more
    """


class SurgeryError(LeanspikeError):
    """A network (or one operation in it) that cannot be made to spike, by path, with the way out.

    >>> issubclass(SurgeryError, LeanspikeError)
    True
    """


class DataError(LeanspikeError):
    """A data set that is missing, damaged or of another form than it should be.

    >>> issubclass(DataError, LeanspikeError)
    True
    """


def check_count(name: str, value: Any) -> int:
    """Return the value as a whole number of 1 or more.

    Raises LeanspikeError for any other, with the right form.

    >>> check_count("timesteps", "5")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: timesteps is '5'; give a whole number, as timesteps=5
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        try:
            meant = max(1, round(float(value)))
        except (TypeError, ValueError, OverflowError):
            meant = 5
        raise LeanspikeError(
            f"{name} is {value!r}; give a whole number, as {name}={meant}"
        ) from None
    if count < 1:
        raise LeanspikeError(f"{name} is {count}; give 1 or more")
    return count


def check_number(name: str, value: Any, example: float = 0.6) -> float:
    """Return the value as a plain number.

    Raises LeanspikeError for text and for what is no number, with the right form.

    >>> check_number("scale", "0.6")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: scale is '0.6'; give a number, as scale=0.6
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise LeanspikeError(f"{name} is {value!r}; give a number, as {name}={example:g}") from None
    if isinstance(value, str | bool):
        raise LeanspikeError(f"{name} is {value!r}; give a number, as {name}={number:g}")
    return number


def check_memory(error: Exception, shape: Sequence[int]) -> None:
    """Raise SurgeryError if memory ended while a network ran on an example of that shape.

    >>> check_memory(ValueError("no good"), (1, 3, 8, 8))
    >>> check_memory(MemoryError(), (1, 3, 8, 8))
    Traceback (most recent call last):
    leanspike.errors.SurgeryError: memory ended on an example of shape (1, 3, 8, 8); pass a ...
    """
    if memory_ended(error):
        raise SurgeryError(
            f"memory ended on an example of shape {tuple(shape)}; pass a smaller example_input, or "
            "make room for a larger one"
        ) from error


def memory_ended(error: Exception) -> bool:
    """Whether an error says that there is no memory left: Python's, torch's, of a CPU or a GPU.

    A thread, or a library that is imported, may be what it is wanting for.

    >>> memory_ended(MemoryError()), memory_ended(RuntimeError("can't allocate memory"))
    (True, True)
    >>> memory_ended(RuntimeError("can't start new thread")), memory_ended(ImportError("no a.so"))
    (True, False)
    """
    ended = type(error).__name__ in ("MemoryError", "OutOfMemoryError")  # the second is torch's
    return ended or any(words in str(error) for words in WANTING)


def one_line(error: Exception) -> str:
    """Return the reason for an error of another library, in one line; of several the first.

    >>> one_line(ValueError("no\\n    good"))
    'no good'
    """
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}".removeprefix(": ")
    return " ".join(str(error).split())[:200]
