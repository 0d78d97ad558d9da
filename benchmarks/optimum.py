"""How much of the ARI below 1 is KMeans' own: restarts found by chance beside a start from the tasks' true centroids.

in:  run folders
out: for each, the last layer's validation ARI and inertia at the separator, means over KMeans seeds

    python benchmarks/optimum.py RUN [RUN ...]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans

from taskcluster import load_run
from taskcluster.measures.clusterers import kmeans
from taskcluster.measures.observation import observe
from taskcluster.measures.statistics.agreement import adjusted_rand_index
from taskcluster.training.progress import quieten

SEEDS = 5


def main(folders: list[Path]) -> None:
    quieten()
    table = Table("run", "start", "ARI", "inertia")
    for folder in folders:
        run = load_run(folder)
        seen = observe(run.network, run.data)
        states, tasks = seen.states["instruction_end"][-1], seen.labels["instruction_end"]["task"]
        for n_init in (1, 16, 160):
            found = [kmeans.KMeans(None, n_init, seed).fit(states, seen.n_tasks) for seed in range(SEEDS)]
            ari = np.mean([adjusted_rand_index(tasks, f.cluster_labels) for f in found])
            table.add_row(str(folder), f"best of {n_init}", f"{ari:.3f}", f"{np.mean([f.inertia for f in found]):.0f}")
        means = torch.stack([states[tasks == task].mean(0) for task in range(seen.n_tasks)])
        true = KMeans(seen.n_tasks, init=means.numpy(), n_init=1).fit(states.numpy())
        ari = adjusted_rand_index(tasks, torch.as_tensor(true.labels_))
        table.add_row("", "true centroids", f"{ari:.3f}", f"{true.inertia_:.0f}", end_section=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
