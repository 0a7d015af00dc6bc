"""The exception for a file or an input that cannot be used."""


class EngineError(Exception):
    """The engine cannot use a file or an input. The message is one line with value and fix.

    >>> raise EngineError("answer.leanspike holds 3 bytes; give a file of leanspike's")
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: answer.leanspike holds 3 bytes; give a file of leanspike's
    """
