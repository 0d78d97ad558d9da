"""The step that a checkpoint's name states. Free of torch.

in:  the name of a folder or of a revision, such as step1000, checkpoint-500, stage2-step10k-tokens5B
out: the step; None for a name without a number; a refusal for one whose numbers do not say which of them is the step
"""

import re
from decimal import Decimal

EXAMPLE = "step1000 or checkpoint-500"

LARGEST = 2**53  # whole numbers that every reader of JSON has

FACTORS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
# A suffix belongs to a number where no letter follows: 10k and 2.5B, but 10 in 10kept.
NUMBER = r"(?:\d+(?:\.\d+)?(?:e\+?\d{1,2}|[kmbt])?(?![^\W_])|\d+)"
STEP, CHECKPOINT = r"(?:step|(?<![a-z])iter(?:ation)?)s?", r"(?:checkpoint|ckpt)s?"


def step_of(name: str) -> int | None:
    """The number after `step` or `iter`, else after `checkpoint` or `ckpt`, else the only number of a name; in any
    case, after any signs, with a factor k, M, B or T.

    Raises ValueError, naming the numbers, where several could be the step or the number is not a whole one.
    """
    numbers = re.findall(NUMBER, name, re.IGNORECASE)
    if not numbers:
        return None
    values = {_value(number) for number in _candidates(name) or numbers}
    step = values.pop()
    if values or step is None:
        raise ValueError(f"{name!r} does not say which number is its step ({', '.join(numbers)}); name it as {EXAMPLE}")
    if step >= LARGEST:
        raise ValueError(f"{name!r} has a number too large for a step ({step}); name it as {EXAMPLE}")
    return step


def _candidates(name: str) -> list[str]:
    """The numbers after STEP, else those after CHECKPOINT; "" for one that can be read in two ways."""
    for word in (STEP, CHECKPOINT):
        pattern = rf"(?P<glued>\d[kmbt]?)?{word}(?P<signs>[\W_]*)(?P<number>{NUMBER})(?P<more>[_,]\d+(?![^\W_]))?"
        if matches := [*re.finditer(pattern, name, re.IGNORECASE)]:
            return ["" if _ambiguous(match, word, name) else match["number"] for match in matches]
    return []


def _ambiguous(match: re.Match[str], word: str, name: str) -> bool:
    """1000steps_2; step1_000; and checkpoint-7b-1000, where 7b may be the size of the model."""
    size = word == CHECKPOINT and match["number"][-1] in "bB" and re.search(r"\d", name[match.end() :])
    return bool((match["glued"] and match["signs"]) or match["more"] or size)


def _value(number: str) -> int | None:
    """Of the digits with their factor, None for what is not a whole number, or written as a decimal without factor."""
    factor = number[-1:].lower() if number[-1:].isalpha() else ""
    digits = number.removesuffix(number[-1:]) if factor else number
    if not digits or (not factor and "." in digits and "e" not in digits.lower()):
        return None
    value = Decimal(digits) * FACTORS[factor]
    return int(value) if value == value.to_integral_value() else None
