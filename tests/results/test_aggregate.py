"""Runs found, grouped and averaged, where the answer is known."""

from pathlib import Path

import pytest
from planted import config, plant, rows
from scipy.stats import t
from taskcluster.results.aggregate import conditions, find_runs, over_runs, seeds_of, sweep_of

from taskcluster.metrics import OWN, catalogue

KNOWN = catalogue(OWN)


def test_runs_are_found_in_natural_order_and_links_are_not_followed(tmp_path: Path) -> None:
    for path in ("a/seed=10", "a/seed=2", "b/model.n_layer=2/seed=0"):
        plant(tmp_path / "root" / path, 0.9, config(0))
    plant(tmp_path / "elsewhere", 0.9, config(0))
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    found = [str(run.path.relative_to(tmp_path / "root")) for run in find_runs(tmp_path / "root")]
    assert found == ["a/seed=2", "a/seed=10", "b/model.n_layer=2/seed=0"]
    assert [run.path for run in find_runs(tmp_path / "root/a/seed=2")] == [tmp_path / "root/a/seed=2"]


@pytest.mark.parametrize(
    ("path", "sweep"),
    [
        ("seeds/seed=0", "seeds"),
        ("sweep/model.n_layer=2/seed=0", "sweep"),
        ("model.n_layer=2/seed=0", "multirun"),
        ("a/b/0", "a/b"),
        ("", "multirun"),
    ],
)
def test_a_sweep_is_the_folder_above_conditions(path: str, sweep: str) -> None:
    assert sweep_of(Path("multirun") / path, Path("multirun")) == sweep


def test_conditions_differ_in_more_than_seeds_and_are_named_after_it() -> None:
    muon = {"optimizer": {"_target_": "taskcluster.models.optimizers.MuonWithAdamW", "momentum": 0.95}}
    adam = {"optimizer": {"_target_": "torch.optim.AdamW", "fused": True}}
    given = [
        ("a", "depth", config(0, n_layer=2)),
        ("b", "depth", config(1, n_layer=2, logger={"project": "another"}, resume="must")),
        ("c", "depth", config(0, n_layer=4)),
        ("d", "optimizer", config(0, **adam)),
        ("e", "optimizer", config(0, **muon)),
        ("f", "length", config(0, trainer={"max_steps": 50}, scheduler={"max_steps": 50})),
        ("g", "length", config(0)),
        ("h", "seeds", config(0)),
    ]
    found = conditions(given)
    assert [(c.sweep, c.label, c.runs) for c in found] == [
        ("depth", "model.n_layer=2", ["a", "b"]),
        ("depth", "model.n_layer=4", ["c"]),
        ("optimizer", "optimizer=AdamW", ["d"]),
        ("optimizer", "optimizer=MuonWithAdamW", ["e"]),
        ("length", "trainer.max_steps=50", ["f"]),
        ("length", "trainer.max_steps=200", ["g"]),
        ("seeds", "seeds", ["h"]),
    ]
    assert found[4].settings == {"trainer.max_steps": 50, "scheduler.max_steps": 50}
    assert len({c.key for c in found}) == len(found)
    assert conditions(given[2:])[0].key == found[1].key  # whatever else is there


def test_a_control_beside_a_grid_is_named_by_what_is_unusual_of_it() -> None:
    control = config(0, n_layer=6, data={"loss_on": "y"})
    grid = [config(0, n_layer=n_layer, data={"loss_on": "sequence"}) for n_layer in (2, 4, 6)]
    found = conditions([(k, "depth", one) for k, one in enumerate([control, *grid])])
    assert [c.label for c in found] == [
        "model.n_layer=6, data.loss_on=y",
        "model.n_layer=2",
        "model.n_layer=4",
        "model.n_layer=6",
    ]
    assert found[0].settings == {"model.n_layer": 6, "data.loss_on": "y"}
    whole = [*grid, *(config(0, n_layer=n_layer, data={"loss_on": "y"}) for n_layer in (2, 4, 6))]
    named = [c.label for c in conditions([(k, "both", one) for k, one in enumerate(whole)])]
    assert named[0] == "model.n_layer=2, data.loss_on=sequence"
    assert len({*named}) == 6


def test_controls_are_named_where_other_keys_would_tell_them_apart() -> None:
    rest = [
        {"holdout": "pair", "loss_on": "y"},
        {"holdout": "none", "loss_on": "x"},
        {"holdout": "pair", "shuffle": True},
    ]
    common = {"loss_on": "x", "shuffle": False}
    found = conditions([(k, "controls", config(0, data={**common, **one})) for k, one in enumerate(rest)])
    assert [c.label for c in found] == [
        "data.loss_on=y",
        "data.loss_on=x, data.holdout=none",
        "data.loss_on=x, data.shuffle=True",
    ]


def test_a_seed_set_by_itself_is_named() -> None:
    assert seeds_of(config(3)) == "3"
    assert seeds_of(config(3) | {"seeds": {"tasks": 3, "kmeans": 8}}) == "3, kmeans=8"


def test_points_are_means_over_the_runs_that_have_the_step() -> None:
    journals = [rows(0.8), rows(0.9), rows(0.85), rows(0.7)[:2]]
    points = {(p["step"], p["metric"], p["split"], p["layer"]): p for p in over_runs(journals, KNOWN)}
    last = points[200, "ari", "val", 3]
    assert (last["n"], last["mean"]) == (3, pytest.approx(0.85))
    assert (last["runs"], last["least"], last["most"]) == (pytest.approx([0.8, 0.9, 0.85, None]), 0.8, 0.9)
    assert last["lower"] < 0.8 < 0.9 < last["upper"]
    assert points[50, "ari", "train", 3]["n"] == 4
    assert points[0, "accuracy", "val", None]["mean"] == 0


def test_one_run_has_points_without_interval() -> None:
    points = over_runs([rows(0.8)], KNOWN)
    assert {(p["n"], p["sd"], p["lower"], p["upper"]) for p in points} == {(1, None, None, None)}
    assert {p["upper_over_map"] for p in points if p["layer"] is not None} == {None}


def test_intervals_over_a_map_are_wider_by_the_number_of_its_cells() -> None:
    points = over_runs([rows(ari) for ari in (0.8, 0.8, 0.85, 0.9, 0.9)], {})
    (last,) = [p for p in points if (p["step"], p["metric"], p["split"], p["layer"]) == (200, "ari", "val", 3)]
    assert last["cells"] == 5 * 4  # steps by layers
    for family, cells in (("", 1), ("_over_layers", 4), ("_over_map", 20)):
        half = t.ppf(1 - 0.05 / 2 / cells, 4) * 0.05 / 5**0.5
        ends = last[f"lower{family}"], last[f"upper{family}"]
        assert ends == pytest.approx((0.85 - half, 0.85 + half))
    assert "cells" not in next(p for p in points if p["metric"] == "accuracy")


def test_intervals_end_where_the_metric_does() -> None:
    points = over_runs([rows(ari) for ari in (0.5, 0.99, 0.9, 0.95)], KNOWN)
    there = 0
    for point in points:
        low, high = KNOWN[point["metric"]].range
        for family in ("", "_over_steps", "_over_layers", "_over_map"):
            if point.get(f"lower{family}") is not None:
                there += 1
                assert low <= point[f"lower{family}"] <= point["mean"] <= point[f"upper{family}"] <= high
    assert there > 100


def test_two_runs_have_points_without_any_interval_and_the_values_of_each() -> None:
    for point in over_runs([rows(0.5), rows(0.99)], KNOWN):
        assert {point[key] for key in point if key.startswith(("lower", "upper"))} == {None}
        assert point["mean"] == pytest.approx(sum(point["runs"]) / 2)


def test_five_runs_are_not_drawn_one_by_one() -> None:
    assert {point["runs"] is None for point in over_runs([rows(0.5)] * 5, KNOWN)} == {True}
    assert {point["runs"] is None for point in over_runs([rows(0.5)], KNOWN)} == {True}
