"""What an SNN is worth: accuracy after every step, activity, operations, energy."""

from leanspike.evaluate.accuracy import accuracy, count_correct
from leanspike.evaluate.activity import SpikeCounter, record_example
from leanspike.evaluate.energy import OperationCounter, Prices
from leanspike.evaluate.evaluate import evaluate
from leanspike.evaluate.provenance import provenance
from leanspike.evaluate.result import Result, load_result

__all__ = [
    "OperationCounter",
    "Prices",
    "Result",
    "SpikeCounter",
    "accuracy",
    "count_correct",
    "evaluate",
    "load_result",
    "provenance",
    "record_example",
]
