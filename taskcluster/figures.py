"""Pictures of one run: PNG and SVG for a paper, and a page that works without network.

in:  a run folder with its journal, results and checkpoints; the data and the network that it trained
out: figures/NAME.png, figures/NAME.svg, figures/index.html
"""

import html
import json
from collections.abc import Mapping
from typing import Any

import vl_convert
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from transformers import PreTrainedModel

from taskcluster import plots
from taskcluster.checkpoints import load_weights
from taskcluster.datamodule import SequenceDataModule
from taskcluster.measurement import observe
from taskcluster.runs import RunFolder

ACTIONS = '{"actions": {"export": true, "source": false, "compiled": false, "editor": false}}'  # of a chart's menu
TSNE_STATES = 500  # a panel; more only crowd it

AT_SEPARATOR = "end of the instruction"
WITHIN_X = "at x, within each value of x"


def draw(run: RunFolder, data: SequenceDataModule, network: PreTrainedModel) -> None:
    """Write every figure of a finished run."""
    rows = run.rows()
    charts = {
        "ari": plots.ari_against_step(rows, "ari", f"ARI of clusters and tasks, {AT_SEPARATOR}"),
        "ari_within_x": plots.ari_against_step(rows, "ari_within_x", f"ARI of clusters and tasks, {WITHIN_X}"),
        "ari_by_layer": plots.final_ari_by_layer(
            rows[-1],
            {"ari": AT_SEPARATOR, "ari_within_x": WITHIN_X, "ari_within_x_to_y": f"{WITHIN_X}, against y"},
        ),
        "tsne": plots.tsne_grid(_tsne_points(run, data, network), len(data.family.tasks)),
    }
    specifications = {name: chart.to_dict() for name, chart in charts.items()}  # slow: Altair checks every point
    for name, specification in specifications.items():
        (run.figures / f"{name}.svg").write_text(vl_convert.vegalite_to_svg(specification))
        (run.figures / f"{name}.png").write_bytes(vl_convert.vegalite_to_png(specification, scale=2))
    (run.figures / "index.html").write_text(_page(run, specifications))


def _tsne_points(run: RunFolder, data: SequenceDataModule, network: PreTrainedModel) -> list[dict[str, Any]]:
    """t-SNE (van der Maaten and Hinton, 2008) of an early, a middle and the last checkpoint, at three layers."""
    steps = [row["step"] for row in run.rows()]
    n_layer = network.config.num_hidden_layers
    rows = data.probe["val"]
    points = []
    for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]}):
        network.load_state_dict(load_weights(run.checkpoint(step)))
        states = observe(network, rows, data.loss_on).states["instruction_end"][:, :TSNE_STATES]
        perplexity = min(30, states.shape[1] / 4)
        for layer in sorted({0, (n_layer + 1) // 2, n_layer}):
            with threadpool_limits(1, user_api="blas"):
                flat = TSNE(perplexity=perplexity, max_iter=500, random_state=0).fit_transform(states[layer].numpy())
            points += [
                {"step": step, "layer": layer, "x": round(float(x), 2), "y": round(float(y), 2), "task": task}
                for (x, y), task in zip(flat, rows.task_ids[: states.shape[1]].tolist(), strict=True)
            ]
    return points


def _page(run: RunFolder, specifications: Mapping[str, Any]) -> str:
    """All charts, live, with the verdict above them; scripts inlined."""
    title = html.escape(run.name)
    claims = "".join(
        f"<tr><td>{html.escape(c['name'])}</td><td>{html.escape(c['paper'])}</td><td>{_shown(c['value'])}</td>"
        f"<td>{html.escape(c['relation'])} {c['threshold']}</td><td>{'pass' if c['passed'] else 'FAIL'}</td></tr>"
        for c in run.results()["claims"]
    )
    boxes = "".join(f'<section id="{name}"></section>' for name in specifications)
    inlined = json.dumps(specifications).replace("</", "<\\/")
    library = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # Vega and vega-embed
    embed = f"for (const [name, chart] of Object.entries({inlined})) vegaEmbed('#' + name, chart, {ACTIONS});"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
td, th {{ text-align: left; padding: .2rem .8rem .2rem 0 }} section {{ margin: 2rem 0 }}</style>
<h1>{title}</h1>
<table><tr><th>claim</th><th>paper</th><th>here</th><th>threshold</th><th>verdict</th></tr>{claims}</table>
{boxes}
<script>{library}</script><script>{embed}</script></html>
"""


def _shown(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3f}"
