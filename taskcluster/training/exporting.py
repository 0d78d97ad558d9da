"""The model of a run in the files that transformers reads, for the hub and for other programs.

in:  a run folder, a step
out: a folder with config.json, model.safetensors, the tokenizer's files, the run's config.yaml as taskcluster.yaml, and
     README.md, a model card
"""

from pathlib import Path

import yaml

from taskcluster.data.sources import quietly
from taskcluster.pages.rendering import render
from taskcluster.runs.atomic_files import EXPORTED_CONFIG, replace_file
from taskcluster.runs.journal import Row, fixed, layers_of, number
from taskcluster.runs.verdicts import judged
from taskcluster.training.command import command
from taskcluster.training.loading import LoadedRun, load_run
from taskcluster.views import shown


def export(run: Path, folder: Path, step: int | None = None) -> int:
    """Write the model of a step, the last one by default, to an empty folder, and return the step. Raises UserError
    where there is no such step."""
    loaded = load_run(run, step)
    loaded.network.config.use_cache = True  # which generates text faster; here no text is generated
    with quietly():
        loaded.network.save_pretrained(folder)
    loaded.data.tokenizer.save_pretrained(folder)
    replace_file(folder / EXPORTED_CONFIG, yaml.safe_dump(loaded.config.as_dict(), sort_keys=False).encode())
    replace_file(folder / "README.md", card(loaded).encode())
    return loaded.step


def card(loaded: LoadedRun) -> str:
    """The model card: what the model is, how it was made, what was measured of it."""
    run, step = loaded.run, loaded.step
    row = next((row for row in run.rows() if row["step"] == step), Row())
    is_last = step == run.results().get("final", {}).get("step")
    known = run.catalogue()
    numbers = {metric.title: fixed(number(row, metric.stem("val"))) for metric in shown(known, "runs", by_layer=False)}
    curves = {
        metric.title: [fixed(value, 2) for value in layers_of(row, metric.stem("val"))]
        for metric in shown(known, "runs", by_layer=True)
    }
    claims = judged(run.results()) if is_last else []
    return render(
        "card.md",
        name=run.name,
        kind=type(loaded.network).__name__,
        n_weights=f"{loaded.network.num_parameters():,}",
        base=loaded.config.model.arguments.get("path"),
        text=loaded.data.template.text,
        step=step,
        max_steps=loaded.config.trainer.max_steps,
        command=command(loaded.config.as_dict()),
        claims=[{**claim, "value": fixed(claim["value"])} for claim in claims],
        numbers=numbers,
        curves={title: values for title, values in curves.items() if values},
    )
