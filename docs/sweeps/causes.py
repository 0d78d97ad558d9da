"""Tables of docs/causes.md, why clusters form and when they matter: the six experiments of that page.

in:  the runs of a sweep
out: its tables, and the figure of the bottleneck
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import altair as alt
import numpy as np
import polars
from sweeps.cells import Runs, by_layer, depth, last, numbered, printed

from taskcluster.metrics import ARI
from taskcluster.pages.marks import Chart
from taskcluster.results.cells import Table, estimate
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import FEWEST, UNBOUNDED, Interval, interval
from taskcluster.runs.condition import decisive
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import fixed, layers_of, number

SOURCES = {
    "next_token": "every token",
    "next_token+detached": "every token, separator detached",
    "answer": "y",
    "answer+detached": "y, separator detached",
}
INPUTS = {5: "5 inputs, all tasks use them", 20: "20 inputs", 125: "125 inputs, each of two tasks"}
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

    read = {"every token": "next_token", "y": "answer"}
    differences = {
        name: [_difference(cells[o, n], cells[f"{o}+detached", n], lambda run: _last(run, "ari")) for n in inputs]
        for name, o in read.items()
    }
    by_reading = [[name, *(printed(cell, 3) for cell in row)] for name, row in differences.items()]
    first = cells["next_token", inputs[0]]
    layers = [[words, *by_layer(found, cells[name, 20], "ari")] for name, words in objectives.items()]
    untrained = by_layer(found, cells["next_token", 20], "ari_untrained")
    return {
        "sources": table("ari"),
        "sources_accuracy": table("accuracy"),
        "sources_read": Table("", ["loss on", *(INPUTS[n] for n in inputs)], by_reading),
        "sources_by_layer": Table("", numbered(first, "loss on"), [*layers, ["untrained network", *untrained]]),
        "sources_variance": _variance(cells),
    }


def _variance(cells: Mapping[tuple[str, int], Runs]) -> Table:
    """The shares of the variance of the ARI over all runs: of each factor, of their interactions, of seeds."""
    factors = {
        "predicting x (loss on every token or on y)": lambda name, n: name.startswith("next_token"),
        "being read (separator detached or not)": lambda name, n: "detached" in name,
        "number of inputs": lambda name, n: n,
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


def own_weights(found: Findings) -> Mapping[str, Table]:
    """ARI at a separator with weights of its own, by layer."""
    parts = {tuple(_named(c, "model.parts")[0]): c for c in found.conditions}
    names = {("attention", "mlp"): "attention and MLP", ("attention",): "attention", ("mlp",): "MLP"}
    rows = [[f"{words} of its own", *by_layer(found, parts[key], "ari")] for key, words in names.items()]
    untrained = by_layer(found, parts["attention", "mlp"], "ari_untrained")
    columns = numbered(found.conditions[0], "the separator has")
    return {"own_weights": Table("", columns, [*rows, ["attention and MLP of its own, untrained", *untrained]])}


def bottleneck(found: Findings) -> Mapping[str, Table]:
    tables = {}
    for k in (1, 2, 4):
        conditions = _by_probability(found, k)
        if len(conditions) < 2:
            continue  # a sweep of k = 1 alone
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
                others = [plain] if condition is not plain else []
                if kind[3] == "task" and (random := cells.get((*kind[:3], "random", n))):
                    others.append(random)
                gains = [_difference(condition, o, lambda run: number(run.last, "val/accuracy")) for o in others]
                differences = [*(printed(gain, 3) for gain in gains), "", ""][:2]
                aris = [last(found, condition, key) for key in ("ari", "ari_within_x")]
                rows.append([words, str(n), last(found, condition, "accuracy", digits=3), *differences, *aris])
    columns = [
        "added loss",
        "instructions a task",
        "held-out accuracy",
        "difference from none, by seed",
        "from labels at random, by seed",
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


PREDICTED = {"tightness": "tightness at the separator", "tightness_at_x": "tightness at x"}


def tightness(found: Findings) -> Mapping[str, Table]:
    """How much the tightness of a task at a step says of its held-out accuracy at the next, in standard deviations."""
    (condition,) = found.conditions
    panels = [_panel(RunFolder(found.root / run.path), depth(condition)) for run in condition.runs]
    rows = []
    for key, words in PREDICTED.items():
        for given in (
            (),
            ("accuracy", "train_accuracy", "train_loss"),
            ("accuracy", "loss", "train_accuracy", "train_loss"),
        ):
            slopes = [_slope(panel, key, given) for panel in panels]
            cell = printed(interval(slopes, UNBOUNDED, 1, [run.task_set for run in condition.runs]), 3)
            rows.append(
                [words, ", ".join(given).replace("_", " of ").replace("train of", "training") or "nothing", cell]
            )
    return {
        "tightness": Table("", ["predictor at a step", "given, at that step", "change of accuracy at the next"], rows)
    }


def _panel(run: RunFolder, n_layer: int) -> polars.DataFrame:
    """A row for each task and step: means over its examples, and the held-out accuracy at the next step."""
    layer = f"layer_{n_layer}"
    steps = []
    for step in sorted(row["step"] for row in run.rows()):
        examples = run.examples(step)
        by_task = {
            split: examples.filter(polars.col("split") == split).group_by("task").agg(polars.col(columns).mean())
            for split, columns in (
                ("val", ["correct", "answer_loss", f"tightness/{layer}", f"tightness_at_x/{layer}"]),
                ("train", ["correct", "answer_loss"]),
            )
        }
        named = by_task["val"].rename(
            {
                "correct": "accuracy",
                "answer_loss": "loss",
                f"tightness/{layer}": "tightness",
                f"tightness_at_x/{layer}": "tightness_at_x",
            }
        )
        trained = by_task["train"].rename({"correct": "train_accuracy", "answer_loss": "train_loss"})
        steps.append(named.join(trained, on="task").with_columns(polars.lit(step).alias("step")))
    panel = polars.concat(steps).sort("task", "step")
    return panel.with_columns(polars.col("accuracy").shift(-1).over("task").alias("next")).drop_nulls()


def _slope(panel: polars.DataFrame, key: str, given: Sequence[str]) -> float:
    """By least squares over tasks and steps, each variable less its mean of the step and in its standard deviations."""
    columns = ["next", key, *given]
    centred = panel.select("step", *(polars.col(c) - polars.col(c).mean().over("step") for c in columns)).to_numpy()
    standard = centred[:, 1:] / centred[:, 1:].std(0)
    return float(np.linalg.lstsq(standard[:, 1:], standard[:, 0], rcond=None)[0][0])


def words(found: Findings) -> Mapping[str, Table]:
    """Facts with and without a bottleneck."""
    named = {"next_token": "without", "next_token+bottleneck": "with a bottleneck"}
    chosen = {named[_named(c, "objective")[0]]: c for c in found.conditions}
    metrics = {
        "accuracy": ("accuracy", None),
        "ARI before x, last layer": ("ari", -1),
        "ARI at x within x, last layer": ("ari_within_x", -1),
        "ARI at the answer, last layer": ("ari_at_answer", -1),
        "effect of the last token before x, all layers": (STREAM.format(1), 0),
        "effect of the other tokens before x, all layers": ("effect_interchange_from_instruction_without_end", 0),
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


def finetune(found: Findings) -> Mapping[str, Table]:
    """Accuracy, ARI and effects at the answer, at each measured step of fine-tuning."""
    (condition,) = found.conditions
    effects = layers_of(condition.runs[0].last, found.catalogue["effect_interchange_answer"].stem("val"))
    layers = [layer for layer, effect in enumerate(effects) if math.isfinite(effect)]
    steps = [row["step"] for row in condition.runs[0].rows]

    def row(words: str, key: str, layer: int | None) -> list[str]:
        metric = found.catalogue[key]
        column = metric.stem("val") if layer is None else metric.at("val", layer)
        at = (
            estimate(condition, lambda run, k=k: number(run.rows[k], column), metric.range) for k in range(len(steps))
        )
        return [words, *map(printed, at)]

    rows = [row("accuracy", "accuracy", None)]
    for key, words in {
        "ari_at_answer": "ARI at the answer",
        "ari_within_x_at_answer": "the same within x",
        "effect_interchange_answer": "effect of interchange",
        "effect_add_answer": "effect of steering",
        "effect_random_answer": "effect of a random direction",
    }.items():
        rows += [row(f"{words}, layer {layer}", key, layer) for layer in layers[len(layers) // 2 :]]
    return {"finetune": Table("", ["updates", *map(str, steps)], rows)}


def breadth(found: Findings) -> Mapping[str, Table]:
    """Architecture and width: what the default run says of itself, again."""
    sizes = {"Llama, 128 wide": ("llama", 128), "GPT-2, 64 wide": ("gpt2", 64), "GPT-2, 256 wide": ("gpt2", 256)}
    cells = {
        (_named(c, "model._target_")[0].rpartition(".")[2], _named(c, "model.n_embd")[0], _named(c, "objective")[0]): c
        for c in found.conditions
    }
    objectives = {
        "next_token": "default",
        "next_token+bottleneck": "bottleneck",
        "answer+detached": "y, separator detached",
    }
    rows = []
    for words, size in sizes.items():
        for objective, name in objectives.items():
            c = cells[*size, objective]
            aris = [last(found, c, key) for key in ("accuracy", "ari")]
            effects = [
                by_layer(found, c, key)[0]
                for key in (STREAM.format(1), "effect_interchange_from_instruction_without_end")
            ]
            few = len(c.runs) < FEWEST  # then each cell says so
            rows.append([words, name, *(cell.partition(" (")[0] if few else cell for cell in (*aris, *effects))])
    return {
        "breadth": Table(
            "",
            [
                "model",
                "training",
                "accuracy",
                "ARI at the separator, last layer",
                "effect of the separator, all layers",
                "of the other tokens",
            ],
            rows,
        )
    }
