"""Seconds that each measure takes at the last step of a run, on one thread: what it costs a run to have it.

in:  the folder of a finished run, and names of measures
out: a table in Markdown: processor time of one measurement of all splits of the measure, the least of
     REPEATS. Clusters are computed by the first measure of a step that reads them, so each measure has two numbers.
     times: how often a run of these steps measures it; in a run: seconds of all of them, without the clusters
     that another measure of the run computes anyway

    python benchmarks/measures.py RUN [MEASURE ...]
"""

import sys
import time
from pathlib import Path

import torch

from taskcluster import load_run
from taskcluster.measures.measure import Control
from taskcluster.measures.observation import observe
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.progress import quieten

REPEATS = 3
NAMES = (
    *("clustering", "clustering_at_x", "clustering_at_x_all", "nuisance"),
    *("instruments", "number_of_clusters", "probe", "kmeans_noise", "chance"),
)
HEADER = ("measure", "splits", "s", "with its clusters, s", "times", "in a run, s")
READS = "instruments"  # the clusters that `clustering` has computed


def main(folder: Path, names: list[str]) -> None:
    quieten()
    torch.set_num_threads(1)
    run = load_run(folder, changes={"measures": composed(f"measures=[{','.join(names)}]")["measures"]})
    steps = [row["step"] for row in run.run.rows()]
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    forward: list[float] = []
    for name, measure in run.measurement.measures.items():
        cold, warm = [], []
        for _ in range(REPEATS):
            seconds = [0.0, 0.0]
            for split in measure.splits:
                begun = time.process_time()
                seen = observe(run.network, run.data, split, measure.positions)
                forward.append(time.process_time() - begun)
                ask = measure.repeat if isinstance(measure, Control) else measure.measure
                for k in (0, 1):
                    begun = time.process_time()
                    ask(seen)
                    seconds[k] += time.process_time() - begun
            cold.append(seconds[0])
            warm.append(seconds[1])
        once = isinstance(measure, Control) and measure.every_n_steps is None
        times = 1 if once else sum(measure.is_due(step, step == steps[-1]) for step in steps)
        total = times * min(warm if name == READS else cold)
        cells = f"{min(warm):.2f}", f"{min(cold):.2f}", str(times), f"{total:.1f}"
        print(f"| `{name}` | {', '.join(measure.splits)} | {' | '.join(cells)} |", flush=True)
    print(f"\nStates and loss of one split: {min(forward):.2f} s.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or [*NAMES])
