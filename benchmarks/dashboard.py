"""The live page with 200 runs of 100 measurements of 14 curves each, in Chromium: how soon it shows what.

out: printed seconds. start: from the command to the page's first byte. first view: from opening the page until the table
and the charts in sight are drawn, with the server just started, and again later. update: from the arrival of new points
until they are drawn. latency: from a line of a journal to its point on the screen.

    python benchmarks/dashboard.py
"""

import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import Page, sync_playwright

from taskcluster.journal import append
from taskcluster.runs import RunFolder

SHAPES = [(40, 5), (200, 1)]  # conditions, seeds
MEASUREMENTS = 100
LAYERS = 7
CHROMIUM = "/usr/bin/chromium"
UPDATES = 5

DRAWN = "document.body.dataset.drawn === 'true'"


def line(step: int, height: float, noise: random.Random) -> dict[str, Any]:
    """Of metrics.jsonl: 116 keys, of which 32 are shown."""
    values: dict[str, Any] = {"step": step}
    for split in ("train", "val"):
        values |= {f"{split}/loss": 4 - height, f"{split}/accuracy": height}
        kinds = ("ari", "nmi", "inertia", "ari_at_input", "nmi_at_input", "inertia_at_input")
        for metric in (*kinds, "ari_within_x", "ari_within_x_to_y"):
            for layer in range(LAYERS):
                values[f"{metric}/{split}/layer_{layer}"] = height * layer / LAYERS + noise.uniform(0, 0.05)
    return values | {"time": "2026-01-01T00:00:00+00:00", "elapsed": step / 10, "measuring": 0.5}


def write(root: Path, n_conditions: int, n_seeds: int) -> list[RunFolder]:
    """Folders of runs that are finished."""
    noise = random.Random(0)
    runs = []
    for condition in range(n_conditions):
        for seed in range(n_seeds):
            run = RunFolder(root / "sweep" / f"optimizer.lr={condition + 1}e-4" / f"seed={seed}")
            run.path.mkdir(parents=True)
            config = {"seed": seed, "seeds": {"tasks": seed}, "optimizer": {"lr": (condition + 1) / 1e4}}
            config |= {"model": {"n_layer": LAYERS - 1}, "trainer": {"max_steps": 10 * MEASUREMENTS}}
            (run.path / "config.yaml").write_text(yaml.safe_dump(config))
            start = {"time": "2026-01-01T00:00:00+00:00", "step": 0, "max_steps": 10 * MEASUREMENTS}
            status = {"state": "finished", "id": f"{condition}-{seed}", "starts": [start], "wall_seconds": 100}
            (run.path / "status.json").write_text(json.dumps(status))
            heights = [1 - 0.95 ** (k * (condition + 1) / n_conditions) for k in range(MEASUREMENTS)]
            lines = [json.dumps(line(10 * k, height, noise)) for k, height in enumerate(heights)]
            run.journal.write_text("\n".join(lines) + "\n")
            runs.append(run)
    return runs
