"""Turn a wrong value into one sentence: which key, which value, what to do.

Constructors that users configure carry `@validated`: pydantic checks each argument against its annotation, strictly
(no "3" for 3, no true for 1), and `sentences` words what it found. `ConfigError` is a user's mistake, ready to print.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, validate_call

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy and scikit-learn take
Fraction = Annotated[float, Field(gt=0, lt=1)]
Bounds = Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2, max_length=2)]  # [smallest, largest]

validated = validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))


class ConfigError(ValueError):
    """The configuration cannot be run. The message is one sentence for its author."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """ "; did you mean 'x'?" with the nearest candidate, or "" when none is near."""
    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def sentences(error: ValidationError, prefix: str = "", keys: Iterable[str] = ()) -> str:
    """Every problem pydantic found, as `prefix.key=value: what it should be`. `keys` are those that exist."""
    return "; ".join(_sentence(problem, prefix, keys) for problem in error.errors(include_url=False))


def _sentence(problem: Any, prefix: str, keys: Iterable[str]) -> str:
    key = ".".join([prefix, *map(str, problem["loc"])]).strip(".")
    kind, value = problem["type"], problem["input"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key} is not a key of {prefix or 'the configuration'}" + did_you_mean(str(problem["loc"][-1]), keys)
    if kind in ("missing_argument", "missing_keyword_only_argument", "missing"):
        return f"{key} is missing; give it a value"
    message = problem["msg"].removeprefix("Value error, ")
    choices = re.findall(r"'([^']*)'", problem["ctx"]["expected"]) if kind == "literal_error" else []
    return f"{key}={value!r}: {message[0].lower()}{message[1:]}{did_you_mean(str(value), choices)}"
