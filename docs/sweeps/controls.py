"""Baselines of six layers, shuffled outputs and other measures, of docs/measures.md, from experiment=seeds_layers."""

from collections.abc import Mapping

from sweeps.cells import Runs, by_layer, last, numbered, report, select
from sweeps.depths import of_sequences

from taskcluster.results.cells import Table
from taskcluster.results.findings import Findings

INSTRUMENTS = {
    "ari": "ARI at the separator",
    "ami": "AMI at the separator",
    "silhouette": "silhouette",
    "silhouette_of_tasks": "silhouette of tasks",
    "neighbours": "neighbours at the separator",
    "probe": "probe at the separator",
    "probe_control": "its control task",
    "selectivity": "selectivity at the separator",
    "ari_within_x": "ARI within x",
    "neighbours_within_x": "neighbours within x",
    "probe_at_input": "probe at x, of other x",
    "selectivity_at_input": "selectivity at x",
}
BESIDE = {
    "": "last layer",
    "_symbols": "bag of symbols",
    "_mean_embedding": "mean embedding",
    "_untrained": "untrained",
}
NUMBERS = {
    "ari_of_k_times_0_5": "ARI with k = 25",
    "ari_of_k_times_2": "ARI with k = 100",
    "chosen_k": "k of the highest silhouette",
}


def tables(found: Findings) -> Mapping[str, Table]:
    (six,) = of_sequences(found, 6)
    shuffled = select(found, {"task.shuffle_outputs": True})
    on_y = select(found, {"data.loss_on": "y"})
    others = {"outputs shuffled": shuffled, "loss on y alone": on_y}
    rows = [
        [words, *by_layer(found, condition, key)]
        for key, where in (("ari", "at the separator"), ("ari_within_x", "at x, within each x"))
        for words, condition in {where: six, **others}.items()
    ]
    accuracy = [[words, last(found, c, "accuracy")] for words, c in {"six layers": six, **others}.items()]
    beside = [
        [words, *(last(found, six, key + name) for key in ("ari", "ari_within_x"))] for name, words in BESIDE.items()
    ]
    return {
        "one_regex": Table("", ["", "at the separator", "at x, within each x"], beside),
        "shuffled": Table("", numbered(six, "ARI with the task"), rows),
        "shuffled_accuracy": Table("", ["", "accuracy"], accuracy),
        "instruments_at_the_start": _instruments(found, six, INSTRUMENTS, step=0),
        "instruments": _instruments(found, six, INSTRUMENTS | NUMBERS, step=-1),
        "agreement": _agreement(found, six),
    }


def _instruments(found: Findings, condition: Runs, wanted: Mapping[str, str], step: int) -> Table:
    digits = {"chosen_k": 0}
    rows = [
        [words, *by_layer(found, condition, key, step=step, digits=digits.get(key, 2))] for key, words in wanted.items()
    ]
    return Table("", numbered(condition), rows)


def _agreement(found: Findings, condition: Runs) -> Table:
    """Of the ARI at the separator with all others."""
    made = report(found, [condition])["Do the instruments agree?"]
    rows = [row[1:] for row in made.rows if row[0] == "ARI at the separator"]
    over = [column.rpartition(", over ")[2] for column in made.columns[2:]]
    return Table("", ["ARI at the separator and", *(f"over {words}" for words in over)], rows)
