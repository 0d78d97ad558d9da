"""From the command to the claims: the default run and the script a user would write, alternately, each in its own
process.

out: rows of results.json: seconds from the command until a measurement first shows each claim, and until the last one;
medians over seeds. A claim that the peer never shows counts with its whole time: the ratio is a lower bound.

    python benchmarks/end_to_end.py RECIPE [SEED ...] [OVERRIDE ...]     RECIPE of user_script.py: usual | same

OVERRIDE: for both, such as model.n_layer=4; with trainer=gpu both run on the GPU.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import record, row

SCRIPT = Path(__file__).parent / "user_script.py"
CLAIMS = {
    "validation accuracy 0.95": ("val/accuracy", 0.95),
    "last layer's validation ARI 0.6": ("ari/val/layer_6", 0.6),
    "last layer's validation ARI 0.9": ("ari/val/layer_6", 0.9),
    "the last measurement": ("step", 600),
}
Stamped = list[tuple[float, dict[str, float]]]  # seconds since the command, journal row


def watch(command: list[str], journal: Path) -> tuple[Stamped, float]:
    """Run a command: its journal's rows as they appear, and its whole time."""
    started, seen = time.monotonic(), Stamped()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        ended = process.poll() is not None
        lines = journal.read_text(encoding="utf-8").split("\n")[:-1] if journal.exists() else []
        seen += [(time.monotonic() - started, json.loads(line)) for line in lines[len(seen) :]]
        if ended:
            break
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return seen, time.monotonic() - started


def reached(rows: Stamped, key: str, threshold: float) -> float:
    return next((seconds for seconds, values in rows if values[key] >= threshold), float("nan"))


def main(recipe: str, seeds: list[int], overrides: list[str]) -> None:
    accelerator = "gpu" if "trainer=gpu" in overrides else "cpu"
    times: dict[str, dict[str, list[float]]] = {}
    shares = []  # of our time that measurements take
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            commands = {
                "ours": ["-m", "taskcluster.train", f"seed={seed}", f"hydra.run.dir={scratch}/ours"],
                "peer": [str(SCRIPT), str(seed), f"{scratch}/peer", recipe, accelerator],
            }
            (Path(scratch) / "peer").mkdir()
            for who, command in commands.items():
                rows, whole = watch([sys.executable, *command, *overrides], Path(scratch) / who / "metrics.jsonl")
                found = {name: reached(rows, key, threshold) for name, (key, threshold) in CLAIMS.items()}
                found["its end"] = whole
                for name, seconds in found.items():
                    times.setdefault(name, {"ours": [], "peer": []})[who].append(seconds)
                print(seed, who, found, flush=True)
                if who == "ours":
                    shares.append(sum(values["measuring"] for _, values in rows) / whole)
    results = []
    for name, by in times.items():
        ours, peer = (
            [end if math.isnan(t) else t for t, end in zip(by[who], times["its end"][who], strict=True)] for who in by
        )
        never = {f"{who}_never": sum(map(math.isnan, by[who])) for who in by}
        title = " ".join([f"command to {name}, {len(seeds)} seeds", *overrides])
        peer_name = f"user_script.py, {recipe} recipe"
        results.append(row(title, statistics.median(ours), statistics.median(peer), peer_name, "s", **never))
    record(results)
    print(f"measuring takes {statistics.median(shares):.0%} of our time")


if __name__ == "__main__":
    given = sys.argv[2:]
    main(sys.argv[1], [int(seed) for seed in given if seed.isdigit()] or [0, 1, 2], [o for o in given if "=" in o])
