"""Many runs in one folder, planted, five seeds a condition: the report, and the live page's looks at the folder.

out: rows of results.json: seconds of processor time, and memory, beside what growth in proportion would give; each
part a process. `benchmarks/dashboard.py` has the browser.

    python benchmarks/many.py [RUNS ...]    # 200 and 1,000 by default: two minutes. 10,000: a quarter of an hour
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from planting import plant
from side_by_side import record, row

RUNS = [200, 1000]
SEEDS = 5


def report(root: Path) -> dict[str, Callable[[], object]]:
    from taskcluster.pages.multirun_report import write

    return {"report": lambda: write(root)}


def watching(root: Path) -> dict[str, Callable[[], object]]:
    from taskcluster.operations.live.watcher import Watcher

    watcher = Watcher(root)

    def answer() -> list[bytes]:
        return [curves.encoded for _, curves in watcher.conditions.values()]

    return {"first look": watcher.scan, "another look": watcher.scan, "whole answer": answer}


PARTS = {"report": report, "watching": watching}


def measure(part: str, root: Path) -> None:
    """Print seconds of processor time of every step, and the process's largest memory, as JSON."""
    found = {}
    for name, work in PARTS[part](root).items():
        begun = time.process_time()
        work()
        found[f"{name}, s"] = time.process_time() - begun
    found[f"memory of the {part}, GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


def main(sizes: list[int]) -> None:
    planted: list[int] = []
    measured: list[dict[str, float]] = []
    for n_runs in sizes:
        with tempfile.TemporaryDirectory() as folder:
            planted.append(sum(1 for _ in plant(Path(folder) / "many", n_runs // SEEDS, SEEDS)))
            found: dict[str, float] = {}
            for part in PARTS:
                command = [sys.executable, __file__, "--one", part, str(Path(folder) / "many")]
                printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found |= json.loads(printed.splitlines()[-1])
            measured.append(found)
            print(planted[-1], {name: round(value, 2) for name, value in found.items()}, flush=True)
    rows = []
    for n_planted, found in zip(planted[1:], measured[1:], strict=True):
        growth = n_planted / planted[0]
        for name, value in found.items():
            part, unit = name.rsplit(", ", 1)
            peer = f"{growth:g} times that of {planted[0]} runs"
            rows.append(row(f"{n_planted:,} runs: {part}", value, measured[0][name] * growth, peer, unit))
    record(rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], Path(sys.argv[3]))
    else:
        main([int(argument) for argument in sys.argv[1:]] or RUNS)
