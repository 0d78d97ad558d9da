"""Tasks from a folder of files with pairs, one file a task, such as the function-vector data sets.

in:  the folder, which tasks and pairs of it, and how tasks are told to the model
out: a TaskFamily, a pure function of its arguments and of the files
"""

import random
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from taskcluster.tasks.describing import Describe, Description, Templates
from taskcluster.tasks.family import Holdout, TaskFamily
from taskcluster.tasks.files import READERS, read_pairs
from taskcluster.tasks.paraphrases import of_name
from taskcluster.validation import Fraction, Seed, did_you_mean, validated


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
    disjoint_demonstrations: bool = False,
) -> TaskFamily:
    """A task for each file, named as the file is without its ending.

    Of each, `n_pairs` pairs of at most `max_length` characters in x and in y, the first y of each x. Tasks choose from
    their inputs in one order, so that those with inputs in common keep them in common. With demonstrations, `n_pool`
    further inputs of each task are shown, and no task is asked about them.

    Raises ValueError, naming the argument, or the file and line, for what cannot be used.
    """
    if path is None:
        raise ValueError("path=None: give the folder that holds a file for each task")
    files = _files(path, tasks)
    sets = (n_demonstrations, n_sets, n_pool, layout, seed, disjoint_demonstrations)
    description = Description(describe, templates, n_instructions, *sets)
    mappings = {name: _mapping(path, file, max_length) for name, file in files.items()}
    inputs = sorted({x for mapping in mappings.values() for x in mapping})
    random.Random(f"{seed}/pairs").shuffle(inputs)
    shown = {name: _first(mapping, inputs, description.n_shown) for name, mapping in mappings.items()}
    pool = {x for mapping in shown.values() for x in mapping}
    to_ask = [x for x in inputs if x not in pool]
    queried = {name: _first(mapping, to_ask, n_pairs) for name, mapping in mappings.items()}
    for name, mapping in queried.items():
        if len(mapping) < (n_pairs or 1):
            key = f"n_pairs={n_pairs}" if n_pairs else f"n_pool={n_pool}"
            raise ValueError(f"{key} leaves task {name} with {len(mapping)} pairs to ask about; lower it")
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


def _files(path: str, tasks: list[str] | None) -> dict[str, Path]:
    """The file of every task, in the order of `tasks` or, without, of their names."""
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"path={path!r} is not a folder; give one that holds a file for each task")
    found: dict[str, Path] = {}
    for file in sorted(file for file in folder.iterdir() if file.suffix in READERS):
        if found.setdefault(file.stem, file) != file:
            raise ValueError(f"path={path!r} holds {found[file.stem].name} and {file.name}, two of one name; keep one")
    for name in tasks or ():
        if name not in found:
            raise ValueError(f"tasks={name!r} is not a file of {path}" + did_you_mean(name, found))
    if len(found) < 2:
        raise ValueError(f"path={path!r} holds {len(found)} files of {', '.join(READERS)}; give it two or more")
    return {name: found[name] for name in dict.fromkeys(tasks or found)}


def _mapping(path: str, file: Path, max_length: int | None) -> dict[str, str]:
    """The first y of each x."""
    try:
        pairs = read_pairs(file)
    except ValueError as error:
        raise ValueError(f"path={path!r}: {error}") from None
    mapping: dict[str, str] = {}
    for x, y in pairs:
        if max_length is None or max(len(x), len(y)) <= max_length:
            mapping.setdefault(x, y)
    if not mapping:
        reason = f"max_length={max_length} leaves no pair of" if pairs else f"path={path!r}: no pairs in"
        raise ValueError(f"{reason} {file.name}; change it")
    return mapping


def _first(mapping: dict[str, str], order: list[str], count: int | None) -> dict[str, str]:
    """The pairs of a task's first `count` inputs in an order, all for None."""
    return {x: mapping[x] for x in [x for x in order if x in mapping][:count]}
