"""How tasks in words are told to a model: by instructions that paraphrase each other, or by demonstrations.

in:  for each task its name and {x: y}, and a Description: what the families facts and pairs have in common
out: Tasks whose instructions hold the place of x
"""

import random
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Literal, NamedTuple

from taskcluster.tasks.demonstrations import Layout, demonstration_sets
from taskcluster.tasks.family import SLOT, Task
from taskcluster.tasks.paraphrases import Groups, Wording, paraphrases
from taskcluster.validation import did_you_mean

Describe = Literal["instruction", "demonstrations"]
Templates = dict[str, list[str]]


class Description(NamedTuple):
    """describe: which of the two. templates: a user's own instructions by task, each a description by itself.
    n_instructions: how many paraphrases a task has, None for all. n_demonstrations: pairs in a set; n_sets: sets a
    task; layout: of a pair; n_pool: inputs that sets are drawn from and nobody is asked about; disjoint: whether no two
    sets of a task have a pair in common."""

    describe: Describe
    templates: Templates | None
    n_instructions: int | None
    n_demonstrations: int
    n_sets: int
    n_pool: int
    layout: str
    seed: int
    disjoint: bool = False

    @property
    def n_shown(self) -> int:
        """Inputs of a task that are demonstrated and not queried."""
        return self.n_pool if self.describe == "demonstrations" else 0

    @property
    def layout_shown(self) -> str:
        """Of the demonstrations in instructions, "" where there are none."""
        return self.layout if self.describe == "demonstrations" else ""

    def tasks(
        self,
        queried: Mapping[str, Mapping[str, str]],
        shown: Mapping[str, Mapping[str, str]],
        wordings: Mapping[str, Wording],
    ) -> tuple[Task, ...]:
        """A task for each name. queried, shown: {name: {x: y}}, the pairs to ask about and those to demonstrate.

        Raises ValueError, naming the key at fault, for templates and numbers that cannot be used.
        """
        own = self.templates or {}
        if own and self.describe == "demonstrations":
            used = "describe='demonstrations' does not use templates"
            raise ValueError(f"{used} (of {', '.join(own)}); leave them out, or set describe=instruction")
        for unknown in sorted(own.keys() - queried.keys()):
            hint = did_you_mean(unknown, queried) or f"; choose from {', '.join(queried)}"
            raise ValueError(f"templates={unknown!r} is not the name of a task{hint}")
        made = []
        for task_id, (name, mapping) in enumerate(queried.items()):
            if self.describe == "demonstrations":
                groups = self._demonstrations(name, shown[name])
            elif name in own:
                groups = _templates(name, own[name])
            else:
                groups = self._paraphrases(name, wordings[name])
            made.append(Task(task_id, tuple(groups), tuple(groups.values()), dict(mapping), name))
        return tuple(made)

    def _demonstrations(self, name: str, shown: Mapping[str, str]) -> Groups:
        rng = random.Random(f"{self.seed}/demonstrations/{name}")
        return demonstration_sets(shown, self.n_demonstrations, self.n_sets, Layout(self.layout), rng, self.disjoint)

    def _paraphrases(self, name: str, wording: Wording) -> Groups:
        """All of them, or as many of each structure, give or take one, as make n_instructions together."""
        groups = paraphrases(wording)
        count = sum(map(len, groups.values()))
        wanted = count if self.n_instructions is None else self.n_instructions
        if not len(groups) <= wanted <= count:
            raise ValueError(
                f"n_instructions={wanted} is not from {len(groups)} to {count}, the paraphrases of {name}; change it"
            )
        rng = random.Random(f"{self.seed}/instructions/{name}")
        in_rounds = chain.from_iterable(zip_longest(*(rng.sample(group, len(group)) for group in groups.values())))
        chosen = {*[instruction for instruction in in_rounds if instruction is not None][:wanted]}
        return {structure: tuple(i for i in group if i in chosen) for structure, group in groups.items()}


def _templates(name: str, templates: Sequence[str]) -> Groups:
    for template in templates:
        if template.count(SLOT) != 1:
            raise ValueError(f"templates={template!r} of {name} must hold {SLOT}, the place of x, once; correct it")
    if not templates:
        raise ValueError(f"templates={[*templates]} of {name} has none; give one or more, or leave the task out")
    return {template: (template,) for template in templates}
