"""The saved view, as a server gets it."""

from pathlib import Path

import pytest
from planted import config, plant
from wandb_server import WandbServer

from taskcluster.operations.tracking.workspace import save_workspace
from taskcluster.validation import UserError


def test_report_saves_the_curves_of_every_layer_grouped_by_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = {"project": "depths", "entity": None}
    for n_layer in (2, 3):
        plant(tmp_path / f"sweep/model.n_layer={n_layer}/seed=0", 0.9, config(0, n_layer=n_layer, logger=logger))
    monkeypatch.chdir(tmp_path)  # where wandb would leave logs
    with WandbServer() as server:
        for name, value in (server.environment() | {"WANDB_HTTP_TIMEOUT": "1", "WANDB_SILENT": "true"}).items():
            monkeypatch.setenv(name, value)
        assert save_workspace(tmp_path / "sweep").startswith(f"{server.url}/me/depths?nw=")
        section = server.views["sweep"]["section"]
        server.mode = "refusing keys"
        with pytest.raises(UserError, match="API key"):
            save_workspace(tmp_path / "sweep")
    assert section["runSets"][0]["grouping"] == [{"section": "run", "name": "group"}]
    configs = [panel["config"] for part in section["panelBankConfig"]["sections"] for panel in part["panels"]]
    panels = {one["chartTitle"]: one["metrics"] for one in configs}
    assert {one["xAxis"] for one in configs} == {"step"}
    assert panels["ARI at the separator, val"] == [f"ari/val/layer_{layer}" for layer in range(4)]
    assert panels["ARI at the separator, layer 2"] == ["ari/train/layer_2", "ari/val/layer_2"]
    assert panels["loss"] == ["train/loss", "val/loss"]
