"""What moves the end of a run: sources of variance and numbers of instructions, of docs/harder.md; facts, of
docs/tasks.md."""

from collections.abc import Mapping

from sweeps.cells import by_layer, columns, last, numbered, report

from taskcluster.results.cells import Table
from taskcluster.results.findings import Findings

METRICS = {"accuracy": "accuracy", "ARI at the separator": "ari", "ARI at x, within each value of x": "ari_within_x"}
ENDS = {"": "last layer", "_symbols": "bag of symbols", "_mean_embedding": "mean embedding", "_untrained": "untrained"}
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


def sources(found: Findings) -> Mapping[str, Table]:
    (condition,) = found.conditions
    cells: dict[str, dict[str, str]] = {}
    for title, source, sd, share, _ in report(found, [condition])["Where the variance comes from"].rows:
        cells.setdefault(source, {})[title] = f"{sd}, {share}"
    rows = [[source, *(of_source[title] for title in METRICS)] for source, of_source in cells.items()]
    ends = [
        [words, *(last(found, condition, key + name) for key in ("ari", "ari_within_x"))]
        for name, words in ENDS.items()
    ]
    claims = columns(report(found, [condition])["The paper's claims"], ["claim", *found.names])
    return {
        "variance": Table("", ["source", *METRICS], rows),
        "variance_ends": Table("", ["", "at the separator", "at x, within each x"], ends),
        "variance_claims": claims,
    }


def instructions(found: Findings) -> Mapping[str, Table]:
    rows = [
        [
            str(c.settings["task.instructions_per_task"]),
            last(found, c, "accuracy", "train"),
            *(last(found, c, key) for key in LAST),
        ]
        for c in found.conditions
    ]
    return {"n_instructions": Table("", ["instructions a task", "accuracy, training", *LAST.values()], rows)}


def facts(found: Findings) -> Mapping[str, Table]:
    (condition,) = found.conditions
    rows = [[words, *by_layer(found, condition, key)] for key, words in FACTS.items()]
    accuracy = [["held-out paraphrases", last(found, condition, "accuracy", digits=3)]]
    return {"facts": Table("", numbered(condition), rows), "facts_accuracy": Table("", ["", "accuracy"], accuracy)}
