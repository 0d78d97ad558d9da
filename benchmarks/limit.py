"""Against the limit: what training, measuring, clustering and the causal map do in matrix products, beside the peak.

in:  the run folder of `make reproduce`
out: rows of results.json, and a table in Markdown. `ours`: seconds of processor time on one thread, the least of some;
     `peer`: seconds that the products alone would take at the measured peak of fp32 products; the part of the time that
     is products, by torch's profiler, and the five largest kinds of other operations

    python benchmarks/limit.py [RUN]
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from products import Products, products
from side_by_side import Row, peak, record, row, seconds_of
from updates import STEPS, ours, updates_of

from taskcluster import LoadedRun, load_run
from taskcluster.measures.observation import observe
from taskcluster.operations.command_line.cli import composed
from taskcluster.training.progress import quieten

REPEATS = 2
PAIRS = 150  # of the causal map, at three layers
CHANGES = {
    "measures": composed("measures=[clustering,clustering_at_x,clustering_at_x_all,interventions]")["measures"],
    "measures.interventions.layers": [0, 3, 6],
    "measures.interventions.n_pairs": PAIRS,
}
TITLES = {
    "training": f"{STEPS} updates",
    "measuring": "states, loss and answers of a split",
    "clustering": "KMeans at both positions and within x",
    "causal map": f"all edits and controls, {PAIRS} pairs, layers 0, 3 and 6",
}

Work = Callable[[], object]


def works(run: LoadedRun) -> dict[str, Work]:
    """Of the last step of a run, all but training; that is of a model as it begins."""
    _, model, data = ours()
    clusterings = [run.measurement.measures[name] for name in ("clustering", "clustering_at_x", "clustering_at_x_all")]
    seen = observe(run.network, run.data)

    def cluster() -> None:
        seen.kept.clear()
        for measure in clusterings:
            measure.measure(seen)

    return {
        "training": updates_of(model, data),
        "measuring": lambda: observe(run.network, run.data),
        "clustering": cluster,
        "causal map": lambda: run.measurement.measures["interventions"].measure(seen),
    }


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    quieten()
    torch.set_num_threads(1)
    of = works(load_run(folder, changes=CHANGES))
    seconds = {name: min(seconds_of(work, time.process_time) for _ in range(REPEATS)) for name, work in of.items()}
    ceiling = peak(clock=time.process_time)
    counted = {name: products(work) for name, work in of.items()}
    record([against(name, seconds[name], counted[name], ceiling) for name in of])
    print(f"\none thread, measured peak {ceiling / 1e9:.0f} GFLOP/s\n")
    print("| | GFLOP | s | of the peak | products, of the time | the rest |\n|---|---|---|---|---|---|")
    for name, (operations, share, rest) in counted.items():
        others = ", ".join(f"{kind} {part:.0%}" for kind, part in [*rest.items()][:5])
        reached = operations / ceiling / seconds[name]
        cells = f"{operations / 1e9:.0f}", f"{seconds[name]:.2f}", f"{reached:.0%}", f"{share:.0%}", others
        print(f"| {name}: {TITLES[name]} | {' | '.join(cells)} |")


def against(name: str, seconds: float, counted: Products, ceiling: float) -> Row:
    at_peak = counted.operations / ceiling
    facts = {"gflop": counted.operations / 1e9, "products_share_of_time": counted.share_of_time}
    facts |= dict([*counted.rest.items()][:5])
    title = f"{name}, {TITLES[name]}"
    return row(title, seconds, at_peak, "its products alone, at the peak", "s", at_peak / seconds, **facts)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/reproduce/seed=0"))
