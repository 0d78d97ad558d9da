"""Runs are found, grouped and named."""

from pathlib import Path
from typing import Any

import pytest
from planted import config, plant

from taskcluster.results.conditions import conditions, find_runs, sweep_of

SEQUENCE, ANSWER = {"data": {"loss_on": "sequence"}}, {"data": {"loss_on": "y"}}


def test_runs_are_found_in_natural_order_without_following_links(tmp_path: Path) -> None:
    for path in ("a/seed=10", "a/seed=2", "b/model.n_layer=2/seed=0"):
        plant(tmp_path / "root" / path, 0.9, config(0))
    plant(tmp_path / "elsewhere", 0.9, config(0))
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    paths = [str(run.path.relative_to(tmp_path / "root")) for run in find_runs(tmp_path / "root")]
    assert paths == ["a/seed=2", "a/seed=10", "b/model.n_layer=2/seed=0"]
    assert [run.path for run in find_runs(tmp_path / "root/a/seed=2")] == [tmp_path / "root/a/seed=2"]


@pytest.mark.parametrize(
    ("path", "sweep"),
    [
        ("seeds/seed=0", "seeds"),
        ("sweep/model.n_layer=2/seed=0", "sweep"),
        ("sweep/model.n_layer=2/seed=0/analysis/probe", "sweep"),
        ("model.n_layer=2/seed=0", "multirun"),
        ("a/b/0", "a/b"),
        ("", "multirun"),
    ],
)
def test_a_sweep_is_the_folder_above_conditions(path: str, sweep: str) -> None:
    assert sweep_of(Path("multirun") / path, Path("multirun")) == sweep


def labels(*configs: dict[str, Any]) -> list[str]:
    return [condition.label for condition in conditions([(k, "sweep", one) for k, one in enumerate(configs)])]


def test_conditions_differ_in_more_than_seeds() -> None:
    runs = [
        ("a", "depth", config(0, n_layer=2)),
        ("b", "depth", config(1, n_layer=2, logger={"project": "another"}, resume="must")),
        ("c", "depth", config(0, n_layer=4)),
        ("d", "length", config(0, trainer={"max_steps": 50}, scheduler={"max_steps": 50})),
        ("e", "length", config(0)),
        ("f", "seeds", config(0)),
    ]
    grouped = conditions(runs)
    assert [(c.sweep, c.label, c.runs) for c in grouped] == [
        ("depth", "model.n_layer=2", ["a", "b"]),
        ("depth", "model.n_layer=4", ["c"]),
        ("length", "trainer.max_steps=50", ["d"]),
        ("length", "trainer.max_steps=200", ["e"]),
        ("seeds", "seeds", ["f"]),
    ]
    assert grouped[2].settings == {"trainer.max_steps": 50, "scheduler.max_steps": 50}
    assert len({c.key for c in grouped}) == len(grouped)
    assert conditions(runs[2:])[0].key == grouped[1].key  # independent of other conditions


def test_options_are_named_by_their_class() -> None:
    adam = {"_target_": "torch.optim.AdamW", "fused": True}
    muon = {"_target_": "taskcluster.models.optimizers.MuonWithAdamW", "momentum": 0.95}
    named = labels(*(config(0, optimizer=optimizer) for optimizer in (adam, muon)))
    assert named == ["optimizer=AdamW", "optimizer=MuonWithAdamW"]


def test_a_control_beside_a_grid_is_named_by_what_is_unusual_about_it() -> None:
    grid = [config(0, n_layer=n_layer, **SEQUENCE) for n_layer in (2, 4, 6)]
    control = config(0, n_layer=6, **ANSWER)
    named = labels(control, *grid)
    assert named == ["model.n_layer=6, data.loss_on=y", "model.n_layer=2", "model.n_layer=4", "model.n_layer=6"]
    whole = labels(*grid, *(config(0, n_layer=n_layer, **ANSWER) for n_layer in (2, 4, 6)))
    assert whole[0] == "model.n_layer=2, data.loss_on=sequence"
    assert len({*whole}) == 6


def test_several_controls_have_different_labels() -> None:
    common = {"loss_on": "x", "shuffle": False}
    changes = [{"holdout": "pair", "loss_on": "y"}, {"holdout": "none"}, {"holdout": "pair", "shuffle": True}]
    named = labels(*(config(0, data={**common, **one}) for one in changes))
    assert named == ["data.loss_on=y", "data.loss_on=x, data.holdout=none", "data.loss_on=x, data.shuffle=True"]


def test_objectives_are_named_together() -> None:
    plain, weighted = {"next_token": {"_target_": "N", "x": None}}, {"answer": {"_target_": "N", "x": 0.0}}
    detached = {"detached": {"_target_": "D", "last": 1}}
    asked = [plain, weighted, plain | detached, weighted | detached]
    named = labels(*({"objective": each, "model": {"n_layer": n}} for each in asked for n in (2, 4)))
    names = ("next_token", "answer", "next_token+detached", "answer+detached")
    assert named == [f"objective={name}, model.n_layer={n}" for name in names for n in (2, 4)]
