"""Tasks from a folder of files with pairs, one file a task, such as the function-vector data sets.

in:  the folder, which tasks and pairs of it, and how tasks are told to the model
out: a TaskFamily, a pure function of its arguments and of the files
"""

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from taskcluster.tasks.describing import Describe, Description, Templates
from taskcluster.tasks.family import Holdout, TaskFamily
from taskcluster.tasks.files import READERS, read_pairs
from taskcluster.tasks.paraphrases import of_name
from taskcluster.validation import Fraction, Seed, did_you_mean, validated

LOG = logging.getLogger(__name__)


@validated
def pairs_family(
    path: str | None,
    tasks: Annotated[list[str], Field(min_length=2)] | None,
    n_pairs: PositiveInt | None,
    max_length: PositiveInt | None,
    describe: Describe,
    templates: Templates | None,
    n_instructions: PositiveInt | None,
    n_demonstrations: PositiveInt,
    n_sets: PositiveInt,
    n_pool: PositiveInt,
    layout: str,
    holdout: Holdout,
    val_fraction: Fraction,
    seed: Seed,
    shuffle_outputs: bool = False,
    columns: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None,
    disjoint_demonstrations: bool = False,
) -> TaskFamily:
    """A task for each file, named as the file is without its ending.

    Of each, `n_pairs` pairs of at most `max_length` characters in x and in y, the first y of each x. Tasks choose from
    their inputs in one order, so that those with inputs in common keep them in common. With demonstrations, `n_pool`
    further inputs of each task are shown, and no task is asked about them. `columns` names the columns or fields of x
    and y, by default input and output. An input with several outputs is logged once a file.

    Raises ValueError, naming the argument, or the file and line, for what cannot be used.
    """
    if path is None:
        raise ValueError("path=None: give the folder that holds a file for each task")
    if columns and columns[0] == columns[1]:
        raise ValueError(f"columns={columns} names one column twice; name that of x and that of y")
    files = _files(path, tasks)
    sets = (n_demonstrations, n_sets, n_pool, layout, seed, disjoint_demonstrations)
    description = Description(describe, templates, n_instructions, *sets)
    mappings = {name: _mapping(path, file, max_length, columns) for name, file in files.items()}
    inputs = sorted({x for mapping in mappings.values() for x in mapping})
    random.Random(f"{seed}/pairs").shuffle(inputs)
    shown = {name: _first(mapping, inputs, description.n_shown) for name, mapping in mappings.items()}
    pool = {x for mapping in shown.values() for x in mapping}
    to_ask = [x for x in inputs if x not in pool]
    queried = {name: _first(mapping, to_ask, n_pairs) for name, mapping in mappings.items()}
    _refuse_too_few(queried, n_pairs, max_length, description)
    wordings = {name: of_name(name) for name in files}
    made = description.tasks(queried, shown, wordings)
    return TaskFamily(
        made,
        holdout,
        val_fraction,
        seed,
        words=True,
        x_inside=True,
        layout=description.layout_shown,
        shuffle_outputs=shuffle_outputs,
    )


def _refuse_too_few(
    queried: Mapping[str, Mapping[str, str]], n_pairs: int | None, max_length: int | None, description: Description
) -> None:
    """Raise ValueError, naming the key at fault, where the task with the fewest pairs has too few."""
    name, fewest = min(((name, len(mapping)) for name, mapping in queried.items()), key=lambda task: task[1])
    longer = f", or raise max_length={max_length}" if max_length else ""
    if not fewest:
        raise ValueError(
            f"n_pool={description.n_pool} leaves no pair of task {name} to ask about, since inputs that one task "
            f"demonstrates are left out of all; lower it{longer}"
        )
    if n_pairs and fewest < n_pairs:
        shown = f" that are not demonstrated (n_pool={description.n_pool})" if description.n_shown else ""
        lower = f"lower it to {fewest}" + (" or lower n_pool" if shown else "")
        pairs = f"{fewest} pair{'s' * (fewest != 1)}"
        raise ValueError(f"n_pairs={n_pairs} leaves task {name} with {pairs}{shown}; {lower}{longer}")


def _files(path: str, tasks: list[str] | None) -> dict[str, Path]:
    """The file of every task, in the order of `tasks` or, without, of their names."""
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"path={path!r} is not a folder; give one that holds a file for each task")
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in READERS)
    except OSError as error:
        raise ValueError(f"path={path!r} cannot be read ({error.strerror}); change its permissions") from None
    found: dict[str, Path] = {}
    for file in files:
        if found.setdefault(file.stem, file) != file:
            raise ValueError(f"path={path!r} holds {found[file.stem].name} and {file.name}, two of one name; keep one")
    for name in tasks or ():
        if name not in found:
            raise ValueError(f"tasks={name!r} is not a file of {path}" + did_you_mean(name, found))
    if tasks and len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks={tasks} names one twice; keep each once")
    if len(found) < 2:
        number = f"{len(found)} file{'s' * (len(found) != 1)}"
        raise ValueError(f"path={path!r} holds {number} of {', '.join(READERS)}; give it two or more")
    return {name: found[name] for name in tasks or found}


def _mapping(path: str, file: Path, max_length: int | None, columns: list[str] | None) -> dict[str, str]:
    """The first y of each x."""
    try:
        pairs = read_pairs(file, columns)
    except ValueError as error:
        raise ValueError(f"path={path!r}: {error}") from None
    if not pairs:
        raise ValueError(f"path={path!r}: no pairs in {file.name}; add some, or remove it")
    mapping: dict[str, str] = {}
    fitting = [(x, y) for x, y in pairs if max_length is None or max(len(x), len(y)) <= max_length]
    for x, y in fitting:
        mapping.setdefault(x, y)
    if not mapping:
        enough = min(max(len(x), len(y)) for x, y in pairs)
        raise ValueError(f"max_length={max_length} leaves no pair of {file.name}; raise it to {enough} or more")
    if ambiguous := list(dict.fromkeys(x for x, y in fitting if mapping[x] != y)):
        LOG.warning(
            "%s gives several outputs to %d of its inputs, such as %r; the first is used (%r)",
            file.name, len(ambiguous), ambiguous[0], mapping[ambiguous[0]],
        )  # fmt: skip
    return mapping


def _first(mapping: dict[str, str], order: list[str], count: int | None) -> dict[str, str]:
    """The pairs of a task's first `count` inputs in an order, all for None."""
    return {x: mapping[x] for x in [x for x in order if x in mapping][:count]}
