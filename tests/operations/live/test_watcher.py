"""The watcher follows run folders that appear, grow, break and disappear."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
from planted import SIMILARITY, begin, line, measure

from taskcluster.metrics import OWN, catalogue
from taskcluster.operations.live.live import Live
from taskcluster.operations.live.watcher import Curves, Watcher
from taskcluster.results.points import over_runs
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.journal import append


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return begin(tmp_path / "seed=0", max_steps=1000)


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    return Watcher(tmp_path)


def scanned(watcher: Watcher) -> list[Live]:
    watcher.scan()
    return watcher.runs()


def only_curves(watcher: Watcher) -> Curves:
    watcher.scan()
    ((_, curves),) = watcher.conditions.values()
    return curves


def test_a_run_that_appears_has_its_facts(tmp_path: Path, watcher: Watcher) -> None:
    assert (scanned(watcher), watcher.conditions) == ([], {})
    with begin(tmp_path / "sweep" / "model.n_layer=2" / "seed=0").locked():
        (live,) = scanned(watcher)
    assert (live.name, live.sweep, live.seed) == ("sweep/model.n_layer=2/seed=0", "sweep", "0")
    assert (live.state, live.step, live.max_steps, live.trend) == ("running", None, 100, ())


def test_the_points_are_those_of_the_report(tmp_path: Path, watcher: Watcher) -> None:
    runs = [begin(tmp_path / f"seed={seed}", seed) for seed in range(3)]
    for step in range(0, 40, 10):
        for seed, run in enumerate(runs if step < 20 else runs[:2]):
            measure(run, step, 0.3 + 0.1 * seed + step / 100)
        watcher.scan()
    sent, known = json.loads(only_curves(watcher).encoded), catalogue(OWN)
    for point in over_runs([run.rows() for run in runs], known):
        key = known[point["metric"]].at(point["split"], point["layer"] or 0)
        if key in sent["keys"]:
            k, column = sent["steps"].index(point["step"]), sent["keys"].index(key)
            assert sent["n"][k] == point["n"]
            for name in ("mean", "lower", "upper", "runs"):
                assert sent[name][k][column] == pytest.approx(point[name], abs=1e-6)


def test_a_torn_line_waits_until_it_is_whole(run: RunFolder, watcher: Watcher) -> None:
    measure(run, 0)
    text = json.dumps(line(10) | {"elapsed": 1.0}) + "\n"
    for part, step in ((text[:50], 0), (text[50:], 10)):
        with run.journal.open("a") as journal:
            journal.write(part)
        assert scanned(watcher)[0].step == step


def test_lines_that_a_resume_drops_go(run: RunFolder, watcher: Watcher) -> None:
    for step in (0, 10, 20):
        measure(run, step)
    assert [*only_curves(watcher).points] == [0, 10, 20]
    run.start(run.config(), 10, OWN)
    run.write_status("running", starts=[*run.status()["starts"], {"step": 10, "max_steps": 100}])
    assert [*only_curves(watcher).points] == [0, 10]
    measure(run, 20, 0.9)
    curves = only_curves(watcher)
    assert curves.points[20]["mean"][curves.keys.index("val/accuracy")] == 0.9


def test_time_left_follows_the_recent_speed_since_the_last_start(run: RunFolder, watcher: Watcher) -> None:
    for step in range(10, 110, 10):
        append(run.training, {"step": step, "elapsed": step / 5})
    with run.locked():
        (live,) = scanned(watcher)
        assert (live.step, live.steps_per_second, live.seconds_left) == (100, 5, 180)
        run.write_status("running", starts=[*run.status()["starts"], {"step": 100, "max_steps": 1000}])
        assert scanned(watcher)[0].seconds_left is None
        for step in (110, 120):
            append(run.training, {"step": step, "elapsed": 3 + step / 50})
        assert scanned(watcher)[0].seconds_left == pytest.approx(880 / 50)


def test_time_left_of_checkpoints_is_counted_by_checkpoints(run: RunFolder, watcher: Watcher) -> None:
    run.write_status("running", starts=[{"step": 0, "max_steps": 143000, "steps": [0, 1, 512, 1000, 143000]}])
    for k, step in enumerate((0, 1, 512)):
        append(run.journal, line(step, 0.5) | {"elapsed": 10.0 * (k + 1)})
    with run.locked():
        assert scanned(watcher)[0].seconds_left == pytest.approx(20)


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
def test_a_damaged_run_is_shown_as_damaged_until_it_is_repaired(
    run: RunFolder, watcher: Watcher, tmp_path: Path, name: str, content: bytes
) -> None:
    measure(begin(tmp_path / "seed=1", 1), 0)
    whole = (run.path / name).read_bytes()
    (run.path / name).write_bytes(content)
    for _ in range(2):
        first, second = scanned(watcher)
        assert (first.state, bool(first.problem), second.state, second.step) == ("damaged", True, "killed", 0)
    (run.path / name).write_bytes(whole)
    measure(run, 10)
    assert [(live.state, live.step) for live in scanned(watcher)] == [("killed", 10), ("killed", 0)]


def test_runs_that_vanish_go_with_their_points(tmp_path: Path, watcher: Watcher) -> None:
    for seed in range(3):
        measure(begin(tmp_path / "s" / f"seed={seed}", seed), 0)
    assert only_curves(watcher).points[0]["n"] == 3
    shutil.rmtree(tmp_path / "s" / "seed=2")
    assert only_curves(watcher).points[0]["n"] == 2
    shutil.rmtree(tmp_path / "s")
    assert (scanned(watcher), watcher.conditions) == ([], {})


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    secret, linked, piped = begin(outside / "seed=0"), begin(root / "seed=1"), begin(root / "seed=2")
    measure(secret, 0)
    linked.journal.unlink()
    linked.journal.symlink_to(secret.journal)
    (root / "linked").symlink_to(outside)
    piped.training.unlink()
    os.mkfifo(piped.training)
    assert [(live.state, live.step) for live in scanned(Watcher(root))] == [("damaged", None), ("damaged", None)]


def test_the_last_matrices_of_runs_are_averaged(tmp_path: Path) -> None:
    runs = [begin(tmp_path / "s" / f"seed={seed}", seed) for seed in range(2)]
    for seed, run in enumerate(runs):
        run.start(run.config(), None, (*OWN, SIMILARITY))
        run.append(line(0) | {"cka/val": [[9.0, 9.0], [9.0, 9.0]]}, elapsed=0, measuring=1)
        run.append(line(10) | {"cka/val": [[1.0, seed], [math.nan, 3.0]]}, elapsed=1, measuring=1)
        run.append(line(20), elapsed=2, measuring=1)  # a step at which the measure was not due
    curves = only_curves(Watcher(tmp_path))
    assert json.loads(curves.encoded)["maps"] == {"val/cka": [[1, 0.5], [None, 3]]}


def test_version_grows_only_with_news(tmp_path: Path, watcher: Watcher) -> None:
    runs = [begin(tmp_path / "s" / f"n={n}" / "seed=0", n_layer=n) for n in (2, 3)]
    for run in runs:
        measure(run, 0)
    watcher.scan()
    before = watcher.version
    watcher.scan()
    assert watcher.version == before
    measure(runs[0], 10)
    watcher.scan()
    assert [curves.version > before for _, curves in watcher.conditions.values()] == [True, False]


def test_states(run: RunFolder, watcher: Watcher) -> None:
    with run.locked():
        assert scanned(watcher)[0].state == "running"
    assert scanned(watcher)[0].state == "killed"
    for state in ("interrupted", "failed", "finished"):
        run.write_status(state, wall_seconds=12.5)
        (live,) = scanned(watcher)
        assert (live.state, live.seconds) == (state, 12.5)
