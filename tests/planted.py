"""Planted run folders with known numbers, finished or in training."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taskcluster.config import Node, RunConfig, Trainer
from taskcluster.measures.baselines import surface_metrics
from taskcluster.measures.controls import chance_metrics, nuisance_metrics
from taskcluster.measures.interventions.edits import effect_metrics
from taskcluster.metrics import ARI, ARI_WITHIN_X, OWN, Metric
from taskcluster.results.claims import judge
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.records import NEXT_TOKEN
from taskcluster.runs.resume import writing

STEPS = (0, 50, 100, 150, 200)
PROGRESS = (0.0, 0.3, 0.7, 0.98, 1.0)
PLANTED = (ARI, ARI_WITHIN_X)
BESIDE = (
    *surface_metrics(ARI, 2, "symbols"),
    *nuisance_metrics("instruction_end", words=False, several=False).values(),
)
DECLARED = (*OWN, *BESIDE, *(control for metric in PLANTED for control in chance_metrics(metric)))
EFFECTS = tuple(  # of interventions, for maps
    effect_metrics(edit, position)[0]
    for edit, position in (("add", "input"), ("interchange", "input"), ("interchange", "instruction_end"))
)
SIMILARITY = Metric("cka", "CKA", "at x", by_two_layers=True, low=0, high=1)
LAYERS = 3  # of a run that begins here and grows
FACTS = {"machine": "a machine", "device": "cpu", "threads": 2, "versions": {"python": "3.11", "torch": "2.13"}}


def config(seed: int, n_layer: int = 3, **others: Any) -> dict[str, Any]:
    seeds = {"tasks": seed, "kmeans": seed}
    parts = {"model": {"n_layer": n_layer, "seed": seed}, "trainer": {"max_steps": 200}}
    parts |= {"objective": {"next_token": NEXT_TOKEN}}
    return {"name": "planted", "seed": seed, "seeds": seeds, **parts, "scheduler": {"max_steps": 200}, **others}


def wanted(seed: int) -> RunConfig:
    """What asks for a planted run."""
    asking = {"resume": "auto", "ckpt_path": None}
    parts = {"trainer": Trainer.model_construct(max_steps=200)}
    parts |= {group: Node.of({"_target_": "planted"}, group) for group in ("model", "data")}
    found = RunConfig.model_construct(**asking, **parts)
    found._composed = config(seed) | asking
    return found


def rows(last_ari: float, n_layer: int = 3) -> list[dict[str, Any]]:
    """ARI rises with layer and step, to `last_ari` at the last of both; accuracy leads by a measurement."""
    planted = []
    for k, (step, progress) in enumerate(zip(STEPS, PROGRESS, strict=True)):
        row: dict[str, Any] = {"step": step}
        for split in ("train", "val"):
            row |= {f"{split}/loss": 4 - 2 * progress, f"{split}/accuracy": PROGRESS[min(k + 1, 4)] * (k > 0)}
            for layer in range(n_layer + 1):
                share = layer / n_layer
                row[f"ari/{split}/layer_{layer}"] = 0.02 + progress * share * (last_ari - 0.02)
                row[f"ari_within_x/{split}/layer_{layer}"] = 0.05 + progress * share * (last_ari - 0.1)
        planted.append(row)
    return planted


def plant(
    path: Path, last_ari: float, settings: dict[str, Any], kmeans: tuple[float, ...] = (), finished: bool = True
) -> RunFolder:
    """A run; `kmeans`: what is added to the final ARI by other seeds of KMeans."""
    run, lines = RunFolder(path), rows(last_ari, settings["model"]["n_layer"])
    run.start(settings, None, DECLARED)
    with writing(run, None, max_steps=200, **FACTS):
        values = {m: [lines[-1][m.at("val", k)] for k in range(settings["model"]["n_layer"] + 1)] for m in PLANTED}
        if kmeans:
            lines[-1] |= {
                f"{m.key}_shuffled/val/layer_{k}": 0.005 for m, of_m in values.items() for k in range(len(of_m))
            }
            lines[-1] |= {key.replace("shuffled", "shuffled_largest"): 0.02 for key in lines[-1] if "shuffled" in key}
            beside = {"ari_p": 0.001 * (1 + settings["seed"]), "ari_to_last": last_ari / 4}
            lines[-1] |= {f"{key}/val/layer_{k}": v for key, v in beside.items() for k in range(len(values[ARI]))}
            lines[-1]["val/ari_symbols"] = last_ari / 2
        for row in lines if finished else lines[:2]:
            run.append(row, elapsed=float(row["step"]), measuring=1.0)
        moved = {f"{m.key}_kmeans_sd": [[v + by for by in kmeans] for v in of_m] for m, of_m in values.items()}
        claims = [{**asdict(claim), "passed": claim.passed} for claim in judge(lines)]
        run.write_results({"claims": claims, "final": lines[-1], **({"controls": moved} if kmeans else {})})
    if not finished:
        run.write_status("failed", error="OSError: no space left")
    return run


def begin(path: Path, seed: int = 0, max_steps: int = 100, **model: Any) -> RunFolder:
    """A run folder as it is when training begins, but for the lock."""
    run = RunFolder(path)
    settings = {"seed": seed, "name": "any", "model": {"n_layer": 2} | model, "trainer": {"max_steps": max_steps}}
    run.start(settings, None, OWN)
    start = {"time": "2026-01-01T00:00:00+00:00", "step": 0, "max_steps": max_steps}
    run.write_status("running", id=f"id-{seed}", starts=[start])
    return run


def line(step: int, ari: float = 0.5) -> dict[str, Any]:
    """Of metrics.jsonl, with what is shown and what is not."""
    values: dict[str, Any] = {"step": step}
    for split in ("train", "val"):
        values |= {f"{split}/loss": 4 - ari, f"{split}/accuracy": ari}
        for metric in ("ari", "ari_within_x", "nmi", "inertia"):
            values |= {f"{metric}/{split}/layer_{layer}": ari * layer / (LAYERS - 1) for layer in range(LAYERS)}
    return values


def measure(run: RunFolder, step: int, ari: float = 0.5) -> None:
    run.append(line(step, ari), elapsed=step / 10, measuring=0.5)


def leave_tsne(path: Path) -> None:
    points = [{"step": step, "layer": 0, "task": 1, "x": 0.5, "y": step} for step in (0, 10)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"n_tasks": 2, "points": points}))
