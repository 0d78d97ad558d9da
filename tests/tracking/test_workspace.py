"""The saved view, as a server gets it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from planted import config, plant
from wandb_server import Mode, WandbServer

from taskcluster.metrics import OWN, catalogue
from taskcluster.tracking import account, workspace
from taskcluster.tracking.workspace import create_workspace, save_workspace
from taskcluster.validation import UserError

KNOWN = catalogue(OWN)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    monkeypatch.chdir(tmp_path)  # where wandb would leave logs
    with WandbServer() as server:
        for name, value in (server.environment() | {"WANDB_HTTP_TIMEOUT": "1", "WANDB_SILENT": "true"}).items():
            monkeypatch.setenv(name, value)
        yield server


def panels(specification: dict[str, Any]) -> dict[str, Any]:
    """Configurations of all panels by title."""
    sections = specification["section"]["panelBankConfig"]["sections"]
    return {panel["config"]["chartTitle"]: panel["config"] for section in sections for panel in section["panels"]}


def test_it_has_the_curves_of_every_layer_over_steps_grouped_by_condition(server: WandbServer) -> None:
    url = create_workspace(None, "taskcluster", "layers", KNOWN, n_layers=3)
    assert url.startswith(f"{server.url}/me/taskcluster?nw=")
    specification = server.views["layers"]
    shown = panels(specification)
    (runs,) = specification["section"]["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert shown["ARI at the separator, val"]["metrics"] == [f"ari/val/layer_{layer}" for layer in range(3)]
    assert shown["ARI at x, within each value of x, train"]["metrics"] == [
        f"ari_within_x/train/layer_{layer}" for layer in range(3)
    ]
    assert shown["ARI at the separator, layer 2"]["metrics"] == ["ari/train/layer_2", "ari/val/layer_2"]
    assert shown["accuracy"]["metrics"] == ["train/accuracy", "val/accuracy"]
    assert shown["loss"]["metrics"] == ["train/loss", "val/loss"]
    assert {config["xAxis"] for config in shown.values()} == {"step"}


@pytest.mark.parametrize(
    ("mode", "said"), [("down", "no answer from"), ("hanging", "no answer from"), ("refusing keys", "API key")]
)
def test_a_server_that_cannot_be_used_is_said_in_a_sentence(server: WandbServer, mode: Mode, said: str) -> None:
    server.turn(mode)
    with pytest.raises(UserError, match=said):
        create_workspace("me", "taskcluster", "layers", KNOWN, n_layers=3)


def test_no_key_is_said_in_a_sentence(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(UserError, match="no API key; try `wandb login`"):
        create_workspace("me", "taskcluster", "layers", KNOWN, n_layers=3)


def test_a_missing_package_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb-workspaces is not installed; pip install"):
        create_workspace("me", "taskcluster", "layers", KNOWN, n_layers=3)


def test_the_report_saves_it_for_the_project_of_its_runs(server: WandbServer, tmp_path: Path) -> None:
    logger = {"project": "depths", "entity": None}
    for n_layer in (2, 3):
        plant(tmp_path / f"sweep/model.n_layer={n_layer}/seed=0", 0.9, config(0, n_layer=n_layer, logger=logger))
    assert save_workspace(tmp_path / "sweep").startswith(f"{server.url}/me/depths?nw=")
    assert len(panels(server.views["sweep"])["ARI at the separator, val"]["metrics"]) == 4


def test_runs_without_wandb_have_no_workspace(tmp_path: Path) -> None:
    plant(tmp_path / "seed=0", 0.9, config(0, logger={}))
    with pytest.raises(UserError, match="holds no run with logger=wandb"):
        save_workspace(tmp_path)


def test_wandbs_own_process_is_killed_if_it_does_not_end(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "LEAVING", 0.5)
    assert account.hindrance() == ""
    (core,) = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    core.suspend()
    account.leave()
    assert not core.is_running()
