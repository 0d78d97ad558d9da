"""Tasks in words that need no files: relations such as capital or plural, over inputs that they share.

in:  names of relations, and how they are told to the model
out: a TaskFamily, a pure function of its arguments and of the versions of babel and countryinfo
"""

import random
from typing import Annotated

from pydantic import Field, PositiveInt

from taskcluster.tasks import countries, words
from taskcluster.tasks.describing import Describe, Description, Templates
from taskcluster.tasks.family import Holdout, TaskFamily
from taskcluster.tasks.paraphrases import WORDINGS
from taskcluster.validation import Fraction, Seed, did_you_mean, validated

SOURCES = {"countries": countries, "words": words}
RELATIONS = [*countries.RELATIONS, *words.RELATIONS]


@validated
def facts_family(
    relations: Annotated[list[str], Field(min_length=2)],
    n_inputs: PositiveInt,
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
    """A task for each relation. Those of countries share the `n_inputs` most populous that have a value for each, those
    of words the first words. With demonstrations, `n_pool` further inputs of each kind are shown and never queried.

    Raises ValueError, naming the argument, for what is not there or too much.
    """
    for relation in relations:
        if relation not in RELATIONS:
            hint = did_you_mean(relation, RELATIONS) or f"; choose from {', '.join(RELATIONS)}"
            raise ValueError(f"relations={relation!r} is not a relation{hint}")
    if len(set(relations)) < len(relations):
        raise ValueError(f"relations={relations} names one twice; keep each once")
    sets = (n_demonstrations, n_sets, n_pool, layout, seed, disjoint_demonstrations)
    description = Description(describe, templates, n_instructions, *sets)
    queried, shown = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
    for kind, source in SOURCES.items():
        chosen = [relation for relation in relations if relation in source.RELATIONS]
        if not chosen:
            continue
        known = source.facts(chosen)
        size = n_inputs + description.n_shown
        if description.n_shown >= len(known):
            raise ValueError(
                f"n_pool={n_pool} leaves none of the {len(known)} {kind} that have all of these relations to ask "
                "about; lower it"
            )
        if size > len(known):
            asked = f" and are not demonstrated (n_pool={n_pool})" if description.n_shown else ""
            most = len(known) - description.n_shown
            raise ValueError(
                f"n_inputs={n_inputs} exceeds the {most} {kind} that have all of these relations{asked}; "
                f"lower it to {most} or below"
            )
        inputs = list(known)[:size]
        pool = {*random.Random(f"{seed}/pool").sample(inputs, description.n_shown)}
        for relation in chosen:
            queried[relation] = {x: known[x][relation] for x in inputs if x not in pool}
            shown[relation] = {x: known[x][relation] for x in inputs if x in pool}
    in_order = {relation: queried[relation] for relation in relations}
    tasks = description.tasks(in_order, shown, WORDINGS)
    return TaskFamily(
        tasks,
        holdout,
        val_fraction,
        seed,
        words=True,
        x_inside=True,
        layout=description.layout_shown,
        shuffle_outputs=shuffle_outputs,
    )
