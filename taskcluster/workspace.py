"""A saved view of a W&B project: every curve that matters in one place, without a click."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from taskcluster.validation import ConfigError

SPLITS = ("train", "val")

ARI = {"ari": "ARI at the separator", "ari_within_x": "ARI at x, within each x"}

RUNS = 100  # that a panel shows: it would stop at ten


def create_workspace(entity: str | None, project: str, name: str, n_layers: int) -> str:
    """Save a view under this name, and return its address.

    entity: None for the account's own; n_layers: as many as have curves, the embedding included. Raises ConfigError
    where wandb-workspaces is not installed, there is no API key, or the server does not answer or refuses.
    """
    if find_spec("wandb_workspaces") is None:
        raise ConfigError('wandb-workspaces is not installed; pip install "taskcluster-lm[workspace]"')
    import wandb

    from taskcluster.tracking import account, in_a_line

    workspace = _workspace(project, name, n_layers)
    try:
        if hindrance := account.hindrance():
            raise ConfigError(f"W&B cannot be used: {hindrance}; try `wandb login`")
        workspace.entity = entity or wandb.Api(timeout=account.SECONDS).default_entity
        return workspace.save().url
    except ConfigError:
        raise
    except Exception as error:  # of wandb's many kinds
        raise ConfigError(f"W&B did not save the workspace: {in_a_line(error)}") from error
    finally:
        account.leave()


def _workspace(project: str, name: str, n_layers: int) -> Any:
    """Sections: the curves of all layers, each layer by itself over all runs, accuracy and loss."""
    import wandb_workspaces.workspaces as ws

    every_layer = {
        f"{title}, {split}": [f"{metric}/{split}/layer_{layer}" for layer in range(n_layers)]
        for metric, title in ARI.items()
        for split in SPLITS
    }
    by_layer = {
        f"{title}, layer {layer}": [f"{metric}/{split}/layer_{layer}" for split in SPLITS]
        for metric, title in ARI.items()
        for layer in range(n_layers)
    }
    learning = {
        "accuracy": [f"{split}/accuracy" for split in SPLITS],
        "loss": [f"{split}/loss" for split in SPLITS],
        "loss of the batch": ["train/batch_loss"],
        "learning rate": ["train/learning_rate"],
    }
    return ws.Workspace(
        entity="",
        project=project,
        name=name,
        sections=[
            _section("ARI, all layers", every_layer, columns=2),
            _section("Accuracy and loss", learning, columns=2),
            _section("ARI, layer by layer", by_layer, columns=3),
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
