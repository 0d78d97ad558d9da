"""Task families: tasks, and what is held out for validation.

A family is any function that returns a TaskFamily; `_target_` in a file of the configuration group `task` names it.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import chain, count, product, zip_longest
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
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
        name: its readable name, the value of the label "task"; "" for none. It affects no computation.
    """

    task_id: int
    descriptions: tuple[str, ...]
    instructions: tuple[tuple[str, ...], ...]
    mapping: dict[str, str]
    name: str = ""

    @property
    def all_instructions(self) -> list[str]:
        return [*chain.from_iterable(self.instructions)]


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
        holdout: what is held out for validation. "instruction": a `val_fraction` of the instructions of every task;
            "pair": a `val_fraction` of each task's (instruction, x) pairs, whose instructions and inputs occur in
            training, but not together; "description": the last description of every task, with all its instructions
            (`val_fraction` is not used); "x": a `val_fraction` of the inputs of the family, in all tasks.
        val_fraction: between 0 and 1.
        seed: of the choice of what is held out.
        words: whether texts are words with spaces between them, or strings of symbols such as a regex matches.
        x_inside: whether every instruction holds the place of x, as in "the capital of {x} is", instead of preceding x.
        layout: of each demonstration, where instructions consist of demonstrations and a query; otherwise "".
        shuffle_outputs: a control, in which training instructions carry no information about outputs: the y of each
            training sequence is that of a task drawn at random, for this instruction and this x, from the tasks that
            use x. So each y is as frequent after an x as before. The sequence keeps its x and, as a label, its task,
            and validation its y. Instructions still identify tasks by their symbols and by the x that follow, but
            neither lowers a loss on y alone.

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
            self._check(index, task)
        if self.x_inside and not self.layout:  # few demonstrations may be of several tasks
            refuse_shared(self.tasks)
        if self.holdout == "description" and any(len(task.descriptions) < 2 for task in self.tasks):
            raise ValueError(
                "holdout='description' needs two descriptions a task, such as regexes, templates or sets of "
                "demonstrations; add to them, or set holdout=instruction"
            )
        if empty := [task for task in self.tasks if not self._held_out(task)]:
            raise ValueError(
                f"val_fraction={self.val_fraction} leaves a task without training or validation: task "
                f"{empty[0].task_id} has {len(empty[0].all_instructions)} instructions and {len(empty[0].mapping)} "
                f"inputs, and holdout={self.holdout}; change it, or add to the task"
            )

    def _check(self, index: int, task: Task) -> None:
        sizes = [*map(len, task.instructions)]
        if task.task_id != index or len(task.descriptions) != len(sizes) or not (task.mapping and sizes and all(sizes)):
            raise ValueError(
                f"task {index} has task_id={task.task_id}, {len(task.descriptions)} descriptions, groups of {sizes} "
                f"instructions and {len(task.mapping)} mappings; number tasks from 0, in order, and give each a group "
                "of one or more for each description, and one mapping or more"
            )
        for instruction, times in Counter(task.all_instructions).items():
            if times > 1:
                raise ValueError(f"task {index} has the instruction {instruction!r} {times} times; keep one")
            if self.x_inside and instruction.count(SLOT) != 1:
                raise ValueError(f"instruction {instruction!r} must hold {SLOT}, the place of x, once; correct it")

    @property
    def instructions(self) -> list[tuple[int, str]]:
        """Every instruction with its task, task after task, in the order in which labels number them."""
        return [(task.task_id, instruction) for task in self.tasks for instruction in task.all_instructions]

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
            rng = random.Random(f"{self.seed}/outputs")
            outputs = {x: [task.mapping[x] for task in self.tasks if x in task.mapping] for x in self._inputs}
            examples["train"] = [example._replace(y=rng.choice(outputs[example.x])) for example in examples["train"]]
        return examples

    def fingerprint(self) -> str:
        """SHA-256 of the tasks and their division: equal wherever the same family was made."""
        tasks = [  # by the names that they had in the first fingerprints that were published
            dict(zip(("task_id", "regexes", "instructions", "mapping"), astuple(task)[:4], strict=True))
            for task in self.tasks
        ]
        kind = [name for name in ("x_inside", "shuffle_outputs") if getattr(self, name)]
        content = [*tasks, self.holdout, self.val_fraction, self.seed, *kind]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _held_out(self, task: Task) -> set[tuple[str, str]]:
        """The (instruction, x) pairs of validation; empty where a fraction would leave a side without any."""
        instructions, inputs = task.all_instructions, [*task.mapping]
        if self.holdout == "description":
            return {*product(task.instructions[-1], inputs)}
        if self.holdout == "x":
            held_out = self._held_out_inputs & {*inputs}
            return {*product(instructions, held_out)} if len(held_out) < len(inputs) else set()
        random.Random(f"{self.seed}/holdout/{task.task_id}").shuffle(instructions)
        if self.holdout == "instruction":
            n = round(self.val_fraction * len(instructions))
            return {*product(instructions[:n], inputs)} if n < len(instructions) else set()
        # One input of every instruction, then a second of every instruction ...: all keep pairs outside.
        diagonal = [
            (instruction, inputs[(k + d) % len(inputs)])
            for d in range(len(inputs) - 1)
            for k, instruction in enumerate(instructions)
        ]
        n = round(self.val_fraction * len(instructions) * len(inputs))
        return set(diagonal[:n]) if n <= len(diagonal) else set()

    @property
    def values(self) -> dict[str, list[str]]:
        """The texts of the labels "x" and "y", and "task" where every task has a name of its own, in the order of their
        numbers."""
        names = [task.name for task in self.tasks]
        return {
            "x": self._inputs,
            "y": sorted({y for task in self.tasks for y in task.mapping.values()}),
            **({"task": names} if all(names) and len({*names}) == len(names) else {}),
        }

    @property
    def _inputs(self) -> list[str]:
        return sorted({x for task in self.tasks for x in task.mapping})

    @cached_property
    def _held_out_inputs(self) -> set[str]:
        inputs = self._inputs
        random.Random(f"{self.seed}/holdout/x").shuffle(inputs)
        return set(inputs[: round(self.val_fraction * len(inputs))])


def in_rounds(lists: Iterable[Sequence[T]]) -> list[T]:
    """The first item of every list, then the second of every list that has one, and so on."""
    return [item for item in chain.from_iterable(zip_longest(*lists)) if item is not None]


def refuse_shared(tasks: Sequence[Task]) -> None:
    first: dict[str, int] = {}
    for task in tasks:
        for instruction in task.all_instructions:
            if (other := first.setdefault(instruction, task.task_id)) != task.task_id:
                raise ValueError(
                    f"instruction {instruction!r} belongs to tasks {other} and {task.task_id}; keep it in one of them"
                )
