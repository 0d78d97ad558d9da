"""How tasks in words are specified to a model: by paraphrased instructions, or by few-shot demonstrations.

in:  for each task its name and {x: y}, and a Prompting: the settings that the families facts and pairs share
out: a TaskFamily whose instructions hold the place of x
"""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Literal

from taskcluster.tasks.family import SLOT, Holdout, Task, TaskFamily, in_rounds
from taskcluster.tasks.paraphrases import Groups, Wording, paraphrases
from taskcluster.validation import did_you_mean

Describe = Literal["instruction", "demonstrations"]
Templates = dict[str, list[str]]

MARK = "\0"  # the place of a field


def fixed_texts(template: str, fields: Sequence[str], refusal: str) -> list[str]:
    """The texts before, between and after the `fields` of a template, which holds each once and in this order.

    Braces of the text itself are doubled. Raises ValueError with the sentence `refusal` for any other template.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        parts = []
    formatted = any(form or conversion for _, _, form, conversion in parts)
    if formatted or [name for _, name, _, _ in parts if name is not None] != [*fields]:
        raise ValueError(refusal)
    return "".join(literal + MARK * (name is not None) for literal, name, _, _ in parts).split(MARK)


class Layout:
    """How a pair is written: text before, between and after x and y. query: a pair without y and the space before it.

    Raises ValueError for a text without x and y, in this order and with a space before y.
    """

    def __init__(self, text: str) -> None:
        refusal = f"layout={text!r} must hold {{x}} and then {{y}}, once each and with a space before {{y}}"
        fixed = fixed_texts(text, ("x", "y"), refusal)
        if not fixed[1].endswith(" "):
            raise ValueError(refusal)
        self._text, self.query = text, fixed[0] + SLOT + fixed[1][:-1]
        self._written = re.compile("(.*?)".join(map(re.escape, fixed)), re.DOTALL)

    def pair(self, x: str, y: str) -> str:
        return self._text.format(x=x, y=y)

    def labels(self, instruction: str) -> list[tuple[int, int]]:
        """The characters of an instruction that are the label y of each demonstration: first, and one past the last."""
        return [found.span(2) for found in self._written.finditer(instruction.removesuffix(self.query))]

    def shuffled(self, instruction: str, rng: random.Random) -> str:
        """The same demonstrations and query, with each y at another x where it is another y."""
        pairs = self._written.findall(instruction.removesuffix(self.query))
        xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
        order = rng.sample(range(len(ys)), len(ys))  # a cycle, which leaves no y where it was
        moved = {order[k - 1]: ys[order[k]] for k in range(len(order))}
        return "".join(self.pair(x, moved[k]) for k, x in enumerate(xs)) + self.query


def demonstration_sets(
    shown: Mapping[str, str],
    size: int,
    count: int,
    layout: Layout,
    rng: random.Random,
    disjoint: bool = False,
    order_seed: int | None = None,
    shuffle_seed: int | None = None,
) -> Groups:
    """{demonstrations: the one instruction that ends with the query}: `count` different sets, each of `size` different
    pairs in an order of its own, or the query alone for a size of 0.

    disjoint: no pair is in two. order_seed: the same sets, each in another order. shuffle_seed: the same sets, with the
    labels of each permuted within it so that none stays at its x.

    Raises ValueError, naming an argument of the families, where there are too few pairs for that.
    """
    if size == 0:
        return {layout.query: (layout.query,)}
    possible = len(shown) // size if disjoint else math.perm(len(shown), size)
    if count > possible:
        raise ValueError(
            f"n_sets={count} exceeds the {possible} {'disjoint ' * disjoint}sets of n_demonstrations={size} that can "
            f"be drawn from {len(shown)} demonstration pairs; raise n_pool, or lower n_sets or n_demonstrations"
        )
    pairs, sets = list(shown.items()), dict[str, None]()
    if disjoint:
        rng.shuffle(pairs)
    while len(sets) < count:
        among = pairs[len(sets) * size : (len(sets) + 1) * size] if disjoint else pairs
        chosen = rng.sample(among, size)
        if order_seed is not None:  # equal pairs change places in one way, so that sets stay different
            chosen = random.Random(f"{order_seed}/order/{sorted(chosen)}").sample(chosen, size)
        demonstrated = "".join(layout.pair(x, y) for x, y in chosen)
        if shuffle_seed is not None:
            shuffling = random.Random(f"{shuffle_seed}/labels/{demonstrated}")
            demonstrated = layout.shuffled(demonstrated + layout.query, shuffling).removesuffix(layout.query)
        sets[demonstrated] = None
    return {demonstrated: (demonstrated + layout.query,) for demonstrated in sets}


@dataclass(frozen=True)
class Prompting:
    """describe: which of the two. templates: a user's instructions by task, each a description by itself.
    n_instructions: how many paraphrases a task has, None for all. n_demonstrations: pairs in a set, 0 for the query
    alone; n_sets: sets a task; n_pool: inputs for demonstrations only; layout: of a pair;
    disjoint: whether no two sets of a task have a pair in common; shuffle_labels: whether the labels of each set are
    permuted within it; order_seed: of the order of pairs in a set, None or `seed` for that in which they are drawn."""

    describe: Describe
    templates: Templates | None
    n_instructions: int | None
    n_demonstrations: int
    n_sets: int
    n_pool: int
    layout: str
    seed: int
    disjoint: bool
    shuffle_labels: bool
    order_seed: int | None

    @property
    def n_shown(self) -> int:
        """Inputs of a task that are demonstrated and not queried."""
        return self.n_pool if self.describe == "demonstrations" else 0

    def family(
        self,
        queried: Mapping[str, Mapping[str, str]],
        shown: Mapping[str, Mapping[str, str]],
        wordings: Mapping[str, Wording],
        holdout: Holdout,
        val_fraction: float,
        shuffle_outputs: bool,
    ) -> TaskFamily:
        """Return a task for each name. queried, shown: {name: {x: y}}, the pairs to query and those to demonstrate.
        With n_demonstrations=0 no sets can be held out, so inputs are held out instead.

        Raises ValueError, naming the key at fault, for templates and numbers that cannot be used.
        """
        templates = self.templates or {}
        if templates and self.describe == "demonstrations":
            raise ValueError("describe='demonstrations' does not use templates; leave out one of them")
        if unknown := sorted(templates.keys() - queried.keys()):
            hint = did_you_mean(unknown[0], queried) or f"; choose from {', '.join(queried)}"
            raise ValueError(f"templates={unknown[0]!r} is not the name of a task{hint}")
        tasks = []
        for task_id, (name, mapping) in enumerate(queried.items()):
            if self.describe == "demonstrations":
                groups = self._demonstrations(name, shown[name])
            elif name in templates:
                groups = {template: (template,) for template in templates[name]}
            else:
                groups = self._paraphrases(name, wordings[name])
            tasks.append(Task(task_id, tuple(groups), tuple(groups.values()), dict(mapping), name))
        layout = self.layout if self.describe == "demonstrations" else ""
        if layout and not self.n_demonstrations and holdout in ("instruction", "description"):
            holdout = "x"
        return TaskFamily(
            tuple(tasks), holdout, val_fraction, self.seed, x_inside=True, layout=layout,
            shuffle_outputs=shuffle_outputs,
        )  # fmt: skip

    def _demonstrations(self, name: str, shown: Mapping[str, str]) -> Groups:
        rng = random.Random(f"{self.seed}/demonstrations/{name}")
        return demonstration_sets(
            shown, self.n_demonstrations, self.n_sets, Layout(self.layout), rng, self.disjoint,
            order_seed=None if self.order_seed == self.seed else self.order_seed,
            shuffle_seed=self.seed if self.shuffle_labels else None,
        )  # fmt: skip

    def _paraphrases(self, name: str, wording: Wording) -> Groups:
        """All of them, or as many of each structure, give or take one, as make n_instructions together."""
        groups = paraphrases(wording)
        count = sum(map(len, groups.values()))
        wanted = count if self.n_instructions is None else self.n_instructions
        if not len(groups) <= wanted <= count:
            raise ValueError(
                f"n_instructions={wanted} is not between {len(groups)} and {count}, the number of paraphrases of "
                f"{name}; change it"
            )
        rng = random.Random(f"{self.seed}/instructions/{name}")
        chosen = set(in_rounds([rng.sample(group, len(group)) for group in groups.values()])[:wanted])
        return {structure: tuple(i for i in group if i in chosen) for structure, group in groups.items()}
