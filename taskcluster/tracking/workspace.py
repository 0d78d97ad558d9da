"""A saved view of a W&B project: every curve that matters in one place, without a click."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from taskcluster.metrics import Catalogue
from taskcluster.runs.journal import SPLITS
from taskcluster.validation import UserError
from taskcluster.views import shown

RUNS = 100  # that a panel shows: it would stop at ten


def save_workspace(root: Path) -> str:
    """A saved view of the W&B project of the finished runs at or below `root`, named after it; gives its address.

    Raises UserError where no run was mirrored there, or W&B cannot be reached.
    """
    from taskcluster.results.findings import Findings

    found = Findings(root)
    runs = found.runs
    loggers = (run.config.get("logger", {}) for run in runs)
    logger = next((logger for logger in loggers if isinstance(logger.get("project"), str)), None)
    if logger is None:
        raise UserError(f"{root} holds no run with logger=wandb; a workspace would be empty")
    known = found.catalogue
    n_layers = max(len(run.keys(metric)) for run in runs for metric in known.values())
    return create_workspace(logger.get("entity"), logger["project"], root.resolve().name, known, n_layers)


def create_workspace(entity: str | None, project: str, name: str, known: Catalogue, n_layers: int) -> str:
    """Save a view under this name, and return its address.

    entity: None for the account's own; known: what there are curves of; n_layers: as many as have curves, the
    embedding included. Raises UserError where wandb-workspaces is not installed, there is no API key, or the server
    does not answer or refuses.
    """
    if find_spec("wandb_workspaces") is None:
        raise UserError('wandb-workspaces is not installed; pip install "taskcluster-lm[workspace]"')
    import wandb

    from taskcluster.tracking import account
    from taskcluster.tracking.mirror import in_a_line

    workspace = _workspace(project, name, known, n_layers)
    try:
        if hindrance := account.hindrance():
            raise UserError(f"W&B cannot be used: {hindrance}; try `wandb login`")
        workspace.entity = entity or wandb.Api(timeout=account.SECONDS).default_entity
        return workspace.save().url
    except UserError:
        raise
    except Exception as error:  # of wandb's many kinds
        raise UserError(f"W&B did not save the workspace: {in_a_line(error)}") from error
    finally:
        account.leave()


def _workspace(project: str, name: str, known: Catalogue, n_layers: int) -> Any:
    """Sections: the curves of all layers, each layer by itself over all runs, accuracy and loss."""
    import wandb_workspaces.workspaces as ws

    curves = shown(known, "curves", by_layer=True)
    every_layer = {
        f"{metric.title}, {split}": [metric.at(split, layer) for layer in range(n_layers)]
        for metric in curves
        for split in SPLITS
    }
    by_layer = {
        f"{metric.title}, layer {layer}": [metric.at(split, layer) for split in SPLITS]
        for metric in curves
        for layer in range(n_layers)
    }
    learning = {
        **{m.title: [m.stem(split) for split in SPLITS] for m in shown(known, "curves", by_layer=False)},
        "loss of the batch": ["train/batch_loss"],
        "learning rate": ["train/learning_rate"],
    }
    return ws.Workspace(
        entity="",
        project=project,
        name=name,
        sections=[
            _section("All layers", every_layer, columns=2),
            _section("Accuracy and loss", learning, columns=2),
            _section("Layer by layer", by_layer, columns=3),
        ],
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=RUNS),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")]),
    )


def _section(title: str, panels: Mapping[str, list[str]], columns: int) -> Any:
    """One panel for every title, with a line for each of its metrics."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import LinePlot

    plots: list[Any] = [
        LinePlot(title=name, x="step", y=list(metrics), title_x="step") for name, metrics in panels.items()
    ]
    layout = ws.SectionLayoutSettings(columns=columns, rows=math.ceil(len(plots) / columns))
    return ws.Section(name=title, panels=plots, is_open=True, layout_settings=layout)
