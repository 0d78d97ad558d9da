"""Seconds that each measure takes at the last step of a run, on one thread: what it costs a run to have it.

in:  the folder of a finished run, and names of measures (by default those that a run of its task can have)
out: a table in Markdown: seconds of one measurement, over all splits that the measure is asked about. Clusters are
     computed by the first measure that reads them; "with clusters" is what each takes by itself

    python benchmarks/measures.py RUN [MEASURE ...]
"""

import sys
import time
from pathlib import Path

import torch

from taskcluster import load_run, observe
from taskcluster.cli import composed
from taskcluster.measures.measure import Control
from taskcluster.training.progress import quieten

REPEATS = 3
NAMES = ("clustering", "clustering_at_x", "instruments", "number_of_clusters", "probe", "kmeans_noise", "chance")
HEADER = ("measure", "splits", "s", "s with its clusters")


def main(folder: Path, names: list[str]) -> None:
    quieten()
    torch.set_num_threads(1)
    run = load_run(folder, changes={"measures": composed(f"measures=[{','.join(names)}]")["measures"]})
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    forward: list[float] = []
    for name, measure in run.measurement.measures.items():
        cold, warm = [], []
        for _ in range(REPEATS):
            seconds = [0.0, 0.0]
            for split in measure.splits:
                begun = time.perf_counter()
                seen = observe(run.network, run.data, split, measure.positions)
                forward.append(time.perf_counter() - begun)
                ask = measure.repeat if isinstance(measure, Control) else measure.measure
                for k in (0, 1):
                    begun = time.perf_counter()
                    ask(seen)
                    seconds[k] += time.perf_counter() - begun
            cold.append(seconds[0])
            warm.append(seconds[1])
        print(f"| `{name}` | {', '.join(measure.splits)} | {min(warm):.2f} | {min(cold):.2f} |", flush=True)
    print(f"\nStates and loss of one split: {min(forward):.2f} s.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or [*NAMES])
