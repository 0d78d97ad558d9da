"""Turn a wrong value into one sentence: which key, which value, what to do.

Constructors that users configure carry `@validated`: pydantic checks each argument against its annotation, strictly
(no "3" for 3, no true for 1), and `sentences` words what it found. `UserError` is a user's mistake, ready to print.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, validate_call

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # seeds that numpy and scikit-learn accept
Fraction = Annotated[float, Field(gt=0, lt=1)]
Bounds = Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2, max_length=2)]  # [smallest, largest]


def _duration(value: Any) -> Any:
    """Lightning's notations of a duration: "DD:HH:MM:SS", or the arguments of timedelta."""
    try:
        if isinstance(value, dict):
            return timedelta(**value)
        days, hours, minutes, seconds = (int(part) for part in str(value).split(":"))
        return timedelta(days, seconds, hours=hours, minutes=minutes)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a duration is written DD:HH:MM:SS, as in 00:01:30:00 for an hour and a half") from None


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta())]

validated = validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))


class UserError(ValueError):
    """The configuration cannot be run. The message is one sentence for its author."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """ "; did you mean 'x'?" with the nearest candidate, or "" when none is near."""
    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def sentences(
    error: ValidationError,
    prefix: str = "",
    keys: Iterable[str] = (),
    followed: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The first problem that pydantic found, as `prefix.key=value: what it should be`. `keys` are those that exist;
    `followed` are those, elsewhere, whose values some only follow."""
    problem: Any = error.errors(include_url=False)[0]
    first, *inner = map(str, problem["loc"] or ("",))
    key = ".".join([followed.get(first, f"{prefix}.{first}"), *inner]).strip(".")
    kind, value = problem["type"], problem["input"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key} is not a key of {prefix or 'the configuration'}" + did_you_mean(str(problem["loc"][-1]), keys)
    if kind in ("missing_argument", "missing_keyword_only_argument", "missing"):
        return f"{key} is missing; give it a value"
    if kind == "string_type" and isinstance(value, bool | int | float):
        read = "a truth value" if isinstance(value, bool) else "a number"
        return f"{key}={value!r} is read as {read}, not as text; write '{key}=\"TEXT\"', with both pairs of quotes"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(value, dict) and "=" in message.split(" ")[0]:  # a problem of one key
        return f"{key}.{message}"
    message = message.removesuffix(f" or instance of {problem.get('ctx', {}).get('class_name')}")  # our own class
    choices = re.findall(r"'([^']*)'", problem["ctx"]["expected"]) if kind == "literal_error" else []
    return f"{key}={value!r}: {message[0].lower()}{message[1:]}{did_you_mean(str(value), choices)}"
