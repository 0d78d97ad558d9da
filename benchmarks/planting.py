"""Planted folders of finished runs, as `taskcluster-train -m` would write them, with made-up numbers.

in:  a folder, how many conditions and seeds
out: run folders whose configurations are those of the command `words`, so that a multirun skips them
"""

import json
import math
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from taskcluster.config import RunConfig
from taskcluster.metrics import OWN
from taskcluster.operations.command_line.cli import composed
from taskcluster.results.claims import judge
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.names import run_folder

N_LAYERS = 7
N_BATCH_SIZES = 20
STEPS = (0, 120, 240, 480, 600)
METRICS = ("ari", "nmi", "inertia", "ari_at_input", "nmi_at_input", "inertia_at_input", "ari_within_x")
FastDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
TIME = "2026-01-01T00:00:00+00:00"


def values(n_conditions: int) -> tuple[list[float], list[int]]:
    """Learning rates and batch sizes, whose combinations are so many conditions."""
    rates = [round(1e-4 * (1 + k), 7) for k in range(math.ceil(n_conditions / N_BATCH_SIZES))]
    return rates, [40 * (1 + k) for k in range(min(n_conditions, N_BATCH_SIZES))]


def words(n_conditions: int, n_seeds: int) -> list[str]:
    """What asks `taskcluster-train -m` for these runs."""
    rates, sizes = (",".join(map(str, of)) for of in values(n_conditions))
    seeds = ",".join(map(str, range(n_seeds)))
    return [f"seed={seeds}", f"optimizer.lr={rates}", f"data.batch_size={sizes}", "logger=none"]


def plant(root: Path, n_conditions: int, n_seeds: int) -> Iterator[RunFolder]:
    """Runs, condition after condition."""
    templates: list[dict[str, Any]] = [
        RunConfig.of(composed("logger=none", f"seed={seed}")).as_dict() for seed in range(n_seeds)
    ]
    noise = random.Random(0)
    rates, sizes = values(n_conditions)
    for rate, size in [(rate, size) for rate in rates for size in sizes][:n_conditions]:
        height = noise.uniform(0.2, 0.9)
        for template in templates:
            config = deepcopy(template)
            config["optimizer"]["lr"], config["data"]["batch_size"] = rate, size
            overrides = [f"optimizer.lr={rate}", f"data.batch_size={size}"]
            name = run_folder(config, overrides, root / "nothing")  # no run planted before is looked for
            yield write(RunFolder(root / name), config, height, noise)


def write(run: RunFolder, config: dict[str, Any], height: float, noise: random.Random) -> RunFolder:
    rows = [line(step, height * step / STEPS[-1], noise) for step in STEPS]
    claims = [{**asdict(claim), "passed": claim.passed} for claim in judge(rows)]
    start = {"time": TIME, "step": 0, "max_steps": STEPS[-1], "machine": "a machine", "device": "cpu", "threads": 2}
    status = {
        "state": "finished",
        "id": run.name,
        "wall_seconds": 60.0,
        "step": STEPS[-1],
        "starts": [start | {"versions": {"python": "3.11"}}],
        "concluded": True,
    }
    run.figures.mkdir(parents=True)
    run.checkpoints.mkdir()
    contents = {
        "config.yaml": yaml.dump(config, Dumper=FastDumper, sort_keys=False),
        "catalogue.json": json.dumps({"metrics": [asdict(metric) for metric in OWN]}),
        "status.json": json.dumps(status),
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "results.json": json.dumps({"claims": claims, "final": rows[-1], "controls": {}}),
        "figures/tsne.json": "{}",
        "figures/index.html": "",
    }
    for name, content in contents.items():
        (run.path / name).write_text(content)
    return run


def line(step: int, height: float, noise: random.Random) -> dict[str, Any]:
    """Of metrics.jsonl: 102 numbers."""
    row: dict[str, Any] = {"step": step}
    for split in ("train", "val"):
        row |= {f"{split}/loss": 4 - height, f"{split}/accuracy": height}
        for metric in METRICS:
            for layer in range(N_LAYERS):
                row[f"{metric}/{split}/layer_{layer}"] = height * layer / N_LAYERS + noise.uniform(0, 0.05)
    return row | {"time": TIME, "elapsed": step / 10, "measuring": 0.5}
