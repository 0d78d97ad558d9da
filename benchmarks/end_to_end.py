"""From the command to the claims: the default run beside the script a user would write, by turns, each a process.

out: rows of results.json: seconds from the command until a measurement first shows each claim, and until the last one;
medians over seeds. A claim that the peer never shows counts with its whole time: the ratio is a lower bound.

    python benchmarks/end_to_end.py [SEED ...]
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import record, row

CLAIMS = {
    "validation accuracy 0.95": ("val/accuracy", 0.95),
    "last layer's validation ARI 0.6": ("ari/val/layer_6", 0.6),
    "last layer's validation ARI 0.9": ("ari/val/layer_6", 0.9),
    "the last measurement": ("step", 600),
}
PEER = "Lightning, GPT2LMHeadModel, scikit-learn (user_script.py)"

Stamped = list[tuple[float, dict[str, float]]]  # seconds since the command, journal row


def watch(command: list[str], journal: Path) -> tuple[Stamped, float]:
    """Run a command: its journal's rows as they appear, and its whole time."""
    started, seen = time.monotonic(), Stamped()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        ended = process.poll() is not None
        lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
        seen += [(time.monotonic() - started, json.loads(line)) for line in lines[len(seen) :]]
        if ended:
            break
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return seen, time.monotonic() - started


def reached(rows: Stamped, key: str, threshold: float) -> float:
    return next((seconds for seconds, values in rows if values[key] >= threshold), float("nan"))


def main(seeds: list[int]) -> None:
    times: dict[str, dict[str, list[float]]] = {
        name: {"ours": [], "peer": []} for name in [*CLAIMS, "the command's end"]
    }
    shares: list[float] = []  # of our time that measurements take
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            commands = {
                "ours": [sys.executable, "-m", "taskcluster.train", f"seed={seed}", f"hydra.run.dir={scratch}/ours"],
                "peer": [sys.executable, str(Path(__file__).parent / "user_script.py"), str(seed), f"{scratch}/peer"],
            }
            (Path(scratch) / "peer").mkdir()
            for who, command in commands.items():
                rows, whole = watch(command, Path(scratch) / who / "metrics.jsonl")
                for name, (key, threshold) in CLAIMS.items():
                    times[name][who].append(reached(rows, key, threshold))
                times["the command's end"][who].append(whole)
                if who == "ours":
                    shares.append(sum(values["measuring"] for _, values in rows) / whole)
                print(seed, who, {name: [round(t, 1) for t in by[who][-1:]] for name, by in times.items()}, flush=True)
    rows = []
    for name, by in times.items():
        whole = times["the command's end"]["peer"]
        peer = [w if t != t else t for t, w in zip(by["peer"], whole, strict=True)]
        never = sum(t != t for t in by["peer"])
        ours, theirs = statistics.median(by["ours"]), statistics.median(peer)
        rows.append(row(f"command to {name}", ours, theirs, PEER, "s", seeds=len(seeds), peer_never=never))
    record(rows)
    print(f"measuring takes {statistics.median(shares):.0%} of our time")


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [0, 1, 2])
