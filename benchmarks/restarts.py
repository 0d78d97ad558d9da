"""What restarts of KMeans buy: the ARI, how much it varies over seeds of KMeans, and seconds, by `clusterer.n_init`.

in:  a finished run of the default experiment
out: for each number of restarts, printed: of the validation states at the last step, the mean over layers 1 to L of the
     ARI and of its standard deviation over ten seeds, and processor seconds of all layers on one thread

    OMP_NUM_THREADS=1 python benchmarks/restarts.py RUN
"""

import sys
import time
from pathlib import Path

import numpy as np

from taskcluster.measures.clusterers.kmeans import KMeans
from taskcluster.measures.clustering import SCORES
from taskcluster.measures.observation import observe
from taskcluster.training.loading import load_run

RESTARTS = (1, 2, 4, 8, 16, 32)
SEEDS = range(10)


def main(run: Path) -> None:
    loaded = load_run(run)
    seen = observe(loaded.network, loaded.data, "val", ["instruction_end", "input"])
    for score in (*SCORES["instruction_end"], *SCORES["input"]):
        for n_init in RESTARTS:
            started = time.process_time()
            aris = np.array([score.aris(seen, KMeans(None, n_init, seed))[1:] for seed in SEEDS])
            seconds = (time.process_time() - started) / len(SEEDS)
            sd = aris.std(0, ddof=1).mean()
            print(f"{score.metric.key}, n_init={n_init}: {aris.mean():.3f}, s.d. {sd:.3f}, {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
