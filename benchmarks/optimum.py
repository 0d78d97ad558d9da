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

from taskcluster.config import RunConfig
from taskcluster.measures.clustering import Clusterer, adjusted_rand_index
from taskcluster.measures.measurement import observe
from taskcluster.runs.checkpoints import load_weights
from taskcluster.runs.folder import RunFolder
from taskcluster.training.experiment import prepare
from taskcluster.training.progress import quieten

SEEDS = 5


def main(folders: list[Path]) -> None:
    quieten()
    table = Table("run", "start", "ARI", "inertia")
    for folder in folders:
        run = RunFolder(folder)
        data, network = prepare(RunConfig.of(run.config()))
        network.load_state_dict(load_weights(run.saved()[-1][1]))
        probe = data.probe["val"]
        states = observe(network, probe, data.loss_on).states["instruction_end"][-1]
        tasks, n_tasks = probe.labels("instruction_end")["task"], len(data.family.tasks)
        for n_init in (1, 16, 160):
            found = [Clusterer(n_init, seed).fit(states, n_tasks) for seed in range(SEEDS)]
            ari = np.mean([adjusted_rand_index(tasks, f.cluster_labels) for f in found])
            table.add_row(str(folder), f"best of {n_init}", f"{ari:.3f}", f"{np.mean([f.inertia for f in found]):.0f}")
        means = torch.stack([states[tasks == task].mean(0) for task in range(n_tasks)])
        true = KMeans(n_tasks, init=means.numpy(), n_init=1).fit(states.numpy())
        ari = adjusted_rand_index(tasks, torch.as_tensor(true.labels_))
        table.add_row("", "true centroids", f"{ari:.3f}", f"{true.inertia_:.0f}", end_section=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
