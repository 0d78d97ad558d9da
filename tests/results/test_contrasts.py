"""Differences on the same seeds equal the planted ones, since effects of seeds on both conditions cancel."""

from pathlib import Path

import planted
import pytest
from planted import config, plant

from taskcluster.results.answers import compared
from taskcluster.results.contrasts import differences, reference
from taskcluster.results.findings import Findings
from taskcluster.results.intervals import interval

ARIS = (0.5, 0.9, 0.6, 0.8)  # of the reference, by seed
RISES = (0.05, 0.06, 0.04, 0.05)
SEQUENCE = {"data": {"loss_on": "sequence"}}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three depths and a control, which lacks the last seed."""
    for seed, (ari, rise) in enumerate(zip(ARIS, RISES, strict=True)):
        for n_layer, more in ((2, -rise), (3, 0), (4, rise)):
            plant(tmp_path / f"n_layer={n_layer}/seed={seed}", ari + more, config(seed, n_layer=n_layer, **SEQUENCE))
        if seed < 3:
            plant(tmp_path / f"loss_on=y/seed={seed}", ari - 2 * rise, config(seed, data={"loss_on": "y"}))
    return tmp_path


def test_differences_are_means_over_the_seeds_that_both_have(sweep: Path) -> None:
    table, _ = differences(Findings(sweep))
    rows = {row[0]: row[1:] for row in table.rows if row[2] == "ARI at the separator"}
    alone, many = interval(RISES, (-1.5, 1.5)), interval(RISES, (-1.5, 1.5), 12)
    assert rows["model.n_layer=4"] == [
        "model.n_layer=3",
        "ARI at the separator",
        f"0.050 [{alone.lower:.3f}, {alone.upper:.3f}]",
        f"[{many.lower:.3f}, {many.upper:.3f}]",  # 3 conditions by 4 metrics
        "4",
    ]
    assert "0.05 / 12" in table.note
    others = {name: (row[2].split()[0], row[4]) for name, row in rows.items() if name != "model.n_layer=4"}
    assert others == {"model.n_layer=2": ("-0.050", "4"), "model.n_layer=3, data.loss_on=y": ("-0.100", "3")}


def test_the_reference_has_what_most_conditions_have(sweep: Path) -> None:
    conditions = Findings(sweep).conditions
    assert reference(conditions).label == "model.n_layer=3"
    only = [condition for condition in conditions if condition.settings["data.loss_on"] == "sequence"]
    assert reference(only).label == "model.n_layer=2"  # the first of equals


def test_other_seeds_have_no_differences(tmp_path: Path) -> None:
    plant(tmp_path / "b", 0.8, config(1))
    plant(tmp_path / "c", 0.8, config(2, n_layer=2))
    assert differences(Findings(tmp_path)) == []
    plant(tmp_path / "d", 0.7, config(1, n_layer=2))
    table, _ = differences(Findings(tmp_path))
    assert ["ARI at the separator", "-0.100 (too few runs)", "too few runs", "1"] in [row[2:] for row in table.rows]


def test_steps_of_emergence_are_compared_on_the_same_seeds_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = []
    for seed in range(5):
        plant(tmp_path / f"wd=0/seed={seed}", 0.9, config(seed, optimizer={"weight_decay": 0.0}))
        with monkeypatch.context() as patched:
            patched.setattr(planted, "PROGRESS", (0.0, 0.1, 0.3, 0.7 + seed / 100, 1.0))
            plant(tmp_path / f"wd=1/seed={seed}", 0.9, config(seed, optimizer={"weight_decay": 0.3}))
        late.append(100 + 50 * 0.2 / (0.4 + seed / 100) - 75)  # between steps 100 and 150, less between 50 and 100
    found = Findings(tmp_path)
    expected = interval(late, (-200, 200))
    _, table = differences(found)
    (row,) = [row for row in table.rows if row[2] == "ARI at the separator"]
    assert row[:2] == ["optimizer.weight_decay=0.3", "optimizer.weight_decay=0.0"]
    assert row[3] == f"{expected.mean:.0f} [{expected.lower:.0f}, {expected.upper:.0f}]"
    said = compared(found)[-1]
    assert "weight_decay=0.3 against weight_decay=0.0: ARI at the separator emerges 49 [48, 50] steps later" in said
