"""Tables of docs/causes.md about why clusters form: the loss, weights, added losses, and training step by step.

in:  the runs of a sweep
out: its tables
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import polars
from sweeps.bottleneck import SIZES, by_size
from sweeps.cells import Runs, by_layer, depth, last, named, numbered, printed

from taskcluster.results.cells import Table, estimate
from taskcluster.results.findings import Findings, Finished
from taskcluster.results.intervals import UNBOUNDED, Interval, interval
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import layers_of, number

SOURCES = {
    "next_token": "every token",
    "next_token+detached": "every token, separator detached",
    "answer": "y",
    "answer+detached": "y, separator detached",
}
INPUTS = {5: "5 inputs, all tasks use them", 20: "20 inputs", 125: "125 inputs, each of two tasks"}


def sources(found: Findings) -> Mapping[str, Table]:
    cells = {named(c, "objective", "task.n_inputs"): c for c in found.conditions}
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
    parts = {tuple(named(c, "model.parts")[0]): c for c in found.conditions}
    names = {("attention", "mlp"): "attention and MLP", ("attention",): "attention", ("mlp",): "MLP"}
    rows = [[f"{words} of its own", *by_layer(found, parts[key], "ari")] for key, words in names.items()]
    untrained = by_layer(found, parts["attention", "mlp"], "ari_untrained")
    columns = numbered(found.conditions[0], "the separator has")
    return {"own_weights": Table("", columns, [*rows, ["attention and MLP of its own, untrained", *untrained]])}


def separator_first(found: Findings) -> Mapping[str, Table]:
    """ARI at the last symbol of the instruction, by layer, where no separator follows it."""
    cells = {named(c, "objective")[0]: c for c in found.conditions}
    rows = [[words, *by_layer(found, cells[name], "ari")] for name, words in SOURCES.items() if name in cells]
    return {"separator_first": Table("", numbered(cells["next_token"], "loss on"), rows)}


def pull(found: Findings) -> Mapping[str, Table]:
    """Held-out accuracy of each condition, and its difference from plain training, by seed."""
    keys = (
        "objective",
        "objective.pull.at",
        "objective.push.at",
        "objective.pull.labels",
        "task.instructions_per_task",
    )
    cells = {named(c, *keys): c for c in found.conditions}
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


def breadth_pull(found: Findings) -> Mapping[str, Table]:
    """Held-out accuracy with and without a pull at the separator, by architecture and width."""
    rows = []
    for words, size in SIZES.items():
        plain, pulled = (by_size(found)[*size, objective] for objective in ("next_token", "next_token+pull"))
        gain = _difference(pulled, plain, lambda run: number(run.last, "val/accuracy"))
        accuracies = [last(found, c, "accuracy", digits=3) for c in (plain, pulled)]
        rows.append([words, *accuracies, printed(gain, 3), *(last(found, c, "ari") for c in (plain, pulled))])
    columns = [
        "model",
        "held-out accuracy",
        "accuracy with the pull",
        "difference, by seed",
        "ARI at the separator",
        "ARI with the pull",
    ]
    return {"breadth_pull": Table("", columns, rows)}


def _difference(one: Runs, other: Runs, column: Callable[[Finished], float]) -> Interval:
    """Of runs with the same seed, mean and interval."""
    seeds = {run.seed: run for run in other.runs}
    pairs = [(run, seeds[run.seed]) for run in one.runs if run.seed in seeds]
    return interval([column(a) - column(b) for a, b in pairs], (-1, 1))


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
        held_out = by_task["val"].rename(
            {
                "correct": "accuracy",
                "answer_loss": "loss",
                f"tightness/{layer}": "tightness",
                f"tightness_at_x/{layer}": "tightness_at_x",
            }
        )
        trained = by_task["train"].rename({"correct": "train_accuracy", "answer_loss": "train_loss"})
        steps.append(held_out.join(trained, on="task").with_columns(polars.lit(step).alias("step")))
    panel = polars.concat(steps).sort("task", "step")
    return panel.with_columns(polars.col("accuracy").shift(-1).over("task").alias("next")).drop_nulls()


def _slope(panel: polars.DataFrame, key: str, given: Sequence[str]) -> float:
    """By least squares over tasks and steps, each variable less its mean of the step and in its standard deviations."""
    columns = ["next", key, *given]
    centred = panel.select("step", *(polars.col(c) - polars.col(c).mean().over("step") for c in columns)).to_numpy()
    standard = centred[:, 1:] / centred[:, 1:].std(0)
    return float(np.linalg.lstsq(standard[:, 1:], standard[:, 0], rcond=None)[0][0])


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
