"""Labels of prompts as codes.

in:  labels as users have them: {name: a value for each prompt}, or a table with a column for each
out: {name: codes (N,)}, and the value of each code, in the order of first appearance
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from taskcluster.validation import UserError

Labels = tuple[dict[str, Tensor], dict[str, list[Any]]]

COLUMNS = ("prompt", "answer", "loss", "ids", "tokens", "words")  # of the table of prompts, beside labels


def coded(labels: Any, n: int) -> Labels:
    """Raises UserError for labels of another length, a missing value, and a name that cannot be a column's."""
    if hasattr(labels, "columns"):  # of pandas or polars
        labels = {name: labels[name] for name in labels.columns}
    if not isinstance(labels, Mapping):
        raise UserError(f"labels is of type {type(labels).__name__}; give {{name: a list with a value per prompt}}")
    codes, values = dict[str, Tensor](), dict[str, list[Any]]()
    for name, given in labels.items():
        if not isinstance(name, str) or name in COLUMNS or name.startswith("token at "):
            raise UserError(f"labels has the name {name!r}, which is not a text, or is a column of table(); rename it")
        given = given.tolist() if hasattr(given, "tolist") else given
        each = [*given] if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else [given]
        if len(each) != n:
            raise UserError(f"labels[{name!r}] has {len(each)} values for {n} prompts; give one per prompt")
        each = [_value(name, number, value) for number, value in enumerate(each)]
        values[name] = list(dict.fromkeys(each))
        code = {value: k for k, value in enumerate(values[name])}
        codes[name] = torch.tensor([code[value] for value in each])
    return codes, values


def _value(name: str, number: int, value: Any) -> Any:
    """A value, a number of an array as Python's. Raises UserError for one that is missing, or cannot be compared."""
    try:
        value = value.item() if hasattr(value, "item") else value
        usable = value is not None and hash(value) is not None and bool(value == value)  # NaN is not
    except (TypeError, ValueError, RuntimeError):
        usable = False
    if not usable:
        raise UserError(
            f"labels[{name!r}] has {value!r} for prompt {number}; give a text, a number or a tuple, and leave out "
            "prompts without a value"
        )
    return value
