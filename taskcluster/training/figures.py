"""Pictures of one run: PNG and SVG for a paper, and a page that works without network.

in:  a run folder with its journal, results and checkpoints; for t-SNE also the data and the network
out: figures/NAME.png, figures/NAME.svg, figures/index.html, and figures/tsne.json for the dashboard
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Event
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from taskcluster.measures.observation import Observation, observe
from taskcluster.pages import charts, instruments, marks, rendering
from taskcluster.results.aggregate import over_runs
from taskcluster.results.instruments import agreements_of
from taskcluster.runs.atomic_files import replace_file
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.resume import DRAWN
from taskcluster.runs.verdicts import judged
from taskcluster.training.loading import LoadedRun
from taskcluster.training.snapshots import AT, Snapshots, layers, spread

FEWEST = 4  # distinct states that t-SNE is given
RANGE = 1e-6, 1e6  # of distances to the mean, whose squares float32 holds


def forget(run: RunFolder) -> None:
    """Remove what would be taken for the figures of this run, from when it had fewer steps."""
    for outdated in DRAWN:
        with suppress(OSError):
            (run.figures / outdated).unlink()


def write_tsne(loaded: LoadedRun, snapshots: Snapshots) -> None:
    """Write tsne.json of a finished run."""
    n_tasks, points = len(loaded.data.family.tasks), tsne_points(loaded, snapshots)
    replace_file(loaded.run.figures / "tsne.json", json.dumps({"n_tasks": n_tasks, "points": points}).encode())


def draw(run: RunFolder) -> None:
    """Write every figure of a finished run, that of t-SNE if its points are there, and at the end the page."""
    known, rows = run.catalogue(), run.rows()
    points = [{"condition": run.name, **point} for point in over_runs([rows], known)]
    wanted = charts.of_conditions(points, known)
    wanted |= instruments.of_conditions(points, {run.name: agreements_of([rows], known)}, known)
    if (run.figures / "tsne.json").is_file():
        wanted["tsne"] = _tsne_chart(**json.loads((run.figures / "tsne.json").read_text(encoding="utf-8")))
    specifications = rendering.draw(wanted, run.figures, ("png", "svg"))
    page = rendering.render("run.html", title=run.name, claims=judged(run.results()), charts=specifications)
    replace_file(run.figures / "index.html", page.encode())


def tsne_points(loaded: LoadedRun, snapshots: Snapshots) -> list[dict[str, Any]]:
    """t-SNE (van der Maaten and Hinton, 2008) of validation states at three layers, measured step after measured
    step."""

    def observed(step: int) -> Observation:
        loaded.go_to(step)
        return observe(loaded.network, loaded.data, "val", [AT])

    steps = spread([row["step"] for row in loaded.run.rows()])
    states = [snapshots.of(step, observed) for step in steps]
    tasks = loaded.data.probe["val"].labels(AT)["task"][: len(states[0][0])].tolist()
    # One thread for each layer: OpenMP's own threads wait for each other, and for long beside other work.
    one_each = ThreadPoolExecutor(torch.get_num_threads(), initializer=threadpool_limits, initargs=(1, "openmp"))
    ended = Event()
    with threadpool_limits(1, user_api="blas"), one_each as threads:
        try:
            pictures = list(threads.map(partial(_tsne, ended), zip(*states, strict=True)))
        finally:
            ended.set()  # after a signal, the threads stop early
    return [
        {"step": step, "layer": layer, "x": round(float(x), 2), "y": round(float(y), 2), "task": task}
        for k, step in enumerate(steps)
        for layer, of_layer in zip(layers(loaded.network.config.num_hidden_layers), pictures, strict=True)
        for (x, y), task in zip(of_layer[k], tasks, strict=True)
    ]


def _tsne_chart(n_tasks: int, points: list[dict[str, Any]]) -> charts.Chart:
    """Of three checkpoints: the first, one from the middle, and the last."""
    steps = sorted({point["step"] for point in points})
    shown = {steps[0], steps[len(steps) // 2], steps[-1]}
    few = marks.inline([point for point in points if point["step"] in shown])
    return charts.tsne(few, n_tasks, "t-SNE of validation states at the end of the instruction, coloured by task")


def _tsne(ended: Event, checkpoints: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Pictures (N, 2) of states (N, D), each begun from the one before it, so that points move only where states do:
    without early exaggeration, which undoes that (and ends at a larger divergence; benchmarks/README.md).

    Fewer than FEWEST distinct states, or than the perplexity, are projected instead: t-SNE would pull equal ones
    apart. Raises ValueError for states that are not finite.
    """
    pictures: list[np.ndarray] = []
    for states in checkpoints:
        if ended.is_set():
            break
        states = _in_range(states)
        perplexity = min(30, len(states) / 4)
        if len(np.unique(states, axis=0)) < max(FEWEST, perplexity) or states.shape[1] < 2:
            pictures.append(_projected(states))
            continue
        moved = bool(pictures) and (pictures[-1].std(0) > 0).all()
        start = pictures[-1] / pictures[-1].std(0) * 1e-4 if moved else "pca"  # as small as pca's
        tsne = TSNE(perplexity=perplexity, early_exaggeration=1.0, max_iter=250, random_state=0, init=start)
        pictures.append(tsne.fit_transform(states))
    return pictures


def _in_range(states: np.ndarray) -> np.ndarray:
    """The same states, scaled where squares of their distances would leave the range of float32."""
    if not np.isfinite(states).all():
        raise ValueError("the states of a layer are not finite")
    centred = states - states.mean(0, dtype=np.float64)
    farthest = np.abs(centred).max()
    if farthest == 0 or RANGE[0] < farthest < RANGE[1]:
        return states
    scaled: np.ndarray = (centred / farthest).astype(np.float32)
    return scaled


def _projected(states: np.ndarray) -> np.ndarray:
    """States (N, D) on their first two principal axes, (N, 2); 0 along an axis that they do not have."""
    u, sizes, _ = np.linalg.svd(states - states.mean(0, dtype=np.float64), full_matrices=False)
    picture = np.zeros((len(states), 2))
    picture[:, : len(sizes)] = (u * sizes)[:, :2]
    return picture
