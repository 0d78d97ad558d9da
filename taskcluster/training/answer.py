"""Print the results of a run or an analysis at its end: single numbers, curves by layer, decided claims.

in:  a run folder with its results
out: tables of what its measures show (`taskcluster.views`), each metric beside its baselines. Free of torch
"""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskcluster.metrics import Catalogue, Metric, belonging
from taskcluster.results.claims import judged, verdict
from taskcluster.results.contrasts import highest_beside
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import Row, fixed, layers_of, number
from taskcluster.runs.records import text
from taskcluster.views import shown

STYLES = {True: "green", False: "red"}
COLUMNS = 11  # layers of a table, at most


def show(run: RunFolder, console: Console) -> None:
    """Print the last metrics, the verdict on every decided claim, and the location of the files."""
    results = run.results()
    final, known = results["final"], run.catalogue()
    for metric in shown(known, "runs", by_layer=False):
        console.print(f"validation {metric.title} {fixed(number(final, metric.stem('val')))} at step {final['step']}")
    for table in [*_by_place(final, known), *_by_layer(final, known), *_claims(results)]:
        console.print(table)
    for metric in shown(known, "runs", by_layer=True):
        if line := highest_beside(final, known, metric):
            console.print(line, soft_wrap=True)
    console.print(f"Everything is in {text(str(run.path))} (open figures/index.html)", soft_wrap=True)


def _by_place(final: Row, known: Catalogue) -> list[Table]:
    """Return rows of single numbers, such as those of prompts without and with demonstrations."""
    places: dict[str, dict[str, Metric]] = {}
    for metric in shown(known, "tables", by_layer=False):
        if metric.where and not metric.kind and metric.stem("val") in final:
            places.setdefault(metric.where, {})[metric.name] = metric
    groups: list[list[str]] = []
    for place, named in places.items():
        group = next((one for one in groups if named.keys() & places[one[0]].keys()), None)
        groups.append([place]) if group is None else group.append(place)
    tables = []
    for group in groups:
        names = dict.fromkeys(name for place in group for name in places[place])
        table = _table("Validation", "", *names)
        for place in group:
            metrics = (places[place].get(name) for name in names)
            table.add_row(place, *(_number(final, metric, known) for metric in metrics))
        tables.append(table)
    return tables


def _number(final: Row, metric: Metric | None, known: Catalogue) -> str:
    """A number, with its interval over tasks where it has one."""
    if metric is None:
        return ""
    value = number(final, metric.stem("val"))
    if metric.name == "layer" and value == value:
        return f"{value:.0f}"
    ends = [number(final, end.stem("val")) for end in belonging(known, metric, "lower", "upper")]
    said = f" [{', '.join(map(fixed, ends))}]" if ends and all(map(math.isfinite, ends)) and ends[0] < ends[1] else ""
    return fixed(value) + said


def _by_layer(final: Row, known: Catalogue) -> list[Table]:
    """A row for each metric, and below it what it is compared with; a column for each layer, or for some of many."""
    rows: list[tuple[str, list[float]]] = []
    printed = {*shown(known, "runs", by_layer=True), *shown(known, "end", by_layer=True)}
    for metric in filter(printed.__contains__, known.values()):
        beside = [m for m in belonging(known, metric, "baseline", "chance") if m.by_layer]
        for title, of in ((metric.title, metric), *((f"  {m.where}", m) for m in beside)):
            if values := layers_of(final, of.stem("val")):
                rows.append((title, values))
    every = range(min((len(values) for _, values in rows), default=0))
    whole = [layer for layer in every if all(math.isfinite(values[layer]) for _, values in rows)]
    half = COLUMNS // 2 if len(whole) < len(every) else COLUMNS
    layers = sorted({*_spread(every, half), *_spread(whole, half)})
    table = _table("Validation, by layer", "layer", *map(str, layers))
    for title, values in rows:
        table.add_row(title, *(fixed(values[layer], 2) for layer in layers))
    return [table] if rows else []


def _spread(layers: Sequence[int], n: int) -> list[int]:
    """At most n of the layers, from the first to the last."""
    n = min(n, len(layers))
    return [layers[round(k * (len(layers) - 1) / max(n - 1, 1))] for k in range(n)]


def _claims(results: Row) -> list[Table]:
    """[] where no claim is decided, as of a model that was only measured."""
    table = Table("claim", "paper", "here", "threshold", "verdict", title="The paper's claims", title_justify="left")
    for claim in judged(results):
        if claim["passed"] is not None:
            threshold, said = f"{claim['relation']} {claim['threshold']}", Text(verdict(claim), STYLES[claim["passed"]])
            table.add_row(claim["name"], claim["paper"], fixed(claim["value"]), threshold, said)
    return [table] if table.row_count else []


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(first, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table
