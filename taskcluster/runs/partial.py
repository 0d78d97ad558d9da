"""Store the numbers of each finished measure while a step is measured, so that a killed run resumes with the next
measure.

    partial.jsonl   {"step": 0, "measure": "val/clustering", "numbers": {...}}, until the journal has the step
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import orjson

from taskcluster.runs import journal
from taskcluster.runs.records import contents

Numbers = Mapping[str, float]


class PartialRow:
    """Called with the name of a measure and what computes its numbers: computes them once for a folder and a step.

    Stored numbers are bit-equal; numbers that are not finite come back as NaN.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._file, self._step, self._known = folder / "partial.jsonl", step, dict[str, Numbers]()
        for line in (contents(self._file) or b"").split(b"\n"):
            with suppress(orjson.JSONDecodeError):  # the last line may be torn
                row = orjson.loads(line)
                if row["step"] == step:
                    self._known[row["measure"]] = {k: math.nan if v is None else v for k, v in row["numbers"].items()}

    def __call__(self, measure: str, compute: Callable[[], Numbers]) -> Numbers:
        if measure not in self._known:
            self._known[measure] = numbers = compute()
            kept = {key: journal.finite(value) for key, value in numbers.items()}
            journal.append(self._file, {"step": self._step, "measure": measure, "numbers": kept})
        return self._known[measure]

    def clear(self) -> None:
        """Remove the file, as the journal has the step."""
        self._file.unlink(missing_ok=True)
