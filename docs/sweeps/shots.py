"""In-context learning, of docs/in_context.md, from experiment=shots: five seeds for each number of demonstrations.

in:  the runs of the sweep
out: what grows with the number of demonstrations, beside baselines; ARIs along the longest prompts; a chart
"""

from collections.abc import Mapping

import altair as alt
from sweeps.cells import Runs, printed

from taskcluster.metrics import Metric
from taskcluster.pages.marks import Chart
from taskcluster.results.cells import Table, estimate
from taskcluster.results.findings import Findings
from taskcluster.results.intervals import Interval
from taskcluster.runs.journal import number

LAYER = 22  # in the middle of the three that vectors are added at
ANSWERS = {
    "first_token_few_shot": "with demonstrations",
    "first_token_shuffled": "with their labels shuffled",
    "vector_difference_chosen": "steered by the difference of means",
    "vector_other_task_chosen": "steered by another task's difference (control)",
}
ARIS = {"ari_at_answer": "", "ari_at_answer_untrained": ", random weights"}
TEXTS = {"symbols": "bag of tokens", "mean_embedding": "mean embedding"}
LAYERS = (18, LAYER, 30)
ALONG = (0, 10, 18, LAYER, 30)
CURVES = {
    "first_token_few_shot": "right answers with demonstrations",
    "vector_difference_chosen": "right answers without, steered",
    "vector_random_chosen": "steered in a random direction",
    "ari_at_answer": f"ARI at the answer, layer {LAYER}",
    "ari_at_answer_untrained": f"random weights, layer {LAYER}",
    "ari_at_answer_symbols": "bag of tokens",
}


def tables(found: Findings) -> Mapping[str, Table]:
    conditions = {n: c for n, c in _by_number(found).items() if n}  # without any, the prompts of all tasks are the same
    rows = [[f"right, {words}", *_row(found, conditions, key)] for key, words in ANSWERS.items()]
    for key, words in ARIS.items():
        layers = LAYERS if key == "ari_at_answer" else (LAYER,)
        rows += [[f"ARI, layer {layer}{words}", *_row(found, conditions, key, layer)] for layer in layers]
    rows += [[f"ARI, {words}", *_row(found, conditions, f"ari_at_answer_{key}")] for key, words in TEXTS.items()]
    return {
        "shots": Table("", ["demonstrations", *map(str, conditions)], rows),
        "shots_along": _along(found, conditions),
    }


def charts(found: Findings) -> Mapping[str, Chart]:
    points = [
        {"shots": n, "name": name, "mean": value.mean, "lower": value.lower, "upper": value.upper}
        for key, name in CURVES.items()
        for n, condition in _by_number(found).items()
        for value in [_estimate(condition, found.catalogue[key], LAYER)]
    ]
    legend = alt.Legend(title=None, symbolType="stroke", labelLimit=320)
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("shots:O", title="demonstrations", axis=alt.Axis(labelAngle=0)),
        color=alt.Color("name:N", sort=[*CURVES.values()], scale=alt.Scale(domain=[*CURVES.values()]), legend=legend),
    )
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[-0.2, 1], clamp=True))
    bars = base.mark_rule(opacity=0.5, clip=True).encode(y=alt.Y("lower:Q", title=""), y2="upper:Q")
    bars = bars.transform_filter("isValid(datum.lower)")
    drawn = alt.layer(bars, base.mark_line().encode(y=y), base.mark_circle().encode(y=y))
    return {"shots": drawn.properties(width=420, height=280, title="Clusters and answers against demonstrations")}


def _along(found: Findings, conditions: Mapping[int, Runs]) -> Table:
    """ARIs at the label of every demonstration of the longest prompts, and at their answer."""
    most = max(conditions)
    rows = []
    for place in (*(f"demonstration_{k}" for k in range(1, most + 1)), "answer"):
        key, longest = f"ari_at_{place}", {most: conditions[most]}
        cells = [*(_row(found, longest, key, layer)[0] for layer in ALONG)]
        cells += [_row(found, longest, f"{key}_untrained", layer)[0] for layer in (1, LAYER)]
        rows.append([place.replace("_", " "), *cells, *_row(found, longest, f"{key}_symbols")])
    layers = [f"layer {layer}" for layer in ALONG]
    random = [f"random weights, layer {layer}" for layer in (1, LAYER)]
    return Table("", ["ARI with the task", *layers, *random, "bag of tokens"], rows)


def _by_number(found: Findings) -> dict[int, Runs]:
    """The conditions by their number of demonstrations, in order."""
    by_number = {int(c.runs[0].config["task"]["n_demonstrations"]): c for c in found.conditions}
    return dict(sorted(by_number.items()))


def _row(found: Findings, conditions: Mapping[int, Runs], key: str, layer: int = 0) -> list[str]:
    metric = found.catalogue[key]
    return [printed(_estimate(condition, metric, layer)) for condition in conditions.values()]


def _estimate(condition: Runs, metric: Metric, layer: int) -> Interval:
    key = metric.at("val", layer)
    return estimate(condition, lambda run: number(run.last, key), metric.range)
