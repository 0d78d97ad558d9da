"""Do the clusters matter? The tables of docs/found.md, from experiment=causal.

Intervals by layer hold for all layers at once, and "at any layer and step" for all of these (Bonferroni's inequality).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from sweeps.cells import Runs, by_layer, depth, last, numbered, printed, select
from sweeps.depths import of_sequences

from taskcluster.metrics import ARI, ARI_WITHIN_X, LOSS
from taskcluster.results.cells import Table, estimate
from taskcluster.results.correlations import rank_correlation
from taskcluster.results.findings import Findings, Finished
from taskcluster.runs.journal import fixed, number

SEPARATOR, X, INTO_X, BEFORE_X = "instruction_end", "input", "instruction_end_to_input", "instruction"
EDITS = {
    "add": "difference of centroids added",
    "replace": "replaced by the other centroid",
    "interchange": "replaced by a state of the other task",
    "cluster": "difference of KMeans' centroids added",
}
CONTROLS = {
    "random": "control: random direction",
    "same_task": "control: within the own task",
    "shuffled": "control: shuffled labels",
    "third_task": "control: towards a third task",
    "wrong_position": "control: added one token earlier",
}
AT_SEPARATOR = {f"effect_{edit}_{SEPARATOR}": words for edit, words in EDITS.items()}
AT_X = {f"effect_{edit}_{X}": words for edit, words in (EDITS | CONTROLS).items()}
WHERE = {
    f"effect_interchange_{BEFORE_X}": "all tokens before x",
    f"effect_interchange_{SEPARATOR}": "the separator alone",
    f"effect_interchange_{X}": "x",
}
MOVED_INTO_X = {
    f"effect_add_{INTO_X}": "the separator's difference of centroids",
    f"effect_add_{X}": "x's own difference of centroids",
    **{f"effect_{control}_{INTO_X}": CONTROLS[control] for control in ("random", "shuffled", "third_task")},
    f"effect_interchange_{INTO_X}": "a whole state of the separator, in place of the state",
}
REMOVED = {
    f"kept_ablate_{X}": "x: without the subspace",
    f"kept_mean_{X}": "x: the mean of the centroids",
    f"kept_keep_{X}": "x: the subspace alone",
    f"kept_random_subspace_{X}": "x: control, without a random subspace",
    f"kept_ablate_{SEPARATOR}": "separator: without the subspace",
    f"kept_mean_{SEPARATOR}": "separator: the mean of the centroids",
    f"kept_mean_{BEFORE_X}": "all tokens before x: the mean of the centroids",
}
LOSSES = {
    "accuracy": "accuracy",
    "ari": "ARI at the separator",
    "ari_within_x": "ARI at x, within x",
    f"effect_add_{SEPARATOR}": "effect at the separator, difference added",
    f"effect_add_{X}": "effect at x, difference added",
    f"effect_interchange_{INTO_X}": "effect of the separator's state at x",
    f"kept_ablate_{SEPARATOR}": "answers that stay without the subspace, separator",
    f"kept_ablate_{X}": "answers that stay without the subspace, x",
    "clean_a": "answers of A without an edit",
    "source_b": "answers of B in prompts of B",
}
EMERGING = {
    "accuracy": "accuracy",
    f"effect_add_{X}": "effect at x",
    "ari_within_x": "ARI at x, within x",
    "ari": "ARI at the separator",
}


def tables(found: Findings) -> Mapping[str, Table]:
    two, four, six = of_sequences(found)
    on_y = select(found, {"data.loss_on": "y"})
    layers = {"2": two, "4": four, "6": six, "6, loss on y": on_y}

    def effects(first: str, rows: Mapping[str, str]) -> Table:
        cells = [[words, *by_layer(found, six, key, together=True)] for key, words in rows.items()]
        return Table("", numbered(six, first), cells)

    losses = [[words, last(found, six, key), last(found, on_y, key)] for key, words in LOSSES.items()]
    last_layers = [[name, last(found, c, f"effect_add_{X}")] for name, c in layers.items()]
    return {
        "found_separator": effects("at the separator", {"ari": "ARI", **AT_SEPARATOR}),
        "found_x": effects("edit", AT_X),
        "found_where": effects("replaced by states of the other task", WHERE),
        "found_into_x": effects("patched in at x", MOVED_INTO_X),
        "found_removed": effects("answers that stay", REMOVED),
        "found_losses": Table("", ["6 layers, layer 6", "loss on the whole sequence", "loss on y alone"], losses),
        "found_depths": Table("", ["layers", "effect at x in the last layer, difference added"], last_layers),
        "found_bounds": _bounds(found, layers),
        "found_emergence": _emergence(layers),
        "found_correlations": _correlations(layers),
    }


def _bounds(found: Findings, layers: Mapping[str, Runs]) -> Table:
    of_edits = {
        "edits at the separator, all depths and losses": (AT_SEPARATOR, layers),
        "edits at the separator, loss on y alone": (AT_SEPARATOR, ["6, loss on y"]),
        "controls at x": ([f"effect_{control}_{X}" for control in CONTROLS], ["6"]),
        "the separator's difference of centroids, added at x": ([f"effect_add_{INTO_X}"], ["6"]),
    }
    rows = []
    for words, (keys, names) in of_edits.items():
        bounds = [at_most(found, layers[name], key) for key in keys for name in names]
        rows.append([words, *(fixed(float(bound)) for bound in np.max(bounds, axis=0))])
    return Table("", ["rise of the rate, at any layer and step", "largest mean", "largest upper end"], rows)


def at_most(found: Findings, condition: Runs, key: str) -> tuple[float, float]:
    """By how much the rate of B's answers is above that without an edit, at any layer and step: the largest mean, and
    the largest upper end of an interval. NaN where no run has the edit."""
    metric, n_layers = found.catalogue[key], depth(condition) + 1
    steps = [k for k, row in enumerate(condition.runs[0].rows) if metric.at("val", 0) in row]

    def rise(run: Finished, step: int, layer: int) -> float:
        return number(run.rows[step], metric.at("val", layer)) - number(run.rows[step], "val/clean_b")

    cells = [
        estimate(condition, partial(rise, step=step, layer=layer), (-1, 1), n_layers * len(steps))
        for step in steps
        for layer in range(n_layers)
    ]
    return max(cell.mean for cell in cells), max(cell.upper for cell in cells)


def _emergence(layers: Mapping[str, Runs]) -> Table:
    rows = []
    for name, condition in layers.items():
        end = float(condition.runs[0].last["step"])
        cells = []
        for key in EMERGING:
            metric = condition.runs[0].catalogue[key]
            cells.append(printed(estimate(condition, partial(Finished.emergence, metric=metric), (0, end)), 0))
        rows.append([name, *cells])
    return Table("", ["layers", *EMERGING.values()], rows)


def _correlations(layers: Mapping[str, Runs]) -> Table:
    pairs = {"at x": (ARI_WITHIN_X.key, f"effect_add_{X}"), "at the separator": (ARI.key, f"effect_add_{SEPARATOR}")}
    rows = []
    for name, condition in layers.items():
        cells = []
        for pair in pairs.values():
            for given in (False, True):
                column = partial(correlation, keys=pair, given_loss=given)
                cells.append(printed(estimate(condition, column, (-1, 1))))
        rows.append([name, *cells])
    return Table("", ["layers", *(words for where in pairs for words in (where, "given the loss"))], rows)


def correlation(run: Finished, keys: Sequence[str], given_loss: bool) -> float:
    """Spearman's rank correlation of two metrics over layers 1 to L and the measured steps, also with the rank of the
    validation loss taken out of both (partial rank correlation)."""
    rows = [row for row in run.rows if f"{keys[1]}/val/layer_1" in row]
    deepest = int(run.config["model"]["n_layer"])
    one, other = (
        np.array([number(row, run.catalogue[key].at("val", layer)) for row in rows for layer in range(1, deepest + 1)])
        for key in keys
    )
    plain = rank_correlation(one, other)
    if not given_loss:
        return plain
    loss = np.repeat([number(row, LOSS.stem("val")) for row in rows], deepest)
    a, b = rank_correlation(one, loss), rank_correlation(other, loss)
    return float((plain - a * b) / np.sqrt((1 - a**2) * (1 - b**2)))
