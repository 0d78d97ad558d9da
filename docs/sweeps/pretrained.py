"""A pretrained model, probed: the tables of docs/pretrained.md, from its two recipes, with several seeds of prompts.

in:  the runs of the questions about countries; those of tasks specified by demonstrations, of one pool and disjoint
out: ARIs by layer beside those of random weights, and of texts; effects of edits; vectors
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from sweeps.cells import Runs, printed, select

from taskcluster.results.cells import Table, estimate
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import FEWEST
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
VECTORS = {
    "task_vector": "task vector: the state of one prompt put in",
    "function_vector": "function vector: mean outputs of ten heads added",
    "mean": "mean of the task put in",
    "difference": "difference of means added",
    "cluster": "difference of KMeans' centroids added",
    "random": "control: random direction",
    "other_task": "control: another task's difference",
}
ACCURACIES = {  # words -> of the first token, of the whole answer, the layer
    "no vector": ("first_token_zero_shot", "whole_answer_zero_shot", ""),
    **{
        words: (f"vector_{key}_chosen", f"vector_{key}_chosen_whole", f"vector_{key}_layer")
        for key, words in VECTORS.items()
    },
    "with demonstrations whose labels are shuffled": ("first_token_shuffled", "whole_answer_shuffled", ""),
    "with demonstrations": ("first_token_few_shot", "whole_answer_few_shot", ""),
}


def countries(found: Findings) -> Mapping[str, Table]:
    (runs,) = found.conditions
    edited = [k for k, value in enumerate(_layers(runs, "effect_add_answer")) if math.isfinite(value)]
    shown = [1, *edited[1:]]
    rows = [_row(found, runs, key, words, shown) for key, words in (ARIS | EFFECTS).items()]
    return {
        "countries": Table("", ["layer", *map(str, shown)], rows),
        "countries_texts": _texts(found, {"questions": runs}),
        "countries_answers": _answers(found, {"questions": runs}),
    }


def few_shot(found: Findings) -> Mapping[str, Table]:
    key = "task.disjoint_demonstrations"
    shared, disjoint = (select(found, {key: value}) for value in (False, True))
    named = {"one pool of pairs": shared, "disjoint demonstrations": disjoint}
    shown = [0, 1, 2, 3, *range(len(_layers(shared, "ari_at_answer")))[5::5]]
    rows = [
        _row(found, runs, key, f"{words}, {name}", shown) for name, runs in named.items() for key, words in ARIS.items()
    ]
    return {
        "few_shot": Table("", ["layer", *map(str, shown)], rows),
        "few_shot_texts": _texts(found, named),
        "few_shot_answers": _answers(found, named),
        "vectors": _vectors(found, shared),
    }


def vectors_seeds(found: Findings) -> Mapping[str, Table]:
    """Means over seeds of prompts; and of each seed the interval over tasks."""
    (runs,) = found.conditions
    rows = [
        [words, _cell(found, runs, first), *(_over_tasks(run, first) for run in runs.runs), _cell(found, runs, whole)]
        for words, (first, whole, _) in ACCURACIES.items()
        if first in found.catalogue
    ]
    over_tasks = [f"over tasks, seed {run.config['seed']}" for run in runs.runs]
    return {"vectors_seeds": Table("", ["", "first token", *over_tasks, "whole answer"], rows)}


def _vectors(found: Findings, runs: Runs) -> Table:
    rows = []
    for words, (first, whole, layer) in ACCURACIES.items():
        chosen = fixed(number(runs.runs[0].last, f"val/{layer}"), 0) if layer else ""
        rows.append([words, _cell(found, runs, first), _cell(found, runs, whole), chosen])
    return Table("", ["", "first token", "whole answer", "layer"], rows)


def _texts(found: Findings, named: Mapping[str, Runs]) -> Table:
    """ARIs of texts, of all prompts and within each x."""
    columns = [f"{name}{within}" for name in named for within in ("", ", within each x")]
    of = ("ari_at_answer", "ari_within_x_at_answer")
    rows = [
        [words, *(_cell(found, runs, f"{ari}_{key}") for runs in named.values() for ari in of)]
        for key, words in TEXTS.items()
    ]
    return Table("", ["ARI with the task", *columns], rows)


def _answers(found: Findings, named: Mapping[str, Runs]) -> Table:
    """What the text quotes: accuracy, and the highest mean ARI of the model and of random weights, with its layer."""
    rows = [["answers that are right", *(_cell(found, runs, "accuracy") for runs in named.values())]]
    for key, words in ARIS.items():
        means = [_layers(runs, key) for runs in named.values()]
        best = [values.index(max(values)) for values in means]
        highest = (_cell(found, runs, key, k) for runs, k in zip(named.values(), best, strict=True))
        rows += [[f"highest {words}", *highest], ["at layer", *map(str, best)]]
    return Table("", ["", *named], rows)


def _row(found: Findings, runs: Runs, key: str, words: str, shown: Sequence[int]) -> list[str]:
    return [words, *(_cell(found, runs, key, layer) for layer in shown)]


def _layers(runs: Runs, key: str) -> list[float]:
    """The mean over seeds in every layer."""
    return [fmean(of_layer) for of_layer in zip(*(layers_of(run.last, f"{key}/val") for run in runs.runs), strict=True)]


def _cell(found: Findings, runs: Runs, key: str, layer: int = 0) -> str:
    """The mean over seeds with its interval, where there are enough of them."""
    metric = found.catalogue[key]
    mean = estimate(runs, lambda run: number(run.last, metric.at("val", layer)), metric.range)
    return fixed(mean.mean, 2) if mean.n < FEWEST else printed(mean)


def _over_tasks(run: Finished, key: str) -> str:
    """The interval over the tasks of a run, "" where it says nothing."""
    lower, upper = (fixed(number(run.last, f"val/{key}_{end}"), 2) for end in ("lower", "upper"))
    return "" if lower == upper else f"[{lower}, {upper}]"
