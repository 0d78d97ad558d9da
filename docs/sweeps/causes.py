"""Tables of docs/causes.md, why clusters form and when they matter: experiment=sources, bottleneck and pull.

in:  the runs of a sweep
out: its tables, and the figure of the bottleneck
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import altair as alt
import numpy as np
from sweeps.cells import Runs, by_layer, depth, last, numbered, printed

from taskcluster.metrics import ARI
from taskcluster.pages.marks import Chart
from taskcluster.results.cells import Table, estimate
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import Interval, interval
from taskcluster.runs.condition import decisive
from taskcluster.runs.journal import number

SOURCES = {
    "next_token": "every token",
    "next_token+detached": "every token, separator detached",
    "answer": "y",
    "answer+detached": "y, separator detached",
}
INPUTS = {5: "5 inputs, all tasks use them", 20: "20 inputs", 250: "250 inputs, none shared"}
STREAM = "effect_interchange_from_instruction_last_{}"
OF_BOTTLENECK = {
    "accuracy": "accuracy",
    "ari": "ARI at the separator, layer 6",
    "ari_within_x": "ARI at x within x, layer 6",
}
CHEAP = {
    "attention_to_separator": "attention of x to the separator, mean over blocks",
    "same_task_map": "correlation of distances between tasks, at x and at the separator, layer 6",
    "shared_residuals": "R² of residuals at x given the separator's, layer 6",
}


def sources(found: Findings) -> Mapping[str, Table]:
    cells = {_named(c, "objective", "task.n_inputs"): c for c in found.conditions}
    objectives, inputs = SOURCES, sorted({n for _, n in cells})

    def table(key: str) -> Table:
        rows = [[words, *(last(found, cells[name, n], key) for n in inputs)] for name, words in objectives.items()]
        return Table("", ["loss on", *(INPUTS[n] for n in inputs)], rows)

    first = cells["next_token", inputs[0]]
    layers = [[words, *by_layer(found, cells[name, 20], "ari")] for name, words in objectives.items()]
    untrained = by_layer(found, cells["next_token", 20], "ari_untrained")
    return {
        "sources": table("ari"),
        "sources_accuracy": table("accuracy"),
        "sources_by_layer": Table("", numbered(first, "loss on"), [*layers, ["untrained network", *untrained]]),
        "sources_variance": _variance(cells),
    }


def _variance(cells: Mapping[tuple[str, int], Runs]) -> Table:
    """The shares of the variance of the ARI over all runs: of each factor, of their interactions, of seeds."""
    factors = {
        "predicting x (loss on every token or on y)": lambda name, n: name.startswith("next_token"),
        "being read (separator detached or not)": lambda name, n: "detached" in name,
        "inputs (5, 20, 250)": lambda name, n: n,
    }
    levels = [tuple(level(*cell) for level in factors.values()) for cell in cells for _ in cells[cell].runs]
    values = np.array([_last(run, "ari") for condition in cells.values() for run in condition.runs])
    shares: dict[tuple[int, ...], float] = {}
    for size in (1, 2, 3):
        for chosen in combinations(range(3), size):
            groups = [tuple(level[k] for k in chosen) for level in levels]
            means = {group: values[[g == group for g in groups]].mean() for group in {*groups}}
            between = np.var([means[group] for group in groups]) / values.var()
            shares[chosen] = between - sum(share for other, share in shares.items() if {*other} < {*chosen})
    rows = [[name, f"{shares[k,]:.2f}"] for k, name in enumerate(factors)]
    together = sum(share for chosen, share in shares.items() if len(chosen) > 1)
    rows += [["their interactions", f"{together:.2f}"], ["seeds", f"{1 - sum(shares.values()):.2f}"]]
    return Table("", ["source", "share of the variance of the ARI, layer 6"], rows)


def bottleneck(found: Findings) -> Mapping[str, Table]:
    tables = {}
    for k in (1, 2, 4):
        conditions = _by_probability(found, k)
        rows = [[words, *(last(found, c, key) for c in conditions.values())] for key, words in OF_BOTTLENECK.items()]
        stream, others = STREAM.format(k), "effect_interchange_from_instruction_without_end"
        tokens = "separator" if k == 1 else f"last {k} tokens"
        rows.append([f"effect of the {tokens}, all layers", *_first_layer(found, conditions, stream)])
        if k == 1:
            rows.append(
                ["effect of all other instruction tokens, all layers", *_first_layer(found, conditions, others)]
            )
            rows += [_cheap(found, conditions, key, words) for key, words in CHEAP.items()]
        tables[f"bottleneck_{k}"] = Table(
            "", ["fraction of sequences with the bottleneck", *map(str, conditions)], rows
        )
    always, never = _by_probability(found, 1)[1.0], _by_probability(found, 1)[0.0]
    alone = "effect_interchange_instruction_last_1"
    by = [
        [f"{words}, {name}", *by_layer(found, condition, key)]
        for key, words in (("ari", "ARI at the separator"), (alone, "effect of the separator, one layer"))
        for name, condition in (("never", never), ("always", always))
    ]
    return tables | {"bottleneck_by_layer": Table("", numbered(always), by), "bottleneck_lifted": _lifted(found)}


def _lifted(found: Findings) -> Table:
    """A bottleneck in the first half of training alone, beside none and one to the end."""
    lifted = next(c for c in found.conditions if _named(c, "objective.bottleneck.until")[0] is not None)
    chosen = {"never": _by_probability(found, 1)[0.0], "until half": lifted, "always": _by_probability(found, 1)[1.0]}
    rows = [[words, *(last(found, c, key) for c in chosen.values())] for key, words in OF_BOTTLENECK.items()]
    rows.append(["effect of the separator, all layers", *_first_layer(found, chosen, STREAM.format(1))])
    return Table("", ["bottleneck", *chosen], rows)


def _by_probability(found: Findings, k: int) -> dict[float, Runs]:
    """The conditions with k visible tokens by their fraction of sequences; without a bottleneck, k is nothing."""
    keys = ("objective.bottleneck.until", "objective.bottleneck.probability", "objective.bottleneck.last")
    named = {_named(c, *keys): c for c in found.conditions}
    return {
        p: c
        for (until, p, last_k), c in sorted(named.items(), key=lambda pair: pair[0][1])
        if until is None and (last_k == k or p == 0)
    }


def _first_layer(found: Findings, conditions: Mapping[object, Runs], key: str) -> list[str]:
    return [by_layer(found, c, key)[0] for c in conditions.values()]


def _cheap(found: Findings, conditions: Mapping[float, Runs], key: str, words: str) -> list[str]:
    def mean(run: Finished, layers: Sequence[int]) -> float:
        return float(np.mean([number(run.last, found.catalogue[key].at("val", layer)) for layer in layers]))

    cells = []
    for condition in conditions.values():
        layers = range(1, depth(condition) + 1) if key.startswith("attention") else [depth(condition)]
        cells.append(printed(estimate(condition, partial(mean, layers=layers), found.catalogue[key].range)))
    return [words, *cells]


def pull(found: Findings) -> Mapping[str, Table]:
    """Held-out accuracy of each condition, and its difference from plain training, by seed."""
    keys = (
        "objective",
        "objective.pull.at",
        "objective.push.at",
        "objective.pull.labels",
        "task.instructions_per_task",
    )
    cells = {_named(c, *keys): c for c in found.conditions}
    inputs = sorted({name[-1] for name in cells})
    rows = []
    for kind in dict.fromkeys(name[:-1] for name in cells):
        words = {"next_token": "none", "next_token+pull": "pull", "next_token+push": "push"}[kind[0]]
        at = {"instruction_end": " at the separator", "input": " at x", None: ""}[kind[1] or kind[2]]
        words += at + (", labels at random" if kind[3] == "random" else "")
        for n in inputs:
            if condition := cells.get((*kind, n)):
                plain = cells["next_token", None, None, None, n]
                gain = _difference(condition, plain, lambda run: number(run.last, "val/accuracy"))
                cell = "" if condition is plain else printed(gain, 3)
                aris = [last(found, condition, key) for key in ("ari", "ari_within_x")]
                rows.append([words, str(n), last(found, condition, "accuracy", digits=3), cell, *aris])
    columns = [
        "added loss",
        "instructions a task",
        "held-out accuracy",
        "difference from none, by seed",
        "ARI at the separator",
        "within x",
    ]
    return {"pull": Table("", columns, rows)}


def _difference(one: Runs, other: Runs, column: Callable[[Finished], float]) -> Interval:
    """Of runs with the same seed, mean and interval."""
    seeds = {run.seed: run for run in other.runs}
    pairs = [(run, seeds[run.seed]) for run in one.runs if run.seed in seeds]
    return interval([column(a) - column(b) for a, b in pairs], (-1, 1))


def charts(found: Findings) -> Mapping[str, Chart]:
    """ARI and the effect of the separator's whole stream against the fraction of sequences with the bottleneck."""
    metrics = {
        "ARI at the separator, layer 6": (ARI.key, -1),
        "effect of the separator, all layers": (STREAM.format(1), 0),
        "effect of the other instruction tokens, all layers": ("effect_interchange_from_instruction_without_end", 0),
    }
    points = []
    for name, (key, layer) in metrics.items():
        for p, condition in _by_probability(found, 1).items():
            metric = found.catalogue[key]
            column = metric.at("val", layer % (depth(condition) + 1))
            value = estimate(condition, lambda run, column=column: number(run.last, column), metric.range)
            points.append({"p": p, "name": name, "mean": value.mean, "lower": value.lower, "upper": value.upper})
    color = alt.Color(
        "name:N", sort=[*metrics], scale=alt.Scale(domain=[*metrics]), legend=alt.Legend(title=None, labelLimit=320)
    )
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("p:O", title="fraction of training sequences with the bottleneck", axis=alt.Axis(labelAngle=0)),
        color=color,
    )
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1], clamp=True))
    bars = base.mark_rule(opacity=0.5).encode(y=alt.Y("lower:Q", title=""), y2="upper:Q")
    bars = bars.transform_filter("isValid(datum.lower)")
    drawn = alt.layer(bars, base.mark_line().encode(y=y), base.mark_circle().encode(y=y))
    return {"bottleneck": drawn.properties(width=420, height=280, title="The clusters stay, their effect does not")}


def _named(condition: Runs, *keys: str) -> tuple:
    values = decisive(condition.runs[0].config)
    return tuple(values.get(key) for key in keys)


def _last(run: Finished, key: str) -> float:
    return number(run.last, run.keys(run.catalogue[key])[-1])
