"""Pictures of one run: PNG and SVG for a paper, and a page that works without network.

in:  a run folder with its journal, results and checkpoints; for t-SNE also the data and the network
out: figures/NAME.png, figures/NAME.svg, figures/index.html, and figures/tsne.json for the dashboard
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from taskcluster.measures.observation import observe
from taskcluster.pages import charts, comparison_charts, marks, matrix_charts, rendering
from taskcluster.results.answers import answer, asked
from taskcluster.results.claims import judged
from taskcluster.results.correlations import agreements_of
from taskcluster.results.points import matrix_points, over_runs
from taskcluster.runs.atomic_files import replace_file
from taskcluster.runs.folder import RunFolder
from taskcluster.training.loading import LoadedRun
from taskcluster.training.snapshots import AT, Snapshots, drawn, layers, spread

MOST_HUES = 12  # most tasks that colours distinguish
FEWEST = 4  # most distinct states that t-SNE receives


def draw(run: RunFolder) -> None:
    """Write every figure of a finished run, that of t-SNE if its points are there, and at the end the page."""
    known, rows = run.catalogue(), run.rows()
    points = [{"condition": run.name, **point} for point in over_runs([rows], known)]
    wanted = charts.condition_charts(points, known)
    wanted |= comparison_charts.instrument_charts(points, {run.name: agreements_of([rows], known)}, known)
    wanted |= matrix_charts.matrix_charts(
        [{"condition": run.name, **p} for p in matrix_points(rows[-1:], known)], known
    )
    if any(metric.by_example for metric in known.values()):
        wanted |= matrix_charts.example_charts(run.examples(), known)
    if (run.figures / "tsne.json").is_file():
        wanted["tsne"] = _tsne_chart(**json.loads((run.figures / "tsne.json").read_text(encoding="utf-8")))
    drawn = rendering.draw(wanted, run.figures, ("png", "svg"), [run.name])
    said = {"asked": [asked(run.config(), rows[-1]["step"])], "answer": answer(rows, known)}
    page = rendering.render("run.html", title=run.name, claims=judged(run.results()), charts=drawn, **said)
    replace_file(run.figures / "index.html", page.encode())


def write_tsne(loaded: LoadedRun, snapshots: Snapshots) -> None:
    """Write tsne.json of a finished run: t-SNE (van der Maaten and Hinton, 2008) of validation states at three layers,
    measured step after measured step. States that are not among the snapshots are computed again."""
    steps = spread([row["step"] for row in loaded.run.rows()])
    for step in steps:
        if step not in snapshots:
            loaded.go_to(step)
            snapshots[step] = drawn(observe(loaded.network, loaded.data, "val", [AT]))
    states = [snapshots[step] for step in steps]
    tasks = loaded.data.probe["val"].labels(AT)["task"][: len(states[0][0])].tolist()
    # One thread for each layer: OpenMP's own threads wait for each other, and for long beside other work.
    one_each = ThreadPoolExecutor(torch.get_num_threads(), initializer=threadpool_limits, initargs=(1, "openmp"))
    with threadpool_limits(1, user_api="blas"), one_each as threads:
        pictures = list(threads.map(tsne, zip(*states, strict=True)))
    points = [
        {"step": step, "layer": layer, "x": round(float(x), 2), "y": round(float(y), 2), "task": task}
        for k, step in enumerate(steps)
        for layer, by_step in zip(layers(loaded.network.config.num_hidden_layers), pictures, strict=True)
        for (x, y), task in zip(by_step[k], tasks, strict=True)
    ]
    content = {"n_tasks": len(loaded.data.family.tasks), "points": points}
    replace_file(loaded.run.figures / "tsne.json", json.dumps(content).encode())


def _tsne_chart(n_tasks: int, points: list[dict[str, Any]]) -> marks.Chart:
    """Of three checkpoints: the first, one from the middle, and the last."""
    steps = sorted({point["step"] for point in points})
    shown = {steps[0], steps[len(steps) // 2], steps[-1]}
    few = marks.inline([point for point in points if point["step"] in shown])
    title = "t-SNE of validation states at the end of the instruction, coloured by task"
    alike = f"; with {n_tasks} tasks, neighbouring hues look the same, but the tooltip names the task"
    return charts.tsne(few, n_tasks, title + (alike if n_tasks > MOST_HUES else ""))


def tsne(steps: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Pictures (N, 2) of the states (N, D) of each step, each begun from the one before it, so that points move only
    where states do: without early exaggeration, which undoes that (and ends at a larger divergence;
    benchmarks/README.md).

    Fewer than FEWEST distinct states, or than the perplexity, are projected on their principal axes instead: t-SNE
    would pull equal ones apart.
    """
    pictures: list[np.ndarray] = []
    for states in steps:
        perplexity = min(30, len(states) / 4)
        if len(np.unique(states, axis=0)) < max(FEWEST, perplexity):
            with np.errstate(invalid="ignore"):  # the share of a variance that is 0
                pictures.append(PCA(2).fit_transform(states))
            continue
        moved = bool(pictures) and (pictures[-1].std(0) > 0).all()
        start = pictures[-1] / pictures[-1].std(0) * 1e-4 if moved else "pca"  # as small as pca's
        model = TSNE(perplexity=perplexity, early_exaggeration=1.0, max_iter=250, random_state=0, init=start)
        pictures.append(model.fit_transform(states))
    return pictures
