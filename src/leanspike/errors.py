"""The exception for mistakes of the user, unlike mistakes in the library."""

import operator
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

WANTING = (
    *("allocate memory", "std::bad_alloc"),
    *("can't start new thread", "failed to map segment from shared object"),
)
"""Parts of error messages that mean that memory has ended."""


class LeanspikeError(Exception):
    """A mistake that the user can mend. The message names the value, what was expected, the fix.

    The command line prints the message in one line, without a traceback. Every error that
    leanspike raises on purpose is one of these.

    >>> raise LeanspikeError("timesteps is 0; give 1 or more")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: timesteps is 0; give 1 or more
    """


class SurgeryError(LeanspikeError):
    """A network, or an operation in it, cannot be made to spike. The message has a way out.

    >>> issubclass(SurgeryError, LeanspikeError)
    True
    """


class DataError(LeanspikeError):
    """A data set is missing, damaged or of an unexpected form.

    >>> issubclass(DataError, LeanspikeError)
    True
    """


def check_count(name: str, value: Any) -> int:
    """Return the value as a whole number of 1 or more.

    Raises LeanspikeError for any other value, with the right form.

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

    Raises LeanspikeError for text and for any other value, with the right form.

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
    """Return whether an error of Python or torch says that there is no memory left, on any device.

    A thread that cannot start, or a library that cannot be imported, may say so, too.

    >>> memory_ended(MemoryError()), memory_ended(RuntimeError("can't allocate memory"))
    (True, True)
    >>> memory_ended(RuntimeError("can't start new thread")), memory_ended(ImportError("no a.so"))
    (True, False)
    """
    ended = type(error).__name__ in ("MemoryError", "OutOfMemoryError")  # the second is torch's
    return ended or any(words in str(error) for words in WANTING)


def one_line(error: Exception) -> str:
    """Return the text of another library's error in one line of at most 200 characters.

    >>> one_line(ValueError("no\\n    good"))
    'no good'
    """
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}".removeprefix(": ")
    return " ".join(str(error).split())[:200]
