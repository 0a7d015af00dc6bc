"""What outputs and labels are of, by their shapes and types: nothing is guessed.

Shapes: T timesteps, N samples, K outputs, P any further axes, as the rows and columns of pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.evaluation.labels import is_yes_or_no
from leanspike.evaluation.task import Binary, Multiclass, Multilabel, Task

HOW = 'task="none" measures spikes, operations and energy alone, metric= a function of yours'


def find_task(y_TN: Tensor, labels: Tensor) -> Task | None:
    """Return the task of outputs ``[T, N, ...]`` and labels; None for targets that are no labels.

    - multiclass: outputs ``[N, K]`` or ``[N, K, P]``, whole numbers ``[N]`` or ``[N, P]``;
    - binary: outputs ``[N]``, ``[N, 1]`` or ``[N, 1, P]``, labels 0 or 1, ``[N]``, ``[N, 1]`` or
      with P;
    - multilabel: outputs ``[N, K]`` or ``[N, K, P]``, labels 0 or 1 of that shape;
    - None: numbers of the outputs' shape other than 0 and 1, or, for ``[N, K, P]``, another shape.

    Raises:
        LeanspikeError: for labels that are plainly in another form. Also if several tasks fit: each
            row has a single 1, or its entries add up to 1.

    >>> find_task(torch.zeros(5, 3, 4), torch.tensor([1, 0, 2]))
    Multiclass(ignore_index=-100)
    >>> find_task(torch.zeros(5, 3), torch.tensor([1.0, 0.0, 1.0]))
    Binary()
    >>> find_task(torch.zeros(5, 2, 3), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    Multilabel()
    >>> print(find_task(torch.zeros(5, 2, 3), torch.rand(2, 3)))
    None
    """
    shape = y_TN.shape[1:]
    single = len(shape) == 1 or shape[1] == 1
    numbers = shape[:1] + shape[2:]
    column = (*shape[:1], 1, *shape[2:])
    if single and labels.shape in (shape, numbers, column):
        return _of_one(labels)
    if not single and labels.shape == numbers and not labels.is_floating_point():
        return Multiclass()
    if not single and labels.shape == shape:
        return _of_rows(labels)
    whole = labels.shape in (numbers, column) and bool((labels == labels.round()).all())
    if len(shape) > 2 and not whole:
        return None
    (Binary() if single else Multiclass()).targets(labels, y_TN)  # says what is wrong with them
    raise AssertionError(shape, labels.shape)


def _of_one(labels: Tensor) -> Task | None:
    """Return the task of one output: yes or no, or a number."""
    if is_yes_or_no(labels):
        return Binary()
    signs = bool((labels.abs() == 1).all())
    if labels.is_floating_point() and not signs:
        return None
    odd = labels[(labels != 0) & (labels != 1)].flatten()[0].item()
    way = "give labels > 0" if signs else f"give a network of {int(labels.max()) + 1} outputs"
    raise LeanspikeError(
        f"label {odd:g}, and one output answers 0 or 1; {way}. For targets that are no labels {HOW}"
    )


def _of_rows(labels: Tensor) -> Task | None:
    """Return the task of rows as wide as the outputs: several labels, or numbers."""
    total = labels.sum(1, dtype=torch.float64)
    if not is_yes_or_no(labels):
        shares = bool((labels >= 0).all()) and bool(((total - 1).abs() < 1e-3).all())
        if not shares:
            return None
        what = "rows of labels that add up to 1 each"
    elif bool((total == 1).all()):
        what = "rows of labels with a single 1 each"
    else:
        return Multilabel()
    raise LeanspikeError(
        f"{what}, {tuple(labels.shape)}: one class each, or several labels; give labels.argmax(1) "
        'or task="multiclass" for one-hot rows, task="multilabel" for several labels'
    )
