"""Task families: what a task is, whatever it was made from, and what validation has never seen of it."""

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

Holdout = Literal["instruction", "pair", "regex"]


@dataclass(frozen=True)
class Task:
    """One task: the instructions that name it and the function f it applies.

    `instructions` are grouped by the regex that they were drawn from; no instruction stands in two groups of a family
    or belongs to the language of another of its regexes. `mapping` is f as {x: y}.
    """

    task_id: int
    regexes: tuple[str, ...]
    instructions: tuple[tuple[str, ...], ...]
    mapping: dict[str, str]


class Example(NamedTuple):
    """One sequence `[I ; x ; y]` and the task that it belongs to."""

    task_id: int
    instruction: str
    x: str
    y: str


@dataclass(frozen=True)
class TaskFamily:
    """The tasks of one experiment and the rule that divides their sequences into train and validation.

    holdout: what validation has never seen.
        "instruction": a `val_fraction` of the instructions of every task;
        "pair": a `val_fraction` of each task's (instruction, x) pairs, their instructions and inputs seen apart;
        "regex": the last regex of every task, with all its instructions (`val_fraction` plays no part).
    """

    tasks: tuple[Task, ...]
    holdout: Holdout
    val_fraction: float
    seed: int

    def __post_init__(self) -> None:
        if self.holdout == "regex" and any(len(task.regexes) < 2 for task in self.tasks):
            raise ValueError(
                "holdout='regex' needs two regexes a task; raise regexes_per_task, or hold out instructions"
            )
        if self.holdout == "pair" and any(len(task.mapping) < 2 for task in self.tasks):
            raise ValueError("holdout='pair' needs two mappings a task; raise n_mappings, or hold out instructions")
        if not all(self._held_out(task) for task in self.tasks):
            raise ValueError(
                f"val_fraction={self.val_fraction} leaves a task without validation or training; change it"
            )

    def split(self) -> dict[str, list[Example]]:
        """All examples as {"train": [...], "val": [...]}, ordered by task, instruction and x."""
        examples: dict[str, list[Example]] = {"train": [], "val": []}
        for task in self.tasks:
            held_out = self._held_out(task)
            for instruction in (i for group in task.instructions for i in group):
                for x, y in task.mapping.items():
                    split = "val" if (instruction, x) in held_out else "train"
                    examples[split].append(Example(task.task_id, instruction, x, y))
        return examples

    def fingerprint(self) -> str:
        """SHA-256 of the tasks and their division: equal wherever the same family was made."""
        content = json.dumps([*map(asdict, self.tasks), self.holdout, self.val_fraction, self.seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def _held_out(self, task: Task) -> set[tuple[str, str]]:
        """The (instruction, x) pairs of validation; empty where a fraction would leave a side without any."""
        rng = random.Random(f"{self.seed}/holdout/{task.task_id}")
        instructions = [i for group in task.instructions for i in group]
        inputs = list(task.mapping)
        if self.holdout == "regex":
            return {(i, x) for i in task.instructions[-1] for x in inputs}
        rng.shuffle(instructions)
        if self.holdout == "instruction":
            n = round(self.val_fraction * len(instructions))
            return {(i, x) for i in instructions[:n] for x in inputs} if n < len(instructions) else set()
        # One input of every instruction, then a second of every instruction ...: all keep pairs outside.
        rounds = range(len(inputs) - 1)
        diagonal = [(i, inputs[(k + d) % len(inputs)]) for d in rounds for k, i in enumerate(instructions)]
        n = round(self.val_fraction * len(instructions) * len(inputs))
        return set(diagonal[:n]) if n <= len(diagonal) else set()
