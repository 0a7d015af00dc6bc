"""What labels hold: numbers of classes from 0, or 0 and 1.

Shapes: T timesteps, N samples, K outputs.
"""

from __future__ import annotations

from torch import Tensor

from leanspike.errors import LeanspikeError


def check_labels(labels: Tensor, outputs: int, pixels: bool = False) -> None:
    """Raise LeanspikeError unless each label is the number of an output, from 0.

    >>> import torch
    >>> check_labels(torch.tensor([1, 3, 2]), outputs=3)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: label 3, and the network's 3 outputs are 0 to 2; ... labels - 1
    """
    if len(labels) == 0:
        return
    low, high = (int(value) for value in labels.aminmax())
    if low >= 0 and high < outputs:
        return
    fits = f"and the network's {outputs} outputs are 0 to {outputs - 1}"
    odd = low if low < 0 else high
    if pixels:
        raise LeanspikeError(
            f"label {odd}, {fits}; to leave those pixels out, give task=Multiclass(ignore_index="
            f"{odd}) of leanspike.evaluation"
        )
    if low < 0:
        raise LeanspikeError(
            f"label {low}, {fits}; leave those samples out, as x[labels >= 0] and "
            "labels[labels >= 0]"
        )
    way = "they seem to count from 1: give labels - 1"
    if low < 1 or high > outputs:
        way = f"give the labels of its classes, or a network of {high + 1} outputs or more"
    raise LeanspikeError(f"label {high}, {fits}; {way}")


def is_yes_or_no(labels: Tensor) -> bool:
    """Tell whether each label is 0 or 1.

    >>> import torch
    >>> is_yes_or_no(torch.tensor([0.0, 1.0])), is_yes_or_no(torch.tensor([0.2]))
    (True, False)
    """
    return bool(((labels == 0) | (labels == 1)).all())


def check_yes_or_no(labels: Tensor, what: str) -> None:
    """Raise LeanspikeError unless each label is 0 or 1.

    >>> import torch
    >>> check_yes_or_no(torch.tensor([1, 2]), "one output answers")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: label 2, and one output answers 0 or 1; ...
    """
    if is_yes_or_no(labels):
        return
    odd = labels[(labels != 0) & (labels != 1)].flatten()[0].item()
    way = "give labels > 0.5" if 0 < odd < 1 else "give labels > 0 for labels -1 and 1"
    raise LeanspikeError(
        f'label {odd:g}, and {what} 0 or 1; {way}, or task="none" or metric= with a function of '
        "yours for targets that are no labels"
    )


def check_one_class(rows: Tensor) -> None:
    """Raise LeanspikeError unless each row of labels ``[N, K, ...]`` has one largest entry.

    >>> import torch
    >>> check_one_class(torch.tensor([[0, 1, 0], [1, 1, 0]]))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: the labels of a sample have 2 largest entries, and one of ...
    """
    most = int((rows == rows.amax(1, keepdim=True)).sum(1).max()) if len(rows) else 1
    if most > 1:
        raise LeanspikeError(
            f"the labels of a sample have {most} largest entries, and one of {rows.shape[1]} "
            'classes is right; give task="multilabel" for several labels'
        )


def no_numbers(labels: Tensor, y_TN: Tensor) -> LeanspikeError:
    """Return the error for labels that are no numbers of classes, with a way out if it is plain.

    >>> import torch
    >>> print(no_numbers(torch.tensor([1.0, 2.0]), torch.zeros(1, 2, 3)))
    labels of shape (2,) and type torch.float32; ... each of the 2 samples; give labels.long()
    """
    shape = y_TN.shape[1:]
    way = ""
    if labels.shape == (*shape[:1], 1, *shape[2:]):
        way = "; give labels[:, 0]"
    elif labels.shape == shape[:1] + shape[2:] and bool((labels == labels.round()).all()):
        way = "; give labels.long()"
    each = "samples" if len(shape) == 2 else f"samples and positions, {[shape[0], *shape[2:]]}"
    return LeanspikeError(
        f"labels of shape {tuple(labels.shape)} and type {labels.dtype}; expected a whole "
        f"number for each of the {shape[0]} {each}{way}"
    )
