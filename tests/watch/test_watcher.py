"""Run folders that appear, grow, break and go, as a watcher sees them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import begin, line, measure

from taskcluster.metrics import OWN, catalogue
from taskcluster.operations.live.curves import Curves
from taskcluster.operations.live.live import Live
from taskcluster.operations.live.watcher import Watcher
from taskcluster.results.points import over_runs
from taskcluster.runs.journal import append


def only(watcher: Watcher) -> Live:
    watcher.scan()
    (live,) = watcher.runs()
    return live


def only_curves(watcher: Watcher) -> Curves:
    watcher.scan()
    ((_, curves),) = watcher.conditions.values()
    return curves


def labels(watcher: Watcher) -> list[str]:
    watcher.scan()
    return [condition.label for condition, _ in watcher.conditions.values()]


def test_a_run_that_appears_has_its_facts(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    watcher.scan()
    assert (watcher.runs(), watcher.conditions) == ([], {})
    run = begin(tmp_path / "sweep" / "model.n_layer=2" / "seed=0")
    with run.locked():
        live = only(watcher)
    assert (live.name, live.sweep, live.seed) == ("sweep/model.n_layer=2/seed=0", "sweep", "0")
    assert (live.state, live.step, live.max_steps, live.trend) == ("running", None, 100, ())


def test_version_grows_only_with_news(tmp_path: Path) -> None:
    runs = [begin(tmp_path / "s" / f"n={n}" / "seed=0", n_layer=n) for n in (2, 3)]
    for run in runs:
        measure(run, 0)
    watcher = Watcher(tmp_path)
    watcher.scan()
    before = watcher.version
    watcher.scan()
    assert watcher.version == before
    measure(runs[0], 10)
    watcher.scan()
    assert watcher.version > before
    assert [curves.version > before for _, curves in watcher.conditions.values()] == [True, False]


def test_the_points_are_those_of_the_report(tmp_path: Path) -> None:
    runs = [begin(tmp_path / f"seed={seed}", seed) for seed in range(3)]
    watcher = Watcher(tmp_path)
    for step in range(0, 40, 10):
        for seed, run in enumerate(runs if step < 20 else runs[:2]):
            measure(run, step, 0.3 + 0.1 * seed + step / 100)
        watcher.scan()
    curves = only_curves(watcher)
    known = catalogue(OWN)
    expected = [
        p
        for p in over_runs([run.rows() for run in runs], known)
        if known[p["metric"]].at(p["split"], p["layer"] or 0) in curves.keys
    ]
    assert len(expected) == len(curves.keys) * 4
    for point in expected:
        k = curves.keys.index(known[point["metric"]].at(point["split"], point["layer"] or 0))
        at_step = curves.points[point["step"]]
        assert at_step["n"] == point["n"]
        for name in ("mean", "lower", "upper"):
            assert at_step[name][k] == pytest.approx(point[name], abs=1e-6)
        assert at_step["runs"][k] == pytest.approx(point["runs"])


def test_a_torn_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    measure(run, 0)
    watcher = Watcher(tmp_path)
    text = json.dumps(line(10) | {"elapsed": 1.0}) + "\n"
    with run.journal.open("a") as journal:
        journal.write(text[:50])
        journal.flush()
        assert only(watcher).step == 0
        journal.write(text[50:])
    assert only(watcher).step == 10


def test_lines_that_a_resume_drops_go(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    for step in (0, 10, 20):
        measure(run, step)
    watcher = Watcher(tmp_path)
    assert [*only_curves(watcher).points] == [0, 10, 20]
    run.start(run.config(), 10, OWN)
    run.write_status("running", starts=[*run.status()["starts"], {"step": 10, "max_steps": 100}])
    assert [*only_curves(watcher).points] == [0, 10]
    measure(run, 20, 0.9)
    curves = only_curves(watcher)
    assert curves.points[20]["mean"][curves.keys.index("val/accuracy")] == 0.9


def test_time_left_follows_the_recent_speed_since_the_last_start(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0", max_steps=1000)
    for step in range(10, 110, 10):
        append(run.training, {"step": step, "elapsed": step / 5})
    with run.locked():
        watcher = Watcher(tmp_path)
        live = only(watcher)
        assert (live.step, live.steps_per_second, live.seconds_left) == (100, 5, 180)
        run.write_status("running", starts=[*run.status()["starts"], {"step": 100, "max_steps": 1000}])
        assert only(watcher).seconds_left is None
        for step in (110, 120):
            append(run.training, {"step": step, "elapsed": 3 + step / 50})
        assert only(watcher).seconds_left == pytest.approx(880 / 50)


def test_time_left_of_checkpoints_is_counted_by_checkpoints(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0", max_steps=143000)
    run.write_status("running", starts=[{"step": 0, "max_steps": 143000, "steps": [0, 1, 512, 1000, 143000]}])
    for k, step in enumerate((0, 1, 512)):
        append(run.journal, line(step, 0.5) | {"elapsed": 10.0 * (k + 1)})
    with run.locked():
        assert only(Watcher(tmp_path)).seconds_left == pytest.approx(20)


def test_states(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    watcher = Watcher(tmp_path)
    with run.locked():
        assert only(watcher).state == "running"
    assert only(watcher).state == "killed"
    for state in ("interrupted", "failed", "finished"):
        run.write_status(state, wall_seconds=12.5)
        assert (only(watcher).state, only(watcher).seconds) == (state, 12.5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", b'{"state": "run'),
        ("status.json", b'{"starts": [{"max_steps": {}}]}'),
        ("config.yaml", b"just words"),
        ("metrics.jsonl", b'{"no": "step"}\n'),
        ("training.jsonl", b"3\n"),
    ],
)
def test_a_damaged_run_is_shown_as_damaged_until_it_is_repaired(tmp_path: Path, name: str, content: bytes) -> None:
    bad, good = begin(tmp_path / "s" / "seed=0"), begin(tmp_path / "s" / "seed=1", 1)
    measure(good, 0)
    whole = (bad.path / name).read_bytes()
    (bad.path / name).write_bytes(content)
    watcher = Watcher(tmp_path)
    for _ in range(2):
        watcher.scan()
        first, second = watcher.runs()
        assert (first.state, second.state, second.step) == ("damaged", "killed", 0)
        assert first.problem
    (bad.path / name).write_bytes(whole)
    measure(bad, 10)
    watcher.scan()
    assert [(live.state, live.step, live.problem) for live in watcher.runs()] == [("killed", 10, ""), ("killed", 0, "")]


def test_runs_that_vanish_go_with_their_points(tmp_path: Path) -> None:
    runs = [begin(tmp_path / "s" / f"seed={seed}", seed) for seed in range(3)]
    for run in runs:
        measure(run, 0)
    watcher = Watcher(tmp_path)
    assert only_curves(watcher).points[0]["n"] == 3
    shutil.rmtree(runs[2].path)
    assert only_curves(watcher).points[0]["n"] == 2
    shutil.rmtree(tmp_path / "s")
    watcher.scan()
    assert (watcher.runs(), watcher.conditions) == ([], {})


def test_labels_say_what_the_conditions_differ_in(tmp_path: Path) -> None:
    begin(tmp_path / "s" / "n=2" / "seed=0", n_layer=2)
    watcher = Watcher(tmp_path)
    assert labels(watcher) == ["s"]
    begin(tmp_path / "s" / "n=4" / "seed=0", n_layer=4)
    assert labels(watcher) == ["model.n_layer=2", "model.n_layer=4"]


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    secret = begin(outside / "seed=0")
    measure(secret, 0)
    run = begin(root / "seed=1")
    run.journal.unlink()
    run.journal.symlink_to(secret.journal)
    (root / "linked").symlink_to(outside)
    piped = begin(root / "seed=2")
    piped.training.unlink()
    os.mkfifo(piped.training)
    watcher = Watcher(root)
    watcher.scan()
    assert [(live.state, live.step) for live in watcher.runs()] == [("damaged", None), ("damaged", None)]


def test_watching_writes_nothing(tmp_path: Path) -> None:
    measure(begin(tmp_path / "seed=0"), 0)

    def listing() -> dict[Path, Any]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [tmp_path, *tmp_path.rglob("*")]}

    before = listing()
    only(Watcher(tmp_path))
    assert listing() == before
