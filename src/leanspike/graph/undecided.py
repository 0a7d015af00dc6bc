"""The errors of questions about sizes that have no answer."""

from __future__ import annotations


class UndecidedError(Exception):
    """There is no answer. The text says what the code asks for."""


class SamplesError(UndecidedError):
    """The answer depends on the number of samples."""

    def __init__(self, asked: str = "the number of samples") -> None:
        super().__init__(asked)


class EachSampleError(SamplesError):
    """The code takes a tensor apart along the samples."""

    def __init__(self) -> None:
        super().__init__("the samples of a tensor, one by one")
