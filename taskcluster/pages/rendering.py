"""Charts and tables into files: pictures for a paper, and pages that need no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from taskcluster.pages.charts import theme
from taskcluster.pages.marks import Chart
from taskcluster.pages.vega import library
from taskcluster.runs.verdicts import verdict
from taskcluster.work import each

FROM_SVG = {"svg": str.encode, "png": lambda svg: vl_convert.svg_to_png(svg, scale=2), "pdf": vl_convert.svg_to_pdf}

_templates = Environment(
    loader=PackageLoader("taskcluster", "pages"),
    autoescape=select_autoescape(),  # in .html
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def draw(charts: Mapping[str, Chart], folder: Path, formats: Sequence[str]) -> dict[str, Any]:
    """Write every chart as folder/NAME.FORMAT (png, svg, pdf); gives the specifications, for a page."""
    specifications = {name: chart.to_dict(validate=False) | {"config": theme()} for name, chart in charts.items()}
    for name, specification in each(specifications.items(), "chart"):
        still = {key: value for key, value in specification.items() if key != "params"}  # zooming cuts off the edges
        svg = vl_convert.vegalite_to_svg(still)
        for kind in formats:
            (folder / f"{name}.{kind}").write_bytes(FROM_SVG[kind](svg))
    return specifications


def render(template: str, **values: Any) -> str:
    """A page from a template of this folder. A chart of the value `charts` is live where the template has its name."""
    return _templates.get_template(template).render(library=library, verdict=verdict, **values)
