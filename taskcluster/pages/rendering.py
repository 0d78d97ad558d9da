"""Write charts and tables to files: pictures for a paper, and pages that need no network."""

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
from taskcluster.results.claims import verdict
from taskcluster.validation import UserError
from taskcluster.work import each

FROM_SVG = {"svg": str.encode, "png": lambda svg: vl_convert.svg_to_png(svg, scale=2), "pdf": vl_convert.svg_to_pdf}

PRINTED = 7  # points: the letters of a figure for a paper
DPI = 300

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
    for name, chart in each(charts.items(), "chart"):
        whole = chart.to_dict(validate=False)
        layouts = [fitted(whole, width, known) for width in WIDTHS]
        svg = picture(layouts[-1]) if formats else ""
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


def for_paper(chart: Chart, points: float, file: Path, conditions: Sequence[str], layer: int | str = "last") -> None:
    """Write a chart without its title as FILE.pdf and FILE.png, so many points wide, letters of PRINTED points, the
    PNG with DPI. layer: of a chart that shows one.

    Raises UserError for a layer that the chart does not have.
    """
    layout = fitted(chart.to_dict(validate=False), int(points * FONT / PRINTED), colours(conditions))
    layout.pop("title", None)
    choices = [parameter for parameter in layout.get("params", []) if parameter["name"] == "layer"]
    if layer not in [option for choice in choices for option in choice["bind"]["options"]] + ["last"]:
        least = f"it has layers 0 to {choices[0]['bind']['options'][-1]}" if choices else "it does not choose a layer"
        raise UserError(f"--layer {layer} is not in the figure {file.name}: {least}; choose one, or leave --layer out")
    for choice in choices:
        choice["value"] = layer
    svg = picture(layout)
    width, height = (float(re.search(rf'{side}="([\d.]+)"', svg)[1]) for side in ("width", "height"))  # type: ignore[index]
    size = f'width="{points}" height="{height * points / width}"'
    svg = re.sub(r'width="[\d.]+" height="[\d.]+"', size, svg, count=1)
    file.with_name(f"{file.name}.pdf").write_bytes(vl_convert.svg_to_pdf(svg))
    file.with_name(f"{file.name}.png").write_bytes(vl_convert.svg_to_png(svg, ppi=DPI))


def picture(specification: Mapping[str, Any]) -> str:
    """A chart as SVG, on white, without a label on every mark for screen readers, which would be half of the file."""
    still = {key: value for key, value in specification.items() if key != "params"}  # zooming cuts off the edges
    params = [{"name": p["name"], "value": p["value"]} for p in specification.get("params", []) if "value" in p]
    return vl_convert.vegalite_to_svg({**still, "params": params, "config": settings() | {"aria": False}})


def settings(dark: bool = False) -> dict[str, Any]:
    """Vega-Lite's `config` of charts with legends below."""
    config = theme(dark)
    small = {"labelFontSize": FONT, "titleFontSize": FONT, "titleFontWeight": "normal"}
    below = {"orient": "bottom", "layout": {"bottom": {"anchor": "start", "direction": "vertical"}}}
    config["legend"] |= small | below | {"direction": "horizontal", "titleOrient": "left", "titleLimit": 0}
    config["axis"] |= small | {"titleLimit": 0, "labelSeparation": FONT / 2}
    config["header"] |= small | {"labelPadding": 4}
    config["title"] = {"fontSize": FONT * 1.2, "anchor": "start", "frame": "group"}
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
