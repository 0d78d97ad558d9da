"""Charts fitted to a width: how many panels stand beside each other, how wide they are, and how labels are broken.

in:  the specification of a chart with its points, as `altair.Chart.to_dict` gives it; a width in pixels
out: a specification of that width, whose legend is whole and below the panels

A page has a layout for each of WIDTHS and shows the widest that fits; pictures have the last.
"""

import json
import math
from collections.abc import Iterator, MutableMapping, Sequence
from copy import deepcopy
from itertools import product
from textwrap import wrap
from typing import Any

from taskcluster.runs.journal import SPLITS

Specification = dict[str, Any]

WIDTHS = (250, 330, 520, 720, 920)  # widths of layouts, in pixels
FONT = 11  # pixels
LETTER = 0.56 * FONT  # the mean width of a letter
PANEL = {"least": 150, "most": 420}
GAP = 20  # between panels
NUMBERS = 46  # width of an axis with numbers and a title
THIN = 8  # layers that a legend names
BETWEEN = " · "  # names of a panel
CONDITIONS = (
    "#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b", "#ff9da6", "#9d755d", "#bab0ac",
)  # fmt: skip
OTHERS = ("#1b9e77", "#d95f02", "#8580c8", "#e7298a", "#66a61e", "#c89600", "#a6761d", "#888888")

Colours = MutableMapping[str, str]  # by name of a condition or of anything else that has a line


def colours(conditions: Sequence[str]) -> Colours:
    """A colour for each condition, as on the dashboard: a ramp if there are many."""
    n = len(conditions)
    ramp = [f"hsl({round(265 - 250 * k / max(n - 1, 1))}, 58%, 52%)" for k in range(n)]
    return dict(zip(conditions, CONDITIONS if n <= len(CONDITIONS) else ramp, strict=False))


def fitted(specification: Specification, width: int, known: Colours) -> Specification:
    """A chart as wide as `width` pixels or less. known: colours that names have; names that have none get one."""
    spec = {**deepcopy({**specification, "data": None}), "data": specification["data"]}  # which stays as it is
    letters = int(width / LETTER)
    if isinstance(spec.get("title"), str):
        spec["title"] = wrap(spec["title"], int(letters / 1.4))  # larger and bold
    names = _panels(spec)
    named = [axis for axis in _channels(spec, "y") if axis.get("type") == "nominal"]
    lines = {axis["field"]: _break(axis, spec, 18 if width < WIDTHS[-2] else 30) for axis in named}
    longest = max((len(line) for field in lines.values() for broken in field.values() for line in broken), default=0)
    labels = max(0.0, longest * LETTER - NUMBERS / 2)
    columns, panel = _columns(spec, len(names), width - labels, spec.get("columns"))
    if "facet" in spec:
        broken = {name: _header(name, int(panel / LETTER)) for name in names}
        header = {"labelExpr": _lookup(broken), "labelLimit": 0, "title": None}
        spec |= {"columns": columns, "facet": {**spec["facet"], "header": header}}
        if len(names) % columns:  # or the empty places of the last row would have axes
            spec["resolve"] = {**spec.get("resolve", {}), "axis": {"x": "independent"}}
    elif "concat" in spec:
        spec["columns"] = columns
    tallest = max((len(broken) for field in lines.values() for broken in field.values()), default=1)
    _resize(spec, panel, tallest)
    for axis in [*_channels(spec, "x"), *_channels(spec, "y")]:
        if axis.get("type") == "ordinal":
            _thin(axis, spec, panel)
    for channel in ("color", "strokeDash"):
        for encoding in _channels(spec, channel):
            _legend(encoding, spec, letters, known)
    return spec


def _break(axis: Specification, spec: Specification, letters: int) -> dict[str, list[str]]:
    """Break the labels of an axis of names into lines; gives the lines of each."""
    lines = {str(name): wrap(str(name), letters) for name in _names(axis, spec)}
    axis["axis"] = {**(axis.get("axis") or {}), "labelExpr": _lookup(lines), "labelLimit": 0}
    return lines


def _thin(axis: Specification, spec: Specification, pixels: float) -> None:
    """Label every second, fifth or tenth value of an ordinal axis, so that all labels have room."""
    values = sorted({point[axis["field"]] for point in spec["data"]["values"] if point[axis["field"]] is not None})
    each = (len(str(values[-1])) + 1) * LETTER if values else 1
    steps = (step * 10**k for k in range(5) for step in (1, 2, 5))
    step = next(step for step in steps if math.ceil(len(values) / step) * each <= pixels)
    axis["axis"] = {**(axis.get("axis") or {}), "values": values[::step], "labelOverlap": False}


def _panels(spec: Specification) -> list[str]:
    """The names of the panels; rows and columns become panels that are wrapped, condition after condition."""
    facet = spec.get("facet")
    if facet is None:
        return [""] * len(spec.get("concat", [spec]))
    if "field" in facet:
        return [str(name) for name in _names(facet, spec)]
    channels = [facet[part] for part in ("row", "column") if part in facet]
    titles = [f"{channel['title']} " if channel.get("title") else "" for channel in channels]
    values = product(*(_names(channel, spec) for channel in channels))
    names = [BETWEEN.join(f"{t}{value}" for t, value in zip(titles, row, strict=True)) for row in values]
    fields = [f"{json.dumps(t)} + datum[{json.dumps(c['field'])}]" for t, c in zip(titles, channels, strict=True)]
    joined = f" + '{BETWEEN}' + ".join(fields)
    spec["columns"] = len(_names(channels[-1], spec))
    spec["transform"] = [*spec.get("transform", []), {"calculate": joined, "as": "panel"}]
    spec["facet"] = {"field": "panel", "type": "nominal", "sort": names}
    spec.pop("spacing", None)
    return names


def _names(channel: Specification, spec: Specification) -> list[Any]:
    """What a channel tells apart, in order: as its chart says, or as in the points."""
    named = channel.get("sort") or (channel.get("scale") or {}).get("domain")
    if isinstance(named, list) and channel.get("field") != "split":
        return named
    values = (point.get(channel.get("field", "")) for point in spec["data"]["values"])
    names = [*dict.fromkeys(value for value in values if value is not None)]
    return sorted(names, key=[*SPLITS].index) if channel.get("field") == "split" else names


def _columns(spec: Specification, n: int, width: float, in_a_row: int | None) -> tuple[int, int]:
    """How many panels are beside each other, and the width of each in pixels."""
    own = NUMBERS if "concat" in spec else 0  # axes of each panel
    room = width - (0 if own else NUMBERS) + GAP
    most = max(1, min(n, int(room // (PANEL["least"] + GAP + own))))
    if in_a_row and most > in_a_row > 1 and n > in_a_row:
        most -= most % in_a_row
    return most, int(min(PANEL["most"], room / most - GAP - own))


def _header(name: str, letters: int) -> list[str]:
    """A panel's name in lines: each part of it, and each setting of a condition, in lines of its own."""
    return [line for part in name.split(BETWEEN) for line in broken(SPLITS.get(part, part), max(letters, 12))]


def broken(name: str, letters: int) -> list[str]:
    """A name in lines of at most so many letters, broken after commas and spaces; of a longer word the end is kept,
    as that has the value."""
    lines = wrap(name, letters, break_long_words=False, break_on_hyphens=False) or [""]
    return [line if len(line) <= letters else f"…{line[1 - letters :]}" for line in lines]


def _legend(encoding: Specification, spec: Specification, letters: int, known: Colours) -> None:
    """A legend below the panels in as many columns as there is room for; layers are thinned out."""
    field = encoding.get("field")
    if encoding.get("legend", {}) is None or encoding.get("type") == "quantitative":
        return
    names = [*SPLITS] if field == "split" else _names(encoding, spec)
    legend = encoding.get("legend") or {}
    if field == "layer":
        layers = sorted(names)
        legend["values"] = layers[:: math.ceil(len(layers) / THIN)]
        longest = 4
    else:
        shown = {str(name): broken(str(name), letters - 6) for name in names}
        longest = max((len(line) for lines in shown.values() for line in lines), default=1)
        if field != "split":
            legend |= {"labelExpr": _lookup(shown), "labelLimit": 0, "symbolLimit": 0}
            for name in shown if field != "baseline" else ():  # in the first colour that the chart does not have
                used = [known[one] for one in shown if one in known]
                known.setdefault(
                    name, next((one for one in OTHERS if one not in used), OTHERS[len(used) % len(OTHERS)])
                )
    if field not in ("layer", "split", "baseline"):
        encoding["scale"] = {"domain": names, "range": [known[str(name)] for name in names]}
    if field == "condition" and len(names) == 1:
        encoding["legend"] = None
        return
    encoding["legend"] = legend | {"columns": max(1, min(len(names), letters // (longest + 7)))}


def _resize(node: Any, panel: int, lines: int) -> None:
    """Give every panel its width, and rows of cells the height of so many lines; cells that are too narrow for numbers
    have none."""
    if "width" in node:
        cells = node["width"] if isinstance(node["width"], dict) else None
        node["width"] = panel
        if isinstance(node.get("height"), int):
            node["height"] = min(node["height"], max(110, int(panel * 0.8)))
        elif isinstance(node.get("height"), dict):
            node["height"] = {"step": max(24, (lines + 0.5) * 1.25 * FONT)}
        if cells:
            n = max(len(x["scale"]["domain"]) for x in _channels(node, "x"))
            kept = [one for one in node["layer"] if one["mark"]["type"] != "text" or panel / n > 2.4 * FONT]
            node["layer"] = kept
    for part in (*([node["spec"]] if "spec" in node else []), *node.get("concat", [])):
        _resize(part, panel, lines)


def _channels(node: Any, name: str) -> Iterator[Specification]:
    """The encodings of a channel by a field, in all panels and layers."""
    parts = node if isinstance(node, list) else [v for k, v in node.items() if k != "data"]
    for part in parts:
        if isinstance(part, list | dict):
            yield from _channels(part, name)
    if isinstance(node, dict) and isinstance(node.get("encoding"), dict) and "field" in node["encoding"].get(name, {}):
        yield node["encoding"][name]


def _lookup(lines: Any) -> str:
    """An expression of the lines that a label is shown in."""
    return f"({json.dumps(lines)})[datum.label]"
