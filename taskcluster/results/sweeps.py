"""How the end of a run moves with a number that a sweep varies: how many tasks, say. Free of torch.

in:  the conditions of findings, points of `aggregate.over_runs` with their condition
out: Swept: the key, and for each of its values the metrics of the catalogue at the last step, in the last layer
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from taskcluster.metrics import Catalogue, Metric
from taskcluster.results.aggregate import Condition, Point
from taskcluster.views import views

FEWEST = 3  # values of a key that make a curve


class Swept(NamedTuple):
    """A key whose value is a number, and those conditions that differ in nothing else: {name: value}."""

    key: str
    values: dict[str, float]


def swept(named: Sequence[tuple[str, Condition[Any]]]) -> Swept | None:
    """The key with the most values among conditions that are otherwise alike; None where no key has `FEWEST`."""
    best: Swept | None = None
    for key in dict.fromkeys(key for _, condition in named for key in condition.settings):
        groups: dict[str, dict[str, float]] = {}
        for name, condition in named:
            value = condition.settings.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                groups.setdefault(str(_others(condition, key)), {})[name] = value
        largest = max(groups.values(), key=len, default={})
        if len(set(largest.values())) >= max(FEWEST, len(best.values) + 1 if best else 0):
            best = Swept(key, dict(sorted(largest.items(), key=lambda item: item[1])))
    return best


def _others(condition: Condition[Any], key: str) -> Mapping[str, Any]:
    """What tells a condition from others of its sweep, but for one key."""
    return {"sweep": condition.sweep} | {name: value for name, value in condition.settings.items() if name != key}


def against(points: Sequence[Point], found: Swept, metrics: Sequence[Metric]) -> list[Point]:
    """The points of metrics on validation at the last step, in the last layer, each with the "value" of the key."""
    chosen = {metric.key for metric in metrics}
    ends: dict[tuple[str, str], Point] = {}
    for point in points:
        if point["split"] == "val" and point["metric"] in chosen and point["condition"] in found.values:
            place = (point["condition"], point["metric"])
            if place not in ends or _order(point) >= _order(ends[place]):
                ends[place] = point
    return [point | {"value": found.values[point["condition"]]} for point in ends.values()]


def _order(point: Point) -> tuple[int, int]:
    return point["step"], -1 if point["layer"] is None else point["layer"]


def comparable(known: Catalogue) -> list[Metric]:
    """Metrics between 0 and 1 that are shown beside a run, or as a map."""
    return [metric for metric in known.values() if metric.emerges and not {"runs", "map"}.isdisjoint(views(metric))]
