"""Numbers of instructions, of docs/results.md; facts, of docs/tasks.md."""

from collections.abc import Mapping

from sweeps.cells import by_layer, last, numbered

from taskcluster.results.cells import Table
from taskcluster.results.findings import Findings

LAST = {
    "accuracy": "accuracy",
    "ari": "ARI at the separator",
    "ari_within_x": "ARI within x",
    "effect_add_input": "causal effect at x",
    "effect_add_instruction_end": "at the separator",
}
FACTS = {
    "ari": "ARI before x",
    "ari_within_x": "ARI at x, within x",
    "ari_within_x_at_answer": "ARI where the answer begins, within x",
    "effect_add_input": "difference of tasks added at x",
    "effect_interchange_input": "a state of the other task at x",
    "effect_add_answer": "difference of tasks added where the answer begins",
    "effect_interchange_answer": "a state of the other task where the answer begins",
}


def instructions(found: Findings) -> Mapping[str, Table]:
    rows = [
        [
            str(c.settings["task.instructions_per_task"]),
            last(found, c, "accuracy", "train"),
            *(last(found, c, key) for key in LAST),
        ]
        for c in sorted(found.conditions, key=lambda c: int(c.settings["task.instructions_per_task"]))
    ]
    return {"n_instructions": Table("", ["instructions a task", "accuracy, training", *LAST.values()], rows)}


def facts(found: Findings) -> Mapping[str, Table]:
    (condition,) = found.conditions
    rows = [[words, *by_layer(found, condition, key)] for key, words in FACTS.items()]
    accuracy = [["held-out paraphrases", last(found, condition, "accuracy", digits=3)]]
    return {"facts": Table("", numbered(condition), rows), "facts_accuracy": Table("", ["", "accuracy"], accuracy)}
