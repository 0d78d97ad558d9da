"""Tables of docs/causes.md about a bottleneck at the separator, and about when the clusters there matter.

in:  the runs of a sweep
out: its tables, and the figure of the bottleneck
"""

from collections.abc import Mapping, Sequence
from functools import partial

import altair as alt
import numpy as np
from sweeps.cells import Runs, by_layer, depth, last, named, numbered, printed

from taskcluster.metrics import ARI
from taskcluster.pages.marks import Chart
from taskcluster.results.cells import Table, estimate
from taskcluster.results.findings import Findings, Finished
from taskcluster.runs.journal import fixed, number

STREAM = "effect_interchange_from_instruction_last_{}"
OTHERS = "effect_interchange_from_instruction_without_end"
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


def bottleneck(found: Findings) -> Mapping[str, Table]:
    tables = {}
    for k in (1, 2, 4):
        conditions = _by_probability(found, k)
        if len(conditions) < 2:
            continue  # a sweep of k = 1 alone
        rows = [[words, *(last(found, c, key) for c in conditions.values())] for key, words in OF_BOTTLENECK.items()]
        tokens = "separator" if k == 1 else f"last {k} tokens"
        rows.append([f"effect of the {tokens}, all layers", *_first_layer(found, conditions, STREAM.format(k))])
        if k == 1:
            rows.append(
                ["effect of all other instruction tokens, all layers", *_first_layer(found, conditions, OTHERS)]
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
    lifted = next(c for c in found.conditions if named(c, "objective.bottleneck.until")[0] is not None)
    chosen = {"never": _by_probability(found, 1)[0.0], "until half": lifted, "always": _by_probability(found, 1)[1.0]}
    rows = [[words, *(last(found, c, key) for c in chosen.values())] for key, words in OF_BOTTLENECK.items()]
    rows.append(["effect of the separator, all layers", *_first_layer(found, chosen, STREAM.format(1))])
    return Table("", ["bottleneck", *chosen], rows)


def _by_probability(found: Findings, k: int) -> dict[float, Runs]:
    """The conditions with k visible tokens by their fraction of sequences; without a bottleneck, k is nothing."""
    keys = ("objective.bottleneck.until", "objective.bottleneck.probability", "objective.bottleneck.last")
    cells = {named(c, *keys): c for c in found.conditions}
    return {
        p: c
        for (until, p, last_k), c in sorted(cells.items(), key=lambda pair: pair[0][1])
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


def charts(found: Findings) -> Mapping[str, Chart]:
    """ARI and the effect of the separator's whole stream against the fraction of sequences with the bottleneck."""
    metrics = {
        "ARI at the separator, layer 6": (ARI.key, -1),
        "effect of the separator, all layers": (STREAM.format(1), 0),
        "effect of the other instruction tokens, all layers": (OTHERS, 0),
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


def words(found: Findings) -> Mapping[str, Table]:
    """Facts with and without a bottleneck."""
    names = {"next_token": "without", "next_token+bottleneck": "with a bottleneck"}
    chosen = {names[named(c, "objective")[0]]: c for c in found.conditions}
    metrics = {
        "accuracy": ("accuracy", None),
        "ARI before x, last layer": ("ari", -1),
        "ARI at x within x, last layer": ("ari_within_x", -1),
        "ARI at the answer, last layer": ("ari_at_answer", -1),
        "effect of the last token before x, all layers": (STREAM.format(1), 0),
        "effect of the other tokens before x, all layers": (OTHERS, 0),
    }
    rows = [
        [name, *(last(found, c, key) if layer is None else by_layer(found, c, key)[layer] for c in chosen.values())]
        for name, (key, layer) in metrics.items()
    ]
    each = {"ARI before x, each run": ("ari", -1), "effect of the last token before x, each run": (STREAM.format(1), 0)}
    for name, (key, layer) in each.items():
        columns = (found.catalogue[key].at("val", layer % (depth(c) + 1)) for c in chosen.values())
        runs = (
            [fixed(number(run.last, k), 2) for run in c.runs] for k, c in zip(columns, chosen.values(), strict=True)
        )
        rows.append([name, *map(", ".join, runs)])
    return {"words": Table("", ["facts in words", *chosen], rows)}


SIZES = {"Llama, 128 wide": ("llama", 128), "GPT-2, 64 wide": ("gpt2", 64), "GPT-2, 256 wide": ("gpt2", 256)}


def by_size(found: Findings) -> dict[tuple[str, int, str], Runs]:
    """The conditions by model, width and objective."""
    return {
        (named(c, "model._target_")[0].rpartition(".")[2], named(c, "model.n_embd")[0], named(c, "objective")[0]): c
        for c in found.conditions
    }


def breadth(found: Findings) -> Mapping[str, Table]:
    """Architecture and width: what the default run says of itself, again."""
    cells = by_size(found)
    objectives = {
        "next_token": "default",
        "next_token+bottleneck": "bottleneck",
        "answer+detached": "y, separator detached",
    }
    rows = []
    for words, size in SIZES.items():
        for objective, name in objectives.items():
            c = cells[*size, objective]
            aris = [last(found, c, key) for key in ("accuracy", "ari")]
            rows.append([words, name, *aris, *(by_layer(found, c, key)[0] for key in (STREAM.format(1), OTHERS))])
    columns = [
        "model",
        "training",
        "accuracy",
        "ARI at the separator, last layer",
        "effect of the separator, all layers",
        "of the other tokens",
    ]
    return {"breadth": Table("", columns, rows)}
