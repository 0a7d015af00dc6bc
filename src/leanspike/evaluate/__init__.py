"""What an SNN is worth: accuracy after every step, activity, operations, energy."""

from leanspike.evaluate.accuracy import accuracy, count_correct
from leanspike.evaluate.activity import SpikeCounter, readings, record_example
from leanspike.evaluate.attack import fgsm, pgd
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
from leanspike.evaluate.exit_result import EarlyExit
from leanspike.evaluate.mistakes import Mistakes, picture_of
from leanspike.evaluate.provenance import provenance
from leanspike.evaluate.result import Result, load_result
from leanspike.evaluate.robustness import measure_robustness
from leanspike.evaluate.robustness_result import Curve, Robustness, load_robustness
from leanspike.evaluate.times import Times, measure_times

__all__ = [
    "After",
    "Choice",
    "Confident",
    "Curve",
    "EarlyExit",
    "ExitRule",
    "Exits",
    "Mistakes",
    "OperationCounter",
    "Prices",
    "Result",
    "Robustness",
    "SpikeCounter",
    "Times",
    "accuracy",
    "anytime",
    "choose_confidence",
    "choose_gamma",
    "confidence",
    "count_correct",
    "evaluate",
    "exit_early",
    "fgsm",
    "gamma_by_step",
    "gamma_steps",
    "load_result",
    "load_robustness",
    "measure_exit",
    "measure_robustness",
    "measure_times",
    "pgd",
    "picture_of",
    "provenance",
    "readings",
    "record_example",
]
