"""Tasks named by regular expressions, the paper's kind.

in:  sizes and a seed
out: a TaskFamily, a pure function of its arguments: the same on every machine
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice, product
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from taskcluster.tasks.family import Holdout, Task, TaskFamily
from taskcluster.tasks.language import Drawer
from taskcluster.validation import Bounds, Fraction, Seed, validated

ATOMS = ("literal", "class", "alternation", "optional class", "repeated class")
ROOM = 8  # a random regex matches at least this many times the strings drawn from it, so few draws are rejected
MORE = "raise n_atoms, class_size or max_repeat, or lengthen alphabet"
ATTEMPTS = 1_000  # attempts at a large enough random regex before the settings count as impossible


@validated
def random_family(
    n_tasks: Annotated[int, Field(ge=2)],
    regexes_per_task: PositiveInt,
    instructions_per_task: PositiveInt,
    instructions_spread: NonNegativeInt,
    alphabet: Annotated[str, Field(min_length=2)],
    n_atoms: Bounds,
    class_size: Bounds,
    max_repeat: PositiveInt,
    n_inputs: PositiveInt,
    n_outputs: PositiveInt,
    n_mappings: PositiveInt,
    holdout: Holdout,
    val_fraction: Fraction,
    seed: Seed,
    shuffle_outputs: bool = False,
) -> TaskFamily:
    """Tasks with random regexes and random mappings.

    A regex has `n_atoms` atoms over the `alphabet`, each a literal, a class, an alternation, an optional class or a
    class repeated up to `max_repeat` times. A task has `instructions_per_task` instructions on average over tasks,
    exactly, and at most `instructions_spread` more or fewer. Every input is used by equally many tasks (give or take
    one), and some tasks that share it disagree about its output.

    Raises ValueError, naming the argument, where the sizes contradict each other.
    """
    symbols = sorted(set(alphabet))
    contradictions = {
        f"n_atoms={n_atoms} has its bounds in the wrong order; swap them": n_atoms[0] > n_atoms[1],
        f"class_size={class_size} has its bounds in the wrong order; swap them": class_size[0] > class_size[1],
        f"class_size={class_size} exceeds the {len(symbols)} symbols of the alphabet; lower it, or lengthen alphabet": (
            class_size[1] > len(symbols)
        ),
        f"n_mappings={n_mappings} exceeds n_inputs={n_inputs}; lower it, or raise n_inputs": n_mappings > n_inputs,
        f"n_inputs={n_inputs} is too many for {n_tasks} tasks of {n_mappings} mappings to share each with another; "
        f"use {n_tasks * n_mappings // 2} or fewer": n_tasks * n_mappings < 2 * n_inputs,
        f"n_outputs={n_outputs} means that no two tasks can disagree; use 2 or more": n_outputs < 2,
        f"instructions_spread={instructions_spread} leaves a task with fewer instructions than regexes; lower it, or "
        "raise instructions_per_task": instructions_per_task - instructions_spread < regexes_per_task,
    }
    if wrong := [sentence for sentence, holds in contradictions.items() if holds]:
        raise ValueError(wrong[0])
    rng = random.Random(f"{seed}/tasks")
    counts = _counts(n_tasks, instructions_per_task, instructions_spread, rng)
    room = ROOM * -(-(instructions_per_task + instructions_spread) // regexes_per_task)
    fresh = _random_regexes(symbols, n_atoms, class_size, max_repeat, room, rng)
    regexes = [list(islice(fresh, regexes_per_task)) for _ in range(n_tasks)]
    mappings = _mappings(n_tasks, n_inputs, n_outputs, n_mappings, rng)
    drawer = Drawer(list(chain.from_iterable(regexes)), rng, "lower instructions_per_task or n_tasks, or " + MORE)
    tasks = tuple(
        Task(task_id, tuple(named_by), drawer.instructions(named_by, count), mapping)
        for task_id, (named_by, mapping, count) in enumerate(zip(regexes, mappings, counts, strict=True))
    )
    return TaskFamily(tasks, holdout, val_fraction, seed, words=False, shuffle_outputs=shuffle_outputs)


def _random_regexes(
    symbols: list[str], n_atoms: list[int], class_size: list[int], max_repeat: int, room: int, rng: random.Random
) -> Iterator[str]:
    """Distinct regexes whose languages hold at least `room` strings, without end."""
    seen = set[str]()
    failures = 0
    while failures < ATTEMPTS:
        atoms = [_random_atom(symbols, class_size, max_repeat, rng) for _ in range(rng.randint(*n_atoms))]
        regex, failures = "".join(text for text, _ in atoms), failures + 1
        if regex not in seen and _n_strings([strings for _, strings in atoms], room) >= room:
            failures = 0
            seen.add(regex)
            yield regex
    raise ValueError(
        f"n_atoms={n_atoms} over this alphabet give {f'only {len(seen)} regexes' if seen else 'no regex'} with {room} "
        f"strings or more; lower instructions_per_task or n_tasks, or {MORE}"
    )


def _random_atom(
    symbols: list[str], class_size: list[int], max_repeat: int, rng: random.Random
) -> tuple[str, Iterable[str]]:

    def literals(low: int, high: int) -> str:
        return "".join(rng.choices(symbols, k=rng.randint(low, high)))

    kind = rng.choice(ATOMS)
    if kind == "literal":
        literal = literals(1, 1)
        return re.escape(literal), [literal]
    if kind == "alternation":
        one, other = literals(1, 2), literals(2, 2)
        return f"(?:{re.escape(one)}|{re.escape(other)})", [one, other]
    members = rng.sample(symbols, rng.randint(*class_size))
    text = "[" + "".join(sorted(map(re.escape, members))) + "]"
    if kind == "class":
        return text, members
    if kind == "optional class":
        return text + "?", ["", *members]
    repeated = chain.from_iterable(product(members, repeat=times) for times in range(1, max_repeat + 1))
    return f"{text}{{1,{max_repeat}}}", map("".join, repeated)


def _n_strings(atoms: Iterable[Iterable[str]], most: int) -> int:
    """How many strings a regex matches, counted up to `most`: those of its atoms, joined. The empty one is left out."""
    language = {""}
    for strings in atoms:
        endings, joined = list(islice(strings, most + 1)), set[str]()
        for beginning in language:
            joined.update(beginning + ending for ending in endings)
            if len(joined) > most:
                break
        language = joined
    return len(language - {""})


def _counts(n_tasks: int, mean: int, spread: int, rng: random.Random) -> list[int]:
    """Instructions of each task: mean +- spread, in pairs as far above the mean as below it."""
    offsets = [rng.randint(0, spread) for _ in range(n_tasks // 2)]
    counts = [mean + o for o in offsets] + [mean - o for o in offsets] + [mean] * (n_tasks % 2)
    rng.shuffle(counts)
    return counts


def _mappings(n_tasks: int, n_inputs: int, n_outputs: int, n_mappings: int, rng: random.Random) -> list[dict[str, str]]:
    """One function a task: every input dealt equally often, and for every input tasks that disagree."""
    used: list[list[int]] = []
    deals = Counter[int]()
    for _ in range(n_tasks):
        fewest_first = sorted(range(n_inputs), key=lambda x: (deals[x], rng.random()))
        used.append(sorted(fewest_first[:n_mappings]))
        deals.update(used[-1])
    outputs: list[list[int]] = []
    for x in range(n_inputs):
        drawn = [rng.randrange(n_outputs) for _ in range(deals[x])]
        if len(set(drawn)) == 1:
            drawn[0] = (drawn[0] + rng.randrange(1, n_outputs)) % n_outputs
        outputs.append(drawn)
    return [{f"x{x}": f"y{outputs[x].pop()}" for x in inputs} for inputs in used]
