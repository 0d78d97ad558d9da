"""A saved view of a W&B project: every curve in one place, without a click."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskcluster.metrics import Catalogue
from taskcluster.runs.journal import SPLITS
from taskcluster.validation import UserError
from taskcluster.views import shown

RUNS = 100  # that a panel shows: it would stop at ten


def save_workspace(root: Path) -> str:
    """Save a view of the W&B project of the finished runs at or below `root`, named after it; gives its address.

    Raises UserError where no run was mirrored there, wandb-workspaces is not installed, or W&B cannot be used.
    """
    from taskcluster.results.findings import Findings

    found = Findings(root)
    loggers = (run.config.get("logger", {}) for run in found.runs)
    logger = next((logger for logger in loggers if "project" in logger), None)
    if logger is None:
        raise UserError(f"{root} holds no run with logger=wandb; a workspace would be empty")
    n_layers = max(len(run.keys(metric)) for run in found.runs for metric in found.catalogue.values())
    try:
        import wandb
        import wandb_workspaces.workspaces as ws

        from taskcluster.operations.tracking import account

        if hindrance := account.hindrance():
            raise ValueError(f"{hindrance}; try `wandb login`")
        workspace = ws.Workspace(
            entity=logger.get("entity") or wandb.Api(timeout=account.SECONDS).default_entity or "",
            project=logger["project"],
            name=root.resolve().name,
            sections=[_section(title, panels) for title, panels in sections(found.catalogue, n_layers).items()],
            settings=ws.WorkspaceSettings(x_axis="step", max_runs=RUNS),
            runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")]),
        )
        return workspace.save().url
    except ImportError as error:
        raise UserError('wandb-workspaces is not installed; pip install "taskcluster-lm[workspace]"') from error
    except Exception as error:  # of wandb's many kinds
        raise UserError(f"W&B did not save the workspace: {' '.join(str(error).split())}") from error


def _section(title: str, panels: Mapping[str, list[str]]) -> Any:
    """One panel for every title, with a line for each of its metrics."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import LinePlot

    plots: list[Any] = [LinePlot(title=name, x="step", y=[*keys], title_x="step") for name, keys in panels.items()]
    layout = ws.SectionLayoutSettings(columns=2, rows=math.ceil(len(plots) / 2))
    return ws.Section(name=title, panels=plots, is_open=True, layout_settings=layout)


def sections(known: Catalogue, n_layers: int) -> dict[str, dict[str, list[str]]]:
    """Section -> panel -> metrics. n_layers: as many as have curves, the embedding included."""
    curves, layers = shown(known, "curves", by_layer=True), range(n_layers)
    every_layer = {f"{m.title}, {split}": [m.at(split, layer) for layer in layers] for m in curves for split in SPLITS}
    learning = {m.title: [m.stem(split) for split in SPLITS] for m in shown(known, "curves", by_layer=False)}
    learning |= {"loss of the batch": ["train/batch_loss"], "learning rate": ["train/learning_rate"]}
    by_layer = {
        f"{m.title}, layer {layer}": [m.at(split, layer) for split in SPLITS] for m in curves for layer in layers
    }
    return {"All layers": every_layer, "Accuracy and loss": learning, "Layer by layer": by_layer}
