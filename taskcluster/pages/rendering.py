"""Charts and tables into files: pictures for a paper, and pages that need no network."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from taskcluster.pages.charts import theme
from taskcluster.pages.layout import FONT, WIDTHS, colours, fitted
from taskcluster.pages.marks import Chart
from taskcluster.pages.vega import library
from taskcluster.runs.verdicts import verdict

FROM_SVG = {"svg": str.encode, "png": lambda svg: vl_convert.svg_to_png(svg, scale=2), "pdf": vl_convert.svg_to_pdf}

_templates = Environment(
    loader=PackageLoader("taskcluster", "pages"),
    autoescape=select_autoescape(),  # in .html
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def draw(
    charts: Mapping[str, Chart], folder: Path, formats: Sequence[str], conditions: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Write every chart as folder/NAME.FORMAT (png, svg, pdf). Gives for each chart what a page needs of it: its title,
    its data, and its specification at each of WIDTHS. conditions: the names of all, each with one colour everywhere."""
    known, drawn = colours(conditions), {}
    for name, chart in charts.items():
        whole = chart.to_dict(validate=False)
        layouts = [fitted(whole, width, known) for width in WIDTHS]
        svg = picture(layouts[-1])
        for kind in formats:
            (folder / f"{name}.{kind}").write_bytes(FROM_SVG[kind](svg))
        for layout in layouts:
            layout.pop("title", None)  # the page has it above the chart
        data = layouts[-1]["data"]
        drawn[name] = {
            "title": whole.get("title", name),
            "data": data,
            "layouts": [layout | {"data": {}} for layout in layouts],
        }
    return drawn


def picture(specification: Mapping[str, Any], font: float = FONT) -> str:
    """A chart as SVG, on white."""
    still = {key: value for key, value in specification.items() if key != "params"}  # zooming cuts off the edges
    params = [{"name": p["name"], "value": p["value"]} for p in specification.get("params", []) if "value" in p]
    return vl_convert.vegalite_to_svg({**still, "params": params, "config": settings(font=font)})


def settings(dark: bool = False, font: float = FONT) -> dict[str, Any]:
    """Vega-Lite's `config` of charts with letters of `font` pixels and legends below."""
    config = theme(dark)
    small = {"labelFontSize": font, "titleFontSize": font, "titleFontWeight": "normal"}
    below = {"orient": "bottom", "layout": {"bottom": {"anchor": "start", "direction": "vertical"}}}
    config["legend"] |= small | below | {"direction": "horizontal", "titleOrient": "left", "titleLimit": 0}
    config["axis"] |= small | {"titleLimit": 0, "labelSeparation": font / 2}
    config["header"] |= small | {"labelPadding": 4}
    config["title"] = {"fontSize": font * 1.2, "anchor": "start", "frame": "group"}
    return config


def render(template: str, **values: Any) -> str:
    """A page from a template of this folder, with the charts of the value `charts` (`draw`)."""
    themes = {"light": settings(), "dark": settings(dark=True)}
    values |= {"library": library, "verdict": verdict, "judged": _judged, "themes": themes, "widths": WIDTHS}
    return _templates.get_template(template).render(**values)


def _judged(cell: str) -> Markup:
    """The class of a table's cell that says in how many runs a claim holds."""
    held = re.search(r"holds in (\d+) of (\d+)", cell)
    if not held or held[1] not in ("0", held[2]):
        return Markup("")
    return Markup(' class="pass"' if held[1] != "0" else ' class="fail"')
