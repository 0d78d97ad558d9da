"""KMeans on real hidden states: ours beside scikit-learn's, in one process, medians of alternating repeats.

in:  the run folder of `make reproduce`
out: a table, and benchmarks/results.json: one row a checkpoint with `ours` and `peer` in seconds for all layers

    python benchmarks/clustering.py [RUN]
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from taskcluster.clustering import Clusterer
from taskcluster.figures import load_weights
from taskcluster.measurement import observe
from taskcluster.progress import quieten
from taskcluster.runs import RunFolder
from taskcluster.train import prepare

REPEATS = 5
N_INIT = 10
RESULTS = Path(__file__).parent / "results.json"

Fit = Callable[[Tensor, int], tuple[Any, float]]  # states (N, D), seed -> labels (N,), inertia


def main(folder: Path) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    quieten()
    run = RunFolder(folder)
    data, network = prepare(yaml.safe_load((folder / "config.yaml").read_text()))
    sequences = data.probe["train"]["instruction_end"]
    steps = [row["step"] for row in run.rows()]
    n_clusters = len(data.family.tasks)

    def ours(states: Tensor, seed: int) -> tuple[Any, float]:
        found = Clusterer(N_INIT, seed).fit(states, n_clusters)
        return found.cluster_labels, found.inertia

    def peer(states: Tensor, seed: int) -> tuple[Any, float]:
        fitted = KMeans(n_clusters, n_init=N_INIT, random_state=seed).fit(states.numpy())
        return fitted.labels_, fitted.inertia_

    rows, table = (
        [],
        Table("states", "ours, s", "scikit-learn, s", "ratio", "inertia", "ARI, ours", "ARI, scikit-learn"),
    )
    for step in (steps[0], steps[len(steps) // 2], steps[-1]):
        network.load_state_dict(load_weights(run, step))
        states = observe(network, sequences, "instruction_end", data.loss_on).states
        name = f"KMeans {' x '.join(map(str, states.shape))}, step {step}"
        (seconds, inertia, ari), (peer_seconds, peer_inertia, peer_ari) = compare(
            (ours, peer), states, sequences.task_ids
        )
        relative = float(np.mean(inertia[1:] / peer_inertia[1:]))  # layer 0 has few distinct states and inertia 0
        ratio = peer_seconds / seconds
        rows.append(
            {
                "benchmark": name,
                "ours": seconds,
                "peer": peer_seconds,
                "peer_name": f"sklearn.cluster.KMeans(n_init={N_INIT})",
                "unit": "s",
                "ratio": ratio,
                "limit_fraction": None,
                "inertia_ratio": relative,
            }
        )
        numbers = (
            f"{seconds:.2f}",
            f"{peer_seconds:.2f}",
            f"{ratio:.1f}",
            f"{relative:.4f}",
            f"{ari:.3f}",
            f"{peer_ari:.3f}",
        )
        table.add_row(name, *numbers)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    Console(width=120).print(table)


def compare(fits: tuple[Fit, ...], states: Tensor, tasks: Tensor) -> list[tuple[float, Any, float]]:
    """For each fit: median seconds for all layers, mean inertia of every layer, last layer's mean ARI; over repeats."""
    seconds: list[list[float]] = [[] for _ in fits]
    inertias: list[list[list[float]]] = [[] for _ in fits]
    aris: list[list[float]] = [[] for _ in fits]
    for repeat in range(REPEATS):
        for k, fit in enumerate(fits):  # side by side, so that both meet the same noise
            started = time.perf_counter()
            found = [fit(layer, repeat) for layer in states]
            seconds[k].append(time.perf_counter() - started)
            inertias[k].append([inertia for _, inertia in found])
            aris[k].append(adjusted_rand_score(tasks, found[-1][0]))
    return [
        (statistics.median(s), np.mean(i, axis=0), statistics.mean(a))
        for s, i, a in zip(seconds, inertias, aris, strict=True)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/reproduce/seed=0"))
