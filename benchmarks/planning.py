"""Planning a multirun: which of its runs are finished, begin or are refused, before the first of them starts.

in:  numbers of runs, in conditions of twenty seeds that differ in the learning rate and in the number of sequences
out: a row of results.json for each: seconds, beside as many full compositions by Hydra, of which a hundred are timed

    python benchmarks/planning.py [RUNS ...]    # 1,000 by default, a minute; 10,000: two minutes
"""

import sys
import tempfile

import hydra
from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # the default launcher
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from planting import words
from side_by_side import Row, record, row, seconds_of

from taskcluster.operations.multiruns.planning import Planner, jobs
from taskcluster.runs.options import CONF

SEEDS = 20
COMPOSED = 100


def planned(n_runs: int, folder: str) -> Row:
    loader = GlobalHydra.instance().config_loader()
    given = [*words(n_runs // SEEDS, SEEDS), f"hydra.sweep.dir={folder}"]
    config = loader.load_configuration("train", given, RunMode.MULTIRUN)
    HydraConfig.instance().set_config(config)
    listed = jobs([word for word in given if not word.startswith("hydra.")], loader, config)
    ours = seconds_of(lambda: Planner(BasicLauncher(), loader, config)(listed))
    composing = seconds_of(lambda: [loader.load_sweep_config(config, job) for job in listed[:COMPOSED]]) / COMPOSED
    return row(f"planning {len(listed):,} runs", ours, composing * len(listed), "composing each by Hydra", "s")


def main(sizes: list[int]) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        record([planned(n_runs, folder) for n_runs in sizes])


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1000])
