"""Why a question that code asks about sizes has no answer."""

from __future__ import annotations


class UndecidedError(Exception):
    """Why there is no answer: what the code asks for, in words."""


class SamplesError(UndecidedError):
    """The answer depends on the number of samples."""

    def __init__(self, asked: str = "the number of samples") -> None:
        super().__init__(asked)


class EachSampleError(SamplesError):
    """A tensor is to be taken apart along the samples."""

    def __init__(self) -> None:
        super().__init__("the samples of a tensor, one by one")
