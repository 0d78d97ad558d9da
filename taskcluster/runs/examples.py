"""Store metrics of every example; the journal has only their means. Free of torch.

examples/step=000200.parquet    a row for each example of a split: split, example, prompt, right or not, labels; metrics
                                under their keys, "KEY/layer_3" for those by layer

in:  a measured step; {split: {column: a value for each example}}
out: the file of the step, written before its line of the journal, so that no line lacks it
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskcluster.runs.atomic_files import replace_file
from taskcluster.runs.records import contents
from taskcluster.validation import UserError

if TYPE_CHECKING:
    import polars

FILE = re.compile(r"step=([0-9]{6,})\.parquet")

Columns = Mapping[str, Any]


def write(folder: Path, step: int, splits: Mapping[str, Columns]) -> None:
    import polars  # imported here, since most runs have no such metrics

    frames = [
        polars.DataFrame({"example": range(len(next(iter(columns.values())))), **columns}).select(
            polars.lit(split).alias("split"), polars.all()
        )
        for split, columns in splits.items()
    ]
    content = io.BytesIO()
    polars.concat(frames, how="diagonal").write_parquet(content)
    folder.mkdir(exist_ok=True)
    replace_file(_file(folder, step), content.getvalue())


def read(folder: Path, step: int | None = None) -> "polars.DataFrame":
    """Read the file of a step, by default the last. Raises UserError for a missing or damaged file."""
    import polars

    known = steps(folder)
    if not known or step not in (None, *known):
        choices = f"choose from: {', '.join(map(str, known))}" if known else "no measure of the run writes any"
        of_step = "" if step is None else f" of step {step}"
        raise UserError(f"{folder.parent} has no numbers of examples{of_step}; {choices}")
    file = _file(folder, known[-1] if step is None else step)
    try:
        return polars.read_parquet(contents(file) or b"")
    except polars.exceptions.PolarsError:
        raise UserError(f"{file} is damaged; restore it, or choose another folder") from None


def steps(folder: Path) -> list[int]:
    named = (FILE.fullmatch(file.name) for file in folder.glob("step=*.parquet"))
    return sorted(int(name[1]) for name in named if name)


def drop_after(folder: Path, step: int) -> None:
    """Remove the files of later steps, and what a killed process left half written."""
    for abandoned in folder.glob(".*.partial"):
        abandoned.unlink()
    for later in steps(folder):
        if later > step:
            _file(folder, later).unlink()


def _file(folder: Path, step: int) -> Path:
    return folder / f"step={step:06d}.parquet"
