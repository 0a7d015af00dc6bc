"""The one exception that stands for a mistake in what was asked, not in the library."""

from pydantic import ValidationError


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


def one_line(error: Exception) -> str:
    """The reason for an error of another library, in one line; of several the first.

    >>> one_line(ValueError("no\\n    good"))
    'no good'
    """
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}".removeprefix(": ")
    return " ".join(str(error).split())[:200]
