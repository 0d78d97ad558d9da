"""Many runs as one table. Free of torch, so it starts at once.

in:  a folder that holds run folders at any depth
out: the final value of every claim and metric, by run; its mean and spread over runs

    python -m taskcluster.aggregate multirun/seeds
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from taskcluster.runs import RunFolder

METRICS = {"ari": "ARI at the separator", "ari_within_x": "ARI within each x"}


def finished_runs(folder: Path) -> list[RunFolder]:
    """The finished runs below `folder`, in the order of their paths."""
    runs = [RunFolder(file.parent) for file in sorted(folder.rglob("results.json"))]
    return [run for run in runs if run.status().get("state") == "finished"]


def final_values(run: RunFolder) -> dict[str, float]:
    """Label -> number: each claim's, then the validation accuracy and the validation ARI of every layer."""
    results = run.results()
    values = {claim["name"]: claim["value"] for claim in results["claims"]}
    values["validation accuracy"] = results["final"]["val/accuracy"]
    for metric, label in METRICS.items():
        prefix = f"{metric}/val/layer_"
        values |= {f"{label}, layer {k.removeprefix(prefix)}": v for k, v in results["final"].items() if prefix in k}
    return values


def markdown(runs: Sequence[RunFolder]) -> str:
    """A Markdown table: mean, standard deviation over runs (n - 1), smallest and largest, and how many runs passed."""
    columns = [final_values(run) for run in runs]
    passed = [{c["name"]: c["passed"] for c in run.results()["claims"]} for run in runs]
    lines = [f"| {len(runs)} runs | mean | s.d. | lowest | highest | passed |", "|---|---|---|---|---|---|"]
    for label in columns[0]:
        values = [column[label] for column in columns if column.get(label) is not None]
        spread = f"{statistics.stdev(values):.3f}" if len(values) > 1 else "-"
        mean = (
            f"{statistics.mean(values):.3f} | {spread} | {min(values):.3f} | {max(values):.3f}"
            if values
            else "- | - | - | -"
        )
        verdict = f"{sum(p[label] for p in passed)} of {len(runs)}" if label in passed[0] else ""
        lines.append(f"| {label.replace('|', '&#124;')} | {mean} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mean and spread of what finished runs ended with, as Markdown.")
    parser.add_argument("folder", type=Path, help="for example multirun/seeds")
    folder = parser.parse_args().folder
    runs = finished_runs(folder)
    if not runs:
        sys.exit(f"{folder} holds no finished run; give the folder of a multirun")
    print(markdown(runs))


if __name__ == "__main__":
    main()
