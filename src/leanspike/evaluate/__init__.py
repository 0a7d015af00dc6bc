"""What an SNN is worth: accuracy after every step, activity, operations, energy."""

from leanspike.evaluate.accuracy import accuracy, count_correct
from leanspike.evaluate.activity import SpikeCounter, record_example
from leanspike.evaluate.early_exit import (
    After,
    Confident,
    ExitRule,
    Exits,
    confidence,
    exit_early,
    gamma_by_step,
    gamma_steps,
)
from leanspike.evaluate.energy import OperationCounter, Prices
from leanspike.evaluate.evaluate import evaluate
from leanspike.evaluate.exit_choice import (
    Choice,
    anytime,
    choose_confidence,
    choose_gamma,
    measure_exit,
)
from leanspike.evaluate.provenance import provenance
from leanspike.evaluate.result import EarlyExit, Result, load_result

__all__ = [
    "After",
    "Choice",
    "Confident",
    "EarlyExit",
    "ExitRule",
    "Exits",
    "OperationCounter",
    "Prices",
    "Result",
    "SpikeCounter",
    "accuracy",
    "anytime",
    "choose_confidence",
    "choose_gamma",
    "confidence",
    "count_correct",
    "evaluate",
    "exit_early",
    "gamma_by_step",
    "gamma_steps",
    "load_result",
    "measure_exit",
    "provenance",
    "record_example",
]
