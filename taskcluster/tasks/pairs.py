"""Tasks from a folder of files with pairs, one file a task, such as the function-vector data sets.

in:  the folder, which tasks and pairs of it, and how tasks are specified to the model
out: a TaskFamily, a pure function of its arguments and of the files
"""

import logging
import random
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from taskcluster.tasks.family import Holdout, TaskFamily
from taskcluster.tasks.pair_files import READERS, read_pairs
from taskcluster.tasks.paraphrases import wording_of_name
from taskcluster.tasks.prompting import Describe, Prompting, Templates
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
    sets = (n_demonstrations, n_sets, n_pool, layout, seed, disjoint_demonstrations)
    prompting = Prompting(describe, templates, n_instructions, *sets)
    mappings = {name: _mapping(path, file, max_length, columns) for name, file in _files(path, tasks).items()}
    inputs = sorted({x for mapping in mappings.values() for x in mapping})
    random.Random(f"{seed}/pairs").shuffle(inputs)
    shown = {name: _first(mapping, inputs, prompting.n_shown) for name, mapping in mappings.items()}
    pool = {x for mapping in shown.values() for x in mapping}
    to_ask = [x for x in inputs if x not in pool]
    queried = {name: _first(mapping, to_ask, n_pairs) for name, mapping in mappings.items()}
    for name, mapping in queried.items():
        if len(mapping) < (n_pairs or 1):
            raise ValueError(
                f"n_pairs={n_pairs} leaves task {name} with {len(mapping)} pairs to ask about, of "
                f"{len(mappings[name])} in its file, as n_pool={prompting.n_shown} inputs of each task are "
                "demonstrated instead; lower one of them, or raise max_length"
            )
    wordings = {name: wording_of_name(name) for name in mappings}
    return prompting.family(queried, shown, wordings, holdout, val_fraction, shuffle_outputs)


def _files(path: str, tasks: list[str] | None) -> dict[str, Path]:
    """The file of every task, in the order of `tasks` or, without, of their names."""
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"path={path!r} is not a folder; give one that holds a file for each task")
    files: dict[str, Path] = {}
    for file in sorted(file for file in folder.iterdir() if file.suffix.lower() in READERS):
        if (other := files.setdefault(file.stem, file)) != file:
            raise ValueError(f"path={path!r} holds {other.name} and {file.name}, two of one name; keep one")
    for name in tasks or ():
        if name not in files:
            raise ValueError(f"tasks={name!r} is not a file of {path}" + did_you_mean(name, files))
    if tasks and len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks={tasks} names one twice; keep each once")
    if len(files) < 2:
        raise ValueError(f"path={path!r} has {len(files)} files of {', '.join(READERS)}; give it two or more")
    return {name: files[name] for name in tasks or files}


def _mapping(path: str, file: Path, max_length: int | None, columns: list[str] | None) -> dict[str, str]:
    """The first y of each x."""
    try:
        pairs = read_pairs(file, columns)
    except ValueError as error:
        raise ValueError(f"path={path!r}: {error}") from None
    fitting = [(x, y) for x, y in pairs if max_length is None or max(len(x), len(y)) <= max_length]
    if not fitting:
        raise ValueError(f"path={path!r}: {file.name} has no pairs with max_length={max_length}; add some, or raise it")
    mapping: dict[str, str] = {}
    for x, y in fitting:
        mapping.setdefault(x, y)
    if ambiguous := list(dict.fromkeys(x for x, y in fitting if mapping[x] != y)):
        LOG.warning(
            "%s gives several outputs to %d of its inputs, such as %r; the first is used (%r)",
            file.name, len(ambiguous), ambiguous[0], mapping[ambiguous[0]],
        )  # fmt: skip
    return mapping


def _first(mapping: dict[str, str], order: list[str], count: int | None) -> dict[str, str]:
    """The pairs of a task's first `count` inputs in an order, all for None."""
    return {x: mapping[x] for x in [x for x in order if x in mapping][:count]}
