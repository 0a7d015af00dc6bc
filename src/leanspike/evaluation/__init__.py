"""What an SNN is worth: accuracy after every step, activity, operations, energy."""

from leanspike.evaluation.activity import SpikeCounter, readings, record_example
from leanspike.evaluation.answers import accuracy, count_correct
from leanspike.evaluation.attack import fgsm, pgd
from leanspike.evaluation.by_neurobench import neurobench, neurobench_model
from leanspike.evaluation.comparison import Comparison
from leanspike.evaluation.early_exit import (
    After,
    Confident,
    ExitRule,
    Exits,
    confidence,
    exit_early,
    gamma_by_step,
    gamma_steps,
)
from leanspike.evaluation.energy import OperationCounter
from leanspike.evaluation.exit_choice import (
    Choice,
    anytime,
    choose_confidence,
    choose_gamma,
)
from leanspike.evaluation.exit_measure import measure_exit
from leanspike.evaluation.exit_result import EarlyExit
from leanspike.evaluation.macs import MacCounter, Macs
from leanspike.evaluation.measure import evaluate
from leanspike.evaluation.metric import (
    About,
    LayerTable,
    Look,
    Metric,
    Picture,
    SharedMetric,
    StepTable,
    WatchingMetric,
)
from leanspike.evaluation.mistakes import Mistakes, picture_of
from leanspike.evaluation.origin import provenance
from leanspike.evaluation.prices import Prices
from leanspike.evaluation.result import Result
from leanspike.evaluation.result_file import load_result
from leanspike.evaluation.rivals import compare_rivals
from leanspike.evaluation.rivals_result import Rivals
from leanspike.evaluation.robustness import measure_robustness
from leanspike.evaluation.robustness_result import Curve, Robustness, load_robustness
from leanspike.evaluation.task import Binary, Multiclass, Multilabel, Task
from leanspike.evaluation.times import Times, measure_times
from leanspike.evaluation.traffic import Memory, TrafficCounter
from leanspike.evaluation.which_task import find_task

__all__ = [
    "About",
    "After",
    "Binary",
    "Choice",
    "Comparison",
    "Confident",
    "Curve",
    "EarlyExit",
    "ExitRule",
    "Exits",
    "LayerTable",
    "Look",
    "MacCounter",
    "Macs",
    "Memory",
    "Metric",
    "Mistakes",
    "Multiclass",
    "Multilabel",
    "OperationCounter",
    "Picture",
    "Prices",
    "Result",
    "Rivals",
    "Robustness",
    "SharedMetric",
    "SpikeCounter",
    "StepTable",
    "Task",
    "Times",
    "TrafficCounter",
    "WatchingMetric",
    "accuracy",
    "anytime",
    "choose_confidence",
    "choose_gamma",
    "compare_rivals",
    "confidence",
    "count_correct",
    "evaluate",
    "exit_early",
    "fgsm",
    "find_task",
    "gamma_by_step",
    "gamma_steps",
    "load_result",
    "load_robustness",
    "measure_exit",
    "measure_robustness",
    "measure_times",
    "neurobench",
    "neurobench_model",
    "pgd",
    "picture_of",
    "provenance",
    "readings",
    "record_example",
]
