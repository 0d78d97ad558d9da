"""Export a run's model in the files that transformers reads, for the hub and other programs.

in:  a run folder, a step
out: a folder with config.json, model.safetensors, the tokenizer's files, the run's config.yaml as taskcluster.yaml, and
     README.md, a model card
"""

from pathlib import Path

import yaml

from taskcluster.data.sources import quietly
from taskcluster.operations.command_line.cli import composed
from taskcluster.pages.rendering import render
from taskcluster.results.claims import judged
from taskcluster.runs.atomic_files import EXPORTED_CONFIG
from taskcluster.runs.condition import differing_keys, flatten
from taskcluster.runs.journal import Row, fixed, layers_of, number
from taskcluster.training.loading import LoadedRun, load_run
from taskcluster.views import shown


def export(run: Path, folder: Path, step: int | None = None) -> int:
    """Write the model of a step, the last one by default, to an empty folder, and return the step. Raises UserError
    for a step without a checkpoint."""
    loaded = load_run(run, step)
    loaded.network.config.use_cache = True  # which generates text faster; here no text is generated
    with quietly():
        loaded.network.save_pretrained(folder)
    loaded.data.tokenizer.save_pretrained(folder)
    (folder / EXPORTED_CONFIG).write_text(yaml.safe_dump(loaded.config.as_dict(), sort_keys=False), encoding="utf-8")
    (folder / "README.md").write_text(card(loaded), encoding="utf-8")
    return loaded.step


def card(loaded: LoadedRun) -> str:
    """Return the model card: what the model is, how it was trained, and its measurements."""
    run, step, config = loaded.run, loaded.step, loaded.config.as_dict()
    row = next((row for row in run.rows() if row["step"] == step), Row())
    results, known, flat = run.results(), run.catalogue(), flatten(config)
    claims = judged(results) if results and results["final"]["step"] == step else []
    curves = {metric.title: layers_of(row, metric.stem("val")) for metric in shown(known, "runs", by_layer=True)}
    return render(
        "card.md",
        name=run.name,
        kind=type(loaded.network).__name__,
        n_weights=f"{loaded.network.num_parameters():,}",
        base=loaded.config.model.arguments.get("path"),
        text=loaded.data.template.text,
        step=step,
        max_steps=loaded.config.trainer.max_steps,
        settings={key: flat[key] for key in differing_keys(composed(), config) if key in flat},
        claims=[{**claim, "value": fixed(claim["value"])} for claim in claims],
        numbers={m.title: fixed(number(row, m.stem("val"))) for m in shown(known, "runs", by_layer=False)},
        curves={title: [fixed(value, 2) for value in values] for title, values in curves.items() if values},
    )
