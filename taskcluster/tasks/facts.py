"""Tasks in words without files: relations such as capital or plural, over shared inputs.

in:  names of relations, and how they are specified to the model
out: a TaskFamily, a pure function of its arguments and of the versions of babel and countryinfo
"""

import random
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from taskcluster.tasks import countries, words
from taskcluster.tasks.family import Holdout, TaskFamily
from taskcluster.tasks.paraphrases import WORDINGS
from taskcluster.tasks.prompting import Describe, Prompting, Templates
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
    n_demonstrations: NonNegativeInt,
    n_sets: PositiveInt,
    n_pool: PositiveInt,
    layout: str,
    holdout: Holdout,
    val_fraction: Fraction,
    seed: Seed,
    shuffle_outputs: bool = False,
    disjoint_demonstrations: bool = False,
    shuffle_labels: bool = False,
    order_seed: Seed | None = None,
) -> TaskFamily:
    """A task for each relation. Those of countries share the `n_inputs` most populous that have a value for each, those
    of words the first words. With demonstrations, `n_pool` further inputs of each kind are shown and never queried.

    Raises ValueError, naming the argument, for what is not there or too much.
    """
    if unknown := [relation for relation in relations if relation not in RELATIONS]:
        hint = did_you_mean(unknown[0], RELATIONS) or f"; choose from {', '.join(RELATIONS)}"
        raise ValueError(f"relations={unknown[0]!r} is not a relation{hint}")
    sets = (n_demonstrations, n_sets, n_pool, layout, seed, disjoint_demonstrations, shuffle_labels, order_seed)
    prompting = Prompting(describe, templates, n_instructions, *sets)
    queried, shown = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
    for kind, source in SOURCES.items():
        chosen = [relation for relation in relations if relation in source.RELATIONS]
        if not chosen:
            continue
        known = source.facts(chosen)
        if n_inputs + prompting.n_shown > len(known):
            raise ValueError(
                f"n_inputs={n_inputs} and n_pool={prompting.n_shown} inputs to demonstrate exceed the {len(known)} "
                f"{kind} that have all of these relations; lower one of them"
            )
        inputs = list(known)[: n_inputs + prompting.n_shown]
        pool = {*random.Random(f"{seed}/pool").sample(inputs, prompting.n_shown)}
        for relation in chosen:
            queried[relation] = {x: known[x][relation] for x in inputs if x not in pool}
            shown[relation] = {x: known[x][relation] for x in inputs if x in pool}
    queried = {relation: queried[relation] for relation in relations}  # in their order
    return prompting.family(queried, shown, WORDINGS, holdout, val_fraction, shuffle_outputs)
