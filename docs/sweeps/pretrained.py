"""A pretrained model, probed: the tables of docs/pretrained.md, from its two recipes. One run each, so no intervals.

in:  the run of the questions about countries; the two runs of tasks told by demonstrations, in folders side by side
out: ARIs by layer beside those of random weights, and of texts; effects of edits; vectors
"""

import math
from collections.abc import Mapping, Sequence

from taskcluster.results.cells import Table
from taskcluster.results.findings import Findings, Finished
from taskcluster.runs.journal import fixed, layers_of, number

ARIS = {
    "ari_at_answer": "ARI with the task",
    "ari_at_answer_untrained": "ARI with the task, random weights",
    "ari_within_x_at_answer": "within each x",
    "ari_within_x_at_answer_untrained": "within each x, random weights",
}
EFFECTS = {
    "effect_add_answer": "answers of B: difference of centroids added",
    "effect_cluster_answer": "difference of KMeans' centroids added",
    "effect_interchange_answer": "replaced by a state of B",
    "effect_random_answer": "control: random direction",
    "effect_shuffled_answer": "control: shuffled labels",
    "effect_third_task_answer": "control: a third relation",
}
TEXTS = {"symbols": "bag of tokens", "bigrams": "bag of bigrams", "mean_embedding": "mean embedding"}
TEXTS |= {"edit_distance": "edit distance"}
TELLING = {"shuffled": "with demonstrations whose labels are shuffled", "few_shot": "with demonstrations"}
VECTORS = {
    "task_vector": "task vector: the state of one prompt put in",
    "function_vector": "function vector: mean outputs of ten heads added",
    "mean": "mean of the task put in",
    "difference": "difference of means added",
    "cluster": "difference of KMeans' centroids added",
    "random": "control: random direction",
    "other_task": "control: another task's difference",
}


def countries(found: Findings) -> Mapping[str, Table]:
    (run,) = found.runs
    edited = [k for k, value in enumerate(_layers(run, "effect_add_answer")) if math.isfinite(value)]
    shown = [1, *edited[1:]]
    rows = [_row(run, key, words, shown) for key, words in (ARIS | EFFECTS).items()]
    return {
        "countries": Table("", ["layer", *map(str, shown)], rows),
        "countries_texts": _texts({"questions": run}),
        "countries_answers": _answers({"questions": run}),
    }


def few_shot(found: Findings) -> Mapping[str, Table]:
    runs = {disjoint: run for run in found.runs for disjoint in [run.config["task"]["disjoint_demonstrations"]]}
    named = {"one pool of pairs": runs[False], "disjoint demonstrations": runs[True]}
    every = _layers(runs[False], "ari_at_answer")
    shown = [0, 1, 2, 3, *range(5, len(every), 5)]
    rows = [_row(run, key, f"{words}, {name}", shown) for name, run in named.items() for key, words in ARIS.items()]
    first, whole = ("first_token", "whole_answer")
    telling = [[words, _one(runs[False], f"{first}_{key}"), _one(runs[False], f"{whole}_{key}"), ""]
               for key, words in TELLING.items()]  # fmt: skip
    vectors = [["no vector", _one(runs[False], f"{first}_zero_shot"), _one(runs[False], f"{whole}_zero_shot"), ""]]
    for key, words in VECTORS.items():
        chosen = (_one(runs[False], f"vector_{key}_{ending}") for ending in ("chosen", "chosen_whole"))
        vectors.append([words, *chosen, fixed(number(runs[False].last, f"val/vector_{key}_layer"), 0)])
    return {
        "few_shot": Table("", ["layer", *map(str, shown)], rows),
        "few_shot_texts": _texts(named),
        "few_shot_answers": _answers(named),
        "vectors": Table("", ["", "first token", "whole answer", "layer"], vectors + telling),
    }


def _texts(runs: Mapping[str, Finished]) -> Table:
    """ARIs of texts, of all prompts and within each x."""
    columns = [f"{name}{within}" for name in runs for within in ("", ", within each x")]
    rows = [
        [
            words,
            *(_one(run, f"{of}_{key}") for run in runs.values() for of in ("ari_at_answer", "ari_within_x_at_answer")),
        ]
        for key, words in TEXTS.items()
    ]
    return Table("", ["ARI with the task", *columns], rows)


def _answers(runs: Mapping[str, Finished]) -> Table:
    """What the text quotes: accuracy, and the highest ARI of the model and of random weights, with its layer."""
    rows = [["answers that are right", *(_one(run, "accuracy") for run in runs.values())]]
    for key, words in ARIS.items():
        best = [
            max(range(len(values)), key=values.__getitem__) for run in runs.values() if (values := _layers(run, key))
        ]
        rows.append(
            [f"highest {words}", *(fixed(_layers(run, key)[k], 2) for run, k in zip(runs.values(), best, strict=True))]
        )
        rows.append(["at layer", *map(str, best)])
    return Table("", ["", *runs], rows)


def _row(run: Finished, key: str, words: str, shown: Sequence[int]) -> list[str]:
    values = _layers(run, key)
    return [words, *(fixed(values[layer], 2) for layer in shown)]


def _layers(run: Finished, key: str) -> list[float]:
    return layers_of(run.last, f"{key}/val")


def _one(run: Finished, key: str) -> str:
    return fixed(number(run.last, f"val/{key}"), 2)
