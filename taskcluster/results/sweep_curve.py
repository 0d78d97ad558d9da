"""How the end of a run depends on a number that a sweep varies, such as how many tasks. Free of torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from taskcluster.metrics import Catalogue, Metric
from taskcluster.results.conditions import Condition
from taskcluster.results.points import Point

FEWEST = 3  # values of a key that make a curve


class Swept(NamedTuple):
    """A key whose value is a number, and those conditions that differ in nothing else: {name: value}."""

    key: str
    values: dict[str, float]


def swept(named: Sequence[tuple[str, Condition[Any]]]) -> Swept | None:
    """The key with the most values among conditions that are otherwise alike; None if no key has `FEWEST`."""
    best: Swept | None = None
    for key in dict.fromkeys(key for _, condition in named for key in condition.settings):
        groups: dict[str, dict[str, float]] = {}
        for name, condition in named:
            value = condition.settings.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                alike = {"sweep": condition.sweep} | condition.settings | {key: None}
                groups.setdefault(str(alike), {})[name] = value
        largest = max(groups.values(), key=len, default={})
        if len(set(largest.values())) >= max(FEWEST, len(best.values) + 1 if best else 0):
            best = Swept(key, dict(sorted(largest.items(), key=lambda item: item[1])))
    return best


def against(points: Sequence[Point], sweep: Swept, metrics: Sequence[Metric]) -> list[Point]:
    """The points of metrics on validation at the last step, in the last layer, each with the "value" of the key."""
    keys = {metric.key for metric in metrics}
    chosen = [p for p in points if p["split"] == "val" and p["metric"] in keys and p["condition"] in sweep.values]
    chosen.sort(key=lambda p: (p["step"], -1 if p["layer"] is None else p["layer"]))
    last = {(point["condition"], point["metric"]): point for point in chosen}
    return [point | {"value": sweep.values[point["condition"]]} for point in last.values()]


def comparable(known: Catalogue) -> list[Metric]:
    """Metrics between 0 and 1 that are shown beside a run, or as a map."""
    return [metric for metric in known.values() if metric.emerges and not {"runs", "map"}.isdisjoint(metric.views)]
