"""Pictures of one run: PNG and SVG for a paper, and a page that works without network.

in:  a run folder with its journal, results and checkpoints; the measurement and the network that it trained
out: figures/NAME.png, figures/NAME.svg, figures/index.html, and figures/tsne.json for the dashboard
"""

import json
from typing import Any

from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from transformers import PreTrainedModel

from taskcluster import pages, plots
from taskcluster.aggregate import over_runs
from taskcluster.checkpoints import load_weights
from taskcluster.measurement import Measurement, observe
from taskcluster.runs import RunFolder

TSNE_STATES = 300  # a panel; more only crowd it
TSNE_STEPS = 7  # at most


def draw(run: RunFolder, n_tasks: int, measurement: Measurement, network: PreTrainedModel) -> None:
    """Write every figure of a finished run."""
    points = [{"condition": run.name, **point} for point in over_runs([run.rows()])]
    of_tsne = tsne_points(run, measurement, network)
    (run.figures / "tsne.json").write_text(json.dumps({"n_tasks": n_tasks, "points": of_tsne}))
    steps = sorted({point["step"] for point in of_tsne})
    shown = {steps[0], steps[len(steps) // 2], steps[-1]}
    few = plots.inline([point for point in of_tsne if point["step"] in shown])
    title = "t-SNE of validation states at the end of the instruction, coloured by task"
    charts = plots.of_conditions(points) | {"tsne": plots.tsne(few, n_tasks, title)}
    specifications = pages.draw(charts, run.figures, ("png", "svg"))
    page = pages.render("run.html", title=run.name, claims=run.results()["claims"], charts=specifications)
    (run.figures / "index.html").write_text(page)


def tsne_points(run: RunFolder, measurement: Measurement, network: PreTrainedModel) -> list[dict[str, Any]]:
    """t-SNE (van der Maaten and Hinton, 2008) of validation states at three layers, checkpoint after checkpoint.

    Each starts from the picture before it, so that points move only where states do.
    """
    steps = [row["step"] for row in run.rows()]
    n_layer = network.config.num_hidden_layers
    rows, points = measurement.probe["val"], []
    before: dict[int, Any] = {}
    for step in sorted({steps[round(k * (len(steps) - 1) / (TSNE_STEPS - 1))] for k in range(TSNE_STEPS)}):
        network.load_state_dict(load_weights(run.checkpoint(step)))
        states = observe(network, rows, measurement.loss_on).states["instruction_end"][:, :TSNE_STATES]
        for layer in sorted({0, (n_layer + 1) // 2, n_layer}):
            start = before[layer] / before[layer].std(0) * 1e-4 if layer in before else "pca"  # as small as pca's
            settings = {"perplexity": min(30, states.shape[1] / 4), "max_iter": 500, "random_state": 0, "init": start}
            with threadpool_limits(1, user_api="blas"):
                before[layer] = TSNE(**settings).fit_transform(states[layer].numpy())
            points += [
                {"step": step, "layer": layer, "x": round(float(x), 2), "y": round(float(y), 2), "task": task}
                for (x, y), task in zip(before[layer], rows.task_ids[: states.shape[1]].tolist(), strict=True)
            ]
    return points
