"""Tasks that a user writes in the configuration.

in:  for each task the regexes that name it, or its instructions one by one, and its mapping {x: y}
out: a TaskFamily, a pure function of its arguments
"""

import random
from typing import Annotated

from pydantic import BaseModel, Field, PositiveInt, StringConstraints, model_validator

from taskcluster.tasks.family import Holdout, Task, TaskFamily, refuse_shared
from taskcluster.tasks.language import Drawer
from taskcluster.validation import Fraction, Seed, validated

LISTED = "listed"  # the description of instructions that were not drawn from anything


class TaskSpec(BaseModel, strict=True, extra="forbid"):
    """A task as a user writes it: its regexes or its instructions, f as {x: y}, and what it is called."""

    name: str = ""
    regexes: Annotated[list[str], Field(min_length=1)] | None = None
    instructions: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)] | None = None
    mapping: Annotated[dict[str, str], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_named_in_one_way(self) -> "TaskSpec":
        if (self.regexes is None) == (self.instructions is None):
            raise ValueError("a task is named by regexes or by instructions; give one of the two")
        return self


@validated
def custom_family(
    tasks: Annotated[list[TaskSpec], Field(min_length=2)],
    instructions_per_task: PositiveInt,
    holdout: Holdout,
    val_fraction: Fraction,
    seed: Seed,
    shuffle_outputs: bool = False,
) -> TaskFamily:
    """Tasks with `instructions_per_task` instructions drawn from their regexes, or with the instructions they list.

    Texts are strings of symbols where all tasks have regexes, and words where one lists its instructions.
    Raises ValueError, naming the regex or the instruction, for a regex that is invalid, given twice or of too small a
    language, for an instruction that belongs to two tasks, and for more regexes of a task than instructions.
    """
    regexes = [regex for task in tasks for regex in task.regexes or ()]
    if repeated := [regex for regex in regexes if regexes.count(regex) > 1]:
        raise ValueError(
            f"regex {repeated[0]!r} is given {regexes.count(repeated[0])} times; keep it in one task, once"
        )
    drawer = Drawer(
        regexes,
        random.Random(f"{seed}/tasks"),
        remedy="widen it, let it overlap less with the others, or lower instructions_per_task",
    )
    made = tuple(
        Task(
            task_id,
            tuple(task.regexes),
            drawer.instructions(task.regexes, instructions_per_task),
            task.mapping,
            task.name,
        )
        if task.regexes
        else Task(task_id, (LISTED,), (tuple(task.instructions or ()),), task.mapping, task.name)
        for task_id, task in enumerate(tasks)
    )
    refuse_shared(made)
    return TaskFamily(
        made,
        holdout,
        val_fraction,
        seed,
        words=any(task.instructions for task in tasks),
        shuffle_outputs=shuffle_outputs,
    )
