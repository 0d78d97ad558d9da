"""Memory of an analysis: the peak of a process that measures a checkpoint, beside the ceiling in docs/analyze.md.

out: rows of results.json, in MiB above what the process had once the run was loaded. Fails where the ceiling is
exceeded.

    python benchmarks/memory.py RUN     # a finished run, as of make reproduce
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

from side_by_side import record, row

MIB = 2**20
CASES = {  # of the default run, and of ten times its probe set
    "own measures": {},
    "own measures, probe 10 times as large": {"data.probe_size": 10_000},
}


def ceiling(
    n_probe: int, n_layer: int, width: int, n_clusters: int, n_init: int, vocabulary: int, tokens: int
) -> float:
    """Bytes, as docs/analyze.md has them. tokens: of the longest row of the probe set."""
    states = 4 * (n_layer + 1) * 2 * n_probe * width  # at the separator and at x, of one split
    rows = min(256, 2**26 // (tokens * vocabulary))
    forward = 4 * rows * tokens * (3 * vocabulary + 16 * width)
    kmeans = 4 * (3 * min(2**26, n_init * n_clusters * n_probe) + min(n_probe, 4096) ** 2 * 2)
    return 3 * states + forward + kmeans + 32 * MIB


def measure(run: str, changes: dict[str, object]) -> None:
    """Print the peak above the loaded run and the ceiling, in bytes, as JSON."""
    from taskcluster.training.loading import load_run

    loaded = load_run(run, changes=changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    loaded.measure()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    network, clusterer = loaded.network.config, loaded.config.clusterer.arguments
    limit = ceiling(
        n_probe=max(rows.n_examples for rows in loaded.data.probe.values()),
        n_layer=network.num_hidden_layers,
        width=network.hidden_size,
        n_clusters=clusterer["n_clusters"] or len(loaded.data.family.tasks),
        n_init=clusterer["n_init"],
        vocabulary=network.vocab_size,
        tokens=max(int(rows.lengths.max()) for rows in loaded.data.probe.values()),
    )
    print(json.dumps({"peak": peak, "ceiling": limit, "before": before}))


def main(run: str) -> None:
    found = []
    for name, changes in CASES.items():
        command = [sys.executable, __file__, "--one", run, json.dumps(changes)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        of_case = json.loads(printed.splitlines()[-1])
        print(name, of_case, flush=True)
        found.append(
            row(f"memory: {name}", of_case["peak"] / MIB, of_case["ceiling"] / MIB, "the stated ceiling", "MiB")
        )
    record(found)
    if above := [r["benchmark"] for r in found if r["ours"] > r["peer"]]:
        sys.exit(f"above the ceiling: {', '.join(above)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], json.loads(sys.argv[3]))
    else:
        main(str(Path(sys.argv[1]).absolute()))
