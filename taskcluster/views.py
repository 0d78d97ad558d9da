"""Which metrics the terminal, the figures, the report and the dashboard show. Free of torch.

"runs": the last value beside each run, on the terminal and in the dashboard; "curves": against the step, in figures,
report, dashboard and W&B; "layers": by layer at the last step, likewise, in the dashboard if it is among its curves;
"tables": in the tables of the report. A metric that is not named here, of a measure of your own, is in these four.

"map": by layer and step, in figures, report and dashboard, beside the curves of the same position; "path": by layer and
position at the last step, likewise, for effects of edits; "instruments": beside the others of this view, in figures and
report, with how far they agree; "beside": beside the metric that it is compared with; "end": printed at the end of a
run, beside those of "runs".

"matrix": a number for every pair of layers at the last step, in figures, report and dashboard; "examples": how the
numbers of examples are distributed at the last step, in figures.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from taskcluster.metrics import ALWAYS, PLACES, Catalogue, Kind, Metric, View

MOST_HEADLINES = 5
DEFAULT: tuple[View, ...] = ("runs", "curves", "layers", "tables")

AT_ANSWER = "(_at_answer)?"
PLACE = f"({'|'.join(PLACES)})"
ALPHA = r"(_alpha_\w+)?"

SHOWN: dict[str, tuple[View, ...]] = {  # a pattern of keys -> their views; the first that matches counts
    "loss": ("curves", "tables"),
    f"ari|ari_within_x{AT_ANSWER}": (*DEFAULT, "instruments"),
    "ari_at_input": ("beside",),
    r"ari_at_demonstration_\d+": ("layers", "tables"),
    f"ari_within_x_to_y{AT_ANSWER}": ("layers",),
    "ari_within_regex|ari_across_regexes": ("curves", "layers", "tables"),
    r"ari\w*_fixed_k": ("tables",),
    "(nmi|inertia)(_at_input|_at_answer)?": (),
    "(ari_of_)?chosen_k": ("layers", "tables"),
    r"ari_of_k_times_\w+|probe_control(_at_input|_at_answer)?": ("layers",),
    "probe(_at_input|_at_answer)?": ("curves", "layers", "tables", "instruments"),
    "selectivity(_at_input|_at_answer)?|ami|silhouette|silhouette_of_tasks": ("tables", "instruments"),
    "neighbours|neighbours_within_x": ("tables", "instruments"),
    "homogeneity|completeness": (),
    "clean_a|clean_b|source_b|equal_length": ("tables",),
    f"effect_add_{PLACE}": (*DEFAULT, "map", "instruments"),
    "effect_interchange_instruction": ("curves", "layers", "tables", "map", "path"),
    f"effect_interchange_{PLACE}": ("layers", "tables", "path"),
    f"effect_(add|replace|cluster)_{PLACE}{ALPHA}|kept_(ablate|keep|mean)_{PLACE}": ("layers", "tables"),
    f"effect_random_{PLACE}": ("tables", "end"),
    rf"effect_\w+_{PLACE}{ALPHA}|kept_random_subspace_{PLACE}": ("tables",),
    rf"(kept|recovered)_\w+_{PLACE}{ALPHA}": (),
    "(first_token|whole_answer)_(zero_shot|shuffled|few_shot)": ("tables",),
    r"vector_\w+_(chosen|chosen_whole|layer)": ("tables",),
    r"vector_\w+_whole": (),
    r"vector_\w+": ("layers", "tables"),
}


def views(metric: Metric) -> tuple[View, ...]:
    """Where a metric is shown besides the journal."""
    if metric.by_two_layers:
        return ("matrix",) if metric.views is None or "matrix" in metric.views else ()
    if metric.views is None and metric.by_example:
        return (*_views(metric.key, metric.kind), "examples")
    return _views(metric.key, metric.kind) if metric.views is None else metric.views


@lru_cache(maxsize=4096)
def _views(key: str, kind: Kind) -> tuple[View, ...]:
    if kind:
        return ("beside",) if kind in ("baseline", "nuisance") else ()
    return next((where for pattern, where in SHOWN.items() if re.fullmatch(pattern, key)), DEFAULT)


def shown(known: Catalogue, view: View, by_layer: bool | None = None) -> list[Metric]:
    """The metrics of a view, in order; by_layer: only those with a number for each layer, or only the others."""
    return [m for m in known.values() if view in views(m) and by_layer in (None, m.by_layer)]


def headlines(known: Catalogue, keys: Iterable[str]) -> list[str]:
    """Return the main keys of the journal: accuracy and loss on validation, and the last layer of each main metric."""
    there, chosen = [*keys], [metric.stem("val") for metric in ALWAYS]
    for metric in shown(known, "runs", by_layer=True):
        layers = [key for key in there if key.startswith(f"{metric.stem('val')}/layer_")]
        chosen += sorted(layers, key=lambda key: int(key.rpartition("_")[2]))[-1:]
    return [key for key in chosen if key in there][:MOST_HEADLINES]


def mapped(known: Catalogue, view: Literal["map", "path"]) -> list[Metric]:
    """The metrics of a map, and beside them the curves of what is measured, not edited, at the same positions; []
    without any."""
    tiles = shown(known, view, by_layer=True)
    positions = {metric.position for metric in tiles}
    effects = shown(known, "map") + shown(known, "path")
    return tiles + [m for m in shown(known, "curves", True) if m.position in positions and m not in effects]
