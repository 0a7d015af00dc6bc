"""The one exception for a file or an input that cannot be used."""


class EngineError(Exception):
    """A file or an input that the engine cannot use: one line with the value and the fix.

    >>> raise EngineError("answer.leanspike holds 3 bytes; give a file of leanspike's")
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: answer.leanspike holds 3 bytes; give a file of leanspike's
    """
