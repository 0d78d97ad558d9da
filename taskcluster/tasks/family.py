"""Task families: what a task is, and what validation has never seen of it.

A family is any function that returns a TaskFamily; `_target_` in a file of the configuration group `task` names it.
"""

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import count, product
from typing import Literal, NamedTuple

Holdout = Literal["instruction", "pair", "description", "x"]

SLOT = "{x}"  # the place of x in an instruction that holds it


@dataclass(frozen=True)
class Task:
    """One task: the instructions that name it and the function f it applies.

    Instructions, x and y may be any text.

    Attributes:
        task_id: its index in the family.
        descriptions: what instructions were drawn from, as text: regexes, templates, sets of demonstrations.
        instructions: a group for each description; no instruction occurs twice in a task.
        mapping: f as {x: y}.
        name: what people call it, "" for none. Nothing depends on it.
    """

    task_id: int
    descriptions: tuple[str, ...]
    instructions: tuple[tuple[str, ...], ...]
    mapping: dict[str, str]
    name: str = ""


class Example(NamedTuple):
    """One sequence `[I ; x ; y]`, the task that it belongs to, and the description that I was drawn from.

    description: its index in the family, whose descriptions are counted task after task.
    """

    task_id: int
    instruction: str
    x: str
    y: str
    description: int


@dataclass(frozen=True)
class TaskFamily:
    """The tasks of one experiment and the rule that divides their sequences into train and validation.

    Attributes:
        tasks: two or more, numbered from 0.
        holdout: what validation has never seen. "instruction": a `val_fraction` of the instructions of every task;
            "pair": a `val_fraction` of each task's (instruction, x) pairs, whose instructions and inputs are seen
            apart; "description": the last description of every task, with all its instructions (`val_fraction` is not
            used); "x": a `val_fraction` of the inputs of the family, in all tasks.
        val_fraction: between 0 and 1.
        seed: of the choice of what is held out.
        words: whether texts are words with spaces between them, or strings of symbols such as a regex matches.
        x_inside: whether every instruction holds the place of x, as in "the capital of {x} is", instead of preceding x.
        layout: of each demonstration, where instructions consist of demonstrations and a query; otherwise "".
        shuffle_outputs: whether instructions of training say nothing about outputs, as a control: the y of each
            training sequence is that of a task drawn at random, for this instruction and this x, from the tasks that
            use x. So each y is as frequent after an x as before. The sequence keeps its x and, as a label, its task,
            and validation its y. What instructions still tell of their tasks are their own symbols and which x follow:
            a loss on y alone has no use for either.

    Raises:
        ValueError: tasks are not as `Task` says, or the holdout leaves a task without training or validation.
    """

    tasks: tuple[Task, ...]
    holdout: Holdout
    val_fraction: float
    seed: int
    words: bool = True
    x_inside: bool = False
    layout: str = ""
    shuffle_outputs: bool = False

    def __post_init__(self) -> None:
        if len(self.tasks) < 2:
            raise ValueError(f"a family needs two or more tasks, and this one has {len(self.tasks)}")
        for index, task in enumerate(self.tasks):
            _check(index, task)
        if self.x_inside:
            _check_slots(self.tasks)
        if self.holdout == "description" and any(len(task.descriptions) < 2 for task in self.tasks):
            raise ValueError(
                "holdout='description' needs two descriptions a task, such as regexes, templates or sets of "
                "demonstrations; add to them, or set holdout=instruction"
            )
        for task in self.tasks:
            if not self._held_out(task):
                raise ValueError(
                    f"val_fraction={self.val_fraction} leaves a task without training or validation: task "
                    f"{task.task_id} has {sum(map(len, task.instructions))} instructions and {len(task.mapping)} "
                    f"inputs, and holdout={self.holdout}; change it, or add to the task"
                )

    @property
    def instructions(self) -> list[tuple[int, str]]:
        """Every instruction with its task, task after task, in the order in which labels number them."""
        return [(task.task_id, i) for task in self.tasks for group in task.instructions for i in group]

    @property
    def has_kinds_of_instructions(self) -> bool:
        """Whether some task has several descriptions, from which several instructions were drawn."""
        return any(len(task.instructions) > 1 and max(map(len, task.instructions)) > 1 for task in self.tasks)

    def parts(self, instruction: str) -> list[str]:
        """The words of an instruction, or its symbols; without the place of x."""
        text = instruction.replace(SLOT, " ") if self.x_inside else instruction
        return text.split() if self.words else [*text]

    def split(self) -> dict[str, list[Example]]:
        """All examples as {"train": [...], "val": [...]}, ordered by task, instruction and x."""
        examples: dict[str, list[Example]] = {"train": [], "val": []}
        description = count()
        for task in self.tasks:
            held_out = self._held_out(task)
            for group, number in zip(task.instructions, description, strict=False):
                for instruction, (x, y) in product(group, task.mapping.items()):
                    split = "val" if (instruction, x) in held_out else "train"
                    examples[split].append(Example(task.task_id, instruction, x, y, number))
        if self.shuffle_outputs:
            examples["train"] = self._with_shuffled_outputs(examples["train"])
        return examples

    def fingerprint(self) -> str:
        """SHA-256 of the tasks and their division: equal wherever the same family was made."""
        tasks = [
            {
                "task_id": task.task_id,
                "regexes": task.descriptions,  # as they were called when the first fingerprints were published
                "instructions": task.instructions,
                "mapping": task.mapping,
            }
            for task in self.tasks
        ]
        kind = [name for name in ("x_inside", "shuffle_outputs") if getattr(self, name)]
        content = json.dumps([*tasks, self.holdout, self.val_fraction, self.seed, *kind], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def _with_shuffled_outputs(self, examples: list[Example]) -> list[Example]:
        outputs: dict[str, list[str]] = {}
        for task in self.tasks:
            for x, y in task.mapping.items():
                outputs.setdefault(x, []).append(y)
        rng = random.Random(f"{self.seed}/outputs")
        return [example._replace(y=rng.choice(outputs[example.x])) for example in examples]

    def _held_out(self, task: Task) -> set[tuple[str, str]]:
        """The (instruction, x) pairs of validation; empty where a fraction would leave a side without any."""
        rng = random.Random(f"{self.seed}/holdout/{task.task_id}")
        instructions = [i for group in task.instructions for i in group]
        inputs = list(task.mapping)
        if self.holdout == "description":
            return {(i, x) for i in task.instructions[-1] for x in inputs}
        if self.holdout == "x":
            unseen = self._inputs_held_out & {*inputs}
            return {(i, x) for i in instructions for x in unseen} if len(unseen) < len(inputs) else set()
        rng.shuffle(instructions)
        if self.holdout == "instruction":
            n = round(self.val_fraction * len(instructions))
            return {(i, x) for i in instructions[:n] for x in inputs} if n < len(instructions) else set()
        # One input of every instruction, then a second of every instruction ...: all keep pairs outside.
        rounds = range(len(inputs) - 1)
        diagonal = [(i, inputs[(k + d) % len(inputs)]) for d in rounds for k, i in enumerate(instructions)]
        n = round(self.val_fraction * len(instructions) * len(inputs))
        return set(diagonal[:n]) if n <= len(diagonal) else set()

    @cached_property
    def _inputs_held_out(self) -> set[str]:
        """The same for all tasks."""
        inputs = sorted({x for task in self.tasks for x in task.mapping})
        random.Random(f"{self.seed}/holdout/x").shuffle(inputs)
        return set(inputs[: round(self.val_fraction * len(inputs))])


def _check(index: int, task: Task) -> None:
    if task.task_id != index:
        raise ValueError(f"task {index} of the family has task_id={task.task_id}; number tasks from 0, in order")
    if (
        len(task.descriptions) != len(task.instructions)
        or not task.mapping
        or not task.instructions
        or not all(task.instructions)
    ):
        raise ValueError(
            f"task {index} has {len(task.descriptions)} descriptions, groups of "
            f"{[*map(len, task.instructions)]} instructions and {len(task.mapping)} mappings; give it a group of one "
            "or more for each description, and one mapping or more"
        )
    instruction, times = Counter(i for group in task.instructions for i in group).most_common(1)[0]
    if times > 1:
        raise ValueError(f"task {index} has the instruction {instruction!r} {times} times; keep one")


def _check_slots(tasks: tuple[Task, ...]) -> None:
    """Raise ValueError for an instruction without one {x}, and for one that belongs to two tasks."""
    for instruction in (i for task in tasks for group in task.instructions for i in group):
        if instruction.count(SLOT) != 1:
            raise ValueError(f"instruction {instruction!r} must hold {SLOT}, the place of x, once; correct it")
    refuse_shared(tasks)


def refuse_shared(tasks: tuple[Task, ...]) -> None:
    """Raise ValueError for an instruction that belongs to two tasks."""
    first: dict[str, int] = {}
    for task in tasks:
        for instruction in (i for group in task.instructions for i in group):
            if (other := first.setdefault(instruction, task.task_id)) != task.task_id:
                raise ValueError(
                    f"instruction {instruction!r} belongs to tasks {other} and {task.task_id}; keep it in one of them"
                )
