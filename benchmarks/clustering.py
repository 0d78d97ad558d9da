"""KMeans on real hidden states: ours beside scikit-learn's as it is called by default.

in:  the run folder of `make reproduce`
out: rows of results.json, one for each of three checkpoints: seconds for all layers at both positions. `inertia`: ours
     relative to the peer's, the mean over positions, layers and seeds, layer 0 left out, which has few distinct states;
     `ari` and `peer_ari`: of the last layer at the separator, means over seeds

    python benchmarks/clustering.py [RUN]
"""

import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import alternate, record, row, seconds_of
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from taskcluster import load_run
from taskcluster.measures.clusterers import kmeans
from taskcluster.measures.observation import observe
from taskcluster.measures.statistics.agreement import adjusted_rand_index
from taskcluster.training.progress import quieten

REPEATS = 3
STATES = 2000

Fit = Callable[[Tensor, int], tuple[Any, float]]  # states (N, D), seed -> labels (N,), inertia


def main(folder: Path) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    quieten()
    run = load_run(folder, changes={"data.probe_size": STATES})
    n_init, n_clusters = run.config.clusterer.arguments["n_init"], len(run.data.family.tasks)

    def ours(states: Tensor, seed: int) -> tuple[Any, float]:
        found = kmeans.KMeans(None, n_init, seed).fit(states, n_clusters)
        return found.cluster_labels, found.inertia

    def peer(states: Tensor, seed: int) -> tuple[Any, float]:
        fitted = KMeans(n_clusters, n_init=10, random_state=seed).fit(states.numpy())
        return fitted.labels_, fitted.inertia_

    steps, rows = [journaled["step"] for journaled in run.run.rows()], []
    for step in (steps[0], steps[len(steps) // 2], steps[-1]):
        run.go_to(step)
        seen = observe(run.network, run.data, "train")
        states = list(seen.states.values())
        trials = Trials(ours, states), Trials(peer, states)
        seconds = alternate({"ours": trials[0].run, "peer": trials[1].run}, REPEATS)
        inertia, peer_inertia = (np.mean(trial.inertias, 0) for trial in trials)
        ari, peer_ari = (
            statistics.mean(
                adjusted_rand_index(seen.labels["instruction_end"]["task"], torch.as_tensor(labels))
                for labels in trial.labels
            )
            for trial in trials
        )
        shape = f"{len(states[0])} x {len(states)} x {len(states[0][0])} x {states[0].shape[-1]}"
        facts = {"inertia": float(np.mean(inertia / peer_inertia)), "ari": ari, "peer_ari": peer_ari}
        name = f"KMeans {shape}, step {step}"
        rows.append(row(name, seconds["ours"], seconds["peer"], "sklearn.cluster.KMeans(n_init=10)", "s", **facts))
    record(rows)


class Trials:
    """Fits of all layers at all positions, each time from another seed. What was found is kept."""

    def __init__(self, fit: Fit, positions: list[Tensor]) -> None:
        self._fit, self._positions = fit, positions
        self.inertias: list[list[float]] = []  # of every layer but the embedding, position after position
        self.labels: list[Any] = []  # of the last layer at the first position

    def run(self) -> float:
        found: list[list[tuple[Any, float]]] = []
        seed = len(self.labels)
        seconds = seconds_of(lambda: found.extend([[self._fit(x, seed) for x in at] for at in self._positions]))
        self.inertias.append([inertia for layers in found for _, inertia in layers[1:]])
        self.labels.append(found[0][-1][0])
        return seconds


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/reproduce/seed=0"))
