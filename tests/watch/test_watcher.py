"""Run folders that appear, grow, break and go, and what a watcher says came after a version."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import LAYERS, begin, line, measure
from scipy.stats import t

from taskcluster.measures.edits import effect_metrics as of_intervention
from taskcluster.metrics import OWN, catalogue
from taskcluster.results.aggregate import over_runs
from taskcluster.runs.journal import append
from taskcluster.watch.watcher import Changes, Curves, Live, Watcher


def scanned(watcher: Watcher, since: int = 0) -> Changes:
    watcher.scan()
    return watcher.changes(since)


def only(watcher: Watcher) -> Live:
    watcher.scan()
    (live,) = watcher.runs()
    return live


def points(curves: Curves) -> dict[tuple[str, int], tuple[Any, ...]]:
    return {
        (key, step): (curves.n[s][k], curves.mean[s][k], curves.lower[s][k], curves.upper[s][k])
        for s, step in enumerate(curves.steps)
        for k, key in enumerate(curves.curves)
    }


def test_a_folder_that_is_empty_at_first(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    assert scanned(watcher) == Changes(0, None, [], [], [], [], [])
    run = begin(tmp_path / "sweep" / "model.n_layer=2" / "seed=0")
    with run.locked():
        live = only(watcher)
    assert (live.name, live.sweep, live.condition, live.seed) == (
        "sweep/model.n_layer=2/seed=0",
        "sweep",
        "sweep",
        "0",
    )
    assert (live.state, live.step, live.max_steps, live.trend) == ("running", None, 100, ())


def test_only_what_came_is_told(tmp_path: Path) -> None:
    one, other = begin(tmp_path / "s" / "seed=0"), begin(tmp_path / "s" / "seed=1", seed=1)
    third = begin(tmp_path / "s" / "n=3" / "seed=0", n_layer=3)
    for run in (one, other, third):
        measure(run, 0, 0.1)
    watcher = Watcher(tmp_path)
    before = scanned(watcher)
    assert [len(c.steps) for c in before.curves] == [1, 1]
    measure(one, 10, 0.7)
    after = scanned(watcher, before.version)
    assert [live.name for live in after.changed_runs] == ["s/seed=0"]
    (curves,) = after.curves
    assert (curves.replaced, curves.steps, curves.n[0][0]) == (False, [10], 1)
    measure(other, 10, 0.9)
    (curves,) = scanned(watcher, after.version).curves
    key = curves.curves.index("ari/val/layer_2")
    assert (curves.n[0][key], curves.mean[0][key]) == (2, 0.8)
    assert not any(scanned(watcher, watcher.version)[k] for k in (1, 3, 5, 6))
    assert watcher.changes(0).version == watcher.version


def test_the_points_are_those_of_the_report(tmp_path: Path) -> None:
    runs = [begin(tmp_path / f"seed={seed}", seed) for seed in range(3)]
    for seed, run in enumerate(runs):
        for step in range(0, 40 if seed < 2 else 20, 10):
            measure(run, step, 0.3 + 0.1 * seed + step / 100)
    (curves,) = scanned(Watcher(tmp_path)).curves
    found = points(curves)
    expected = over_runs([run.rows() for run in runs], catalogue(OWN))
    shown = [point for point in expected if point["metric"] in ("ari", "ari_within_x", "accuracy", "loss")]
    assert len(found) == len(shown) > 0
    for point in shown:
        split = point["split"]
        layer = "" if point["layer"] is None else f"/layer_{point['layer']}"
        key = f"{point['metric']}/{split}{layer}" if layer else f"{split}/{point['metric']}"
        assert found[key, point["step"]] == pytest.approx([point[k] for k in ("n", "mean", "lower", "upper")], abs=1e-6)


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


def test_what_a_resume_drops_goes(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    for step in (0, 10, 20):
        measure(run, step)
    watcher = Watcher(tmp_path)
    before = scanned(watcher)
    run.start(run.config(), 10, OWN)
    run.write_status("running", starts=[*run.status()["starts"], {"step": 10, "max_steps": 200}])
    after = scanned(watcher, before.version)
    assert (after.curves[0].replaced, after.curves[0].steps) == (True, [0, 10])
    assert after.changed_runs[0].max_steps == 200


def test_a_run_that_restarted_is_read_from_the_beginning_though_its_journal_is_longer(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    measure(run, 0, 0.1)
    watcher = Watcher(tmp_path)
    watcher.scan()
    inode = run.journal.stat().st_ino
    with run.journal.open("r+") as journal:  # in place, as after an inode is used again
        for step in (0, 10, 20):
            journal.write(json.dumps(line(step, 0.9) | {"elapsed": 1.0}) + "\n")
    run.write_status("running", id="another")
    assert run.journal.stat().st_ino == inode
    assert only(watcher).trend == (0.9, 0.9, 0.9)


def test_speed_and_time_left_are_those_of_the_last_start(tmp_path: Path) -> None:
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
        live = only(watcher)
    assert live.steps_per_second == pytest.approx(50)
    assert live.seconds_left == pytest.approx(880 / 50)


def test_the_time_left_of_checkpoints_is_counted_by_checkpoints(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0", max_steps=143000)
    run.write_status("running", starts=[{"step": 0, "max_steps": 143000, "steps": [0, 1, 512, 1000, 143000]}])
    for k, step in enumerate((0, 1, 512)):
        append(run.journal, line(step, 0.5) | {"elapsed": 10.0 * (k + 1)})
    with run.locked():
        live = only(Watcher(tmp_path))
    assert (live.step, live.max_steps, live.seconds_left) == (512, 143000, pytest.approx(20))


def test_states(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    watcher = Watcher(tmp_path)
    with run.locked():
        assert only(watcher).state == "running"
    assert only(watcher).state == "killed"
    for state in ("interrupted", "failed", "finished"):
        run.write_status(state, wall_seconds=12.5)
        live = only(watcher)
        assert (live.state, live.seconds) == (state, 12.5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", b'{"state": "run'),
        ("status.json", b"[1]"),
        ("status.json", b"[" * 100_000),
        ("status.json", b'{"starts": [{"max_steps": {}}]}'),
        ("config.yaml", b"seed: [1"),
        ("config.yaml", b"just words"),
        ("config.yaml", b"{seed: 0, when: 2026-01-01}"),
        ("config.yaml", b"\xff\xfe\x00"),
        ("metrics.jsonl", b'"a line"\n'),
        ("metrics.jsonl", b'{"no": "step"}\n'),
        ("metrics.jsonl", b'{"step": 1, "elapsed": 1, "ari/val/layer_x": 1}\n'),
        ("metrics.jsonl", b'{"step": 1, "elapsed": 1, "ari/val/layer_0": [1]}\n'),
        ("metrics.jsonl", b"[" * 500 + b"]" * 500 + b"\n"),
        ("training.jsonl", b"3\n"),
    ],
)
def test_a_damaged_run_is_said_to_be_and_the_others_stay(tmp_path: Path, name: str, content: bytes) -> None:
    bad, good = begin(tmp_path / "s" / "seed=0"), begin(tmp_path / "s" / "seed=1", 1)
    measure(good, 0)
    whole = (bad.path / name).read_bytes()
    (bad.path / name).write_bytes(content)
    watcher = Watcher(tmp_path)
    watcher.scan()
    first, second = watcher.runs()
    assert first.state == "damaged"
    assert first.problem
    assert (second.state, second.step) == ("killed", 0)
    (bad.path / name).write_bytes(whole)
    watcher.scan()
    assert [live.state for live in watcher.runs()] == ["killed", "killed"]
    assert watcher.runs()[0].problem == ""


def test_lines_after_damage_are_not_lost(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    watcher = Watcher(tmp_path)
    measure(run, 0)
    with run.journal.open("a") as journal:
        journal.write('{"step": null}\n')
    assert only(watcher).state == "damaged"
    run.journal.write_text(run.journal.read_text().replace('{"step": null}\n', ""))
    measure(run, 10)
    assert (only(watcher).state, only(watcher).step) == ("killed", 10)


def test_runs_that_vanish_go_with_their_points(tmp_path: Path) -> None:
    runs = [begin(tmp_path / "s" / f"seed={seed}", seed) for seed in range(3)]
    for run in runs:
        measure(run, 0)
    watcher = Watcher(tmp_path)
    before = scanned(watcher)
    shutil.rmtree(runs[2].path)
    after = scanned(watcher, before.version)
    assert len(after.runs) == 2
    assert (after.curves[0].replaced, after.curves[0].n[0][0]) == (True, 2)
    shutil.rmtree(tmp_path / "s")
    gone = scanned(watcher, after.version)
    assert (gone.runs, gone.conditions) == ([], [])
    assert gone.version > after.version


def test_labels_follow_what_the_conditions_differ_in(tmp_path: Path) -> None:
    begin(tmp_path / "s" / "n=2" / "seed=0", n_layer=2)
    watcher = Watcher(tmp_path)
    before = scanned(watcher)
    assert before.changed_conditions[0]["label"] == "s"
    begin(tmp_path / "s" / "n=4" / "seed=0", n_layer=4)
    after = scanned(watcher, before.version)
    assert [c["label"] for c in after.changed_conditions] == ["model.n_layer=2", "model.n_layer=4"]
    assert after.conditions[:1] == before.conditions
    assert [live.condition for live in after.changed_runs] == ["model.n_layer=2", "model.n_layer=4"]


def test_numbers_that_are_none_are_kept_apart(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    measure(run, 0, math.nan)
    (curves,) = scanned(Watcher(tmp_path)).curves
    assert curves.n[0][0] == 0
    assert curves.mean[0][0] is None
    assert "accuracy" not in dict(only(Watcher(tmp_path)).values)


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
    assert [(live.name, live.state, live.step) for live in watcher.runs()] == [
        ("seed=1", "damaged", None),
        ("seed=2", "damaged", None),
    ]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    begin(tmp_path / os.fsdecode(b"sweep-\xff") / "seed=0")
    live = only(Watcher(tmp_path))
    assert live.name == "sweep-?/seed=0"


def test_watching_writes_nothing(tmp_path: Path) -> None:
    run = begin(tmp_path / "seed=0")
    measure(run, 0)

    def listing() -> dict[Path, Any]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [tmp_path, *tmp_path.rglob("*")]}

    before = listing()
    watcher = Watcher(tmp_path)
    for _ in range(3):
        watcher.scan()
    assert listing() == before


def test_intervals_of_a_map_widen_with_its_cells(tmp_path: Path) -> None:
    (effect, *_) = of_intervention("add", "input")
    runs = [begin(tmp_path / f"seed={seed}", seed) for seed in range(3)]
    watcher = Watcher(tmp_path)
    for step in (0, 10):
        for seed, run in enumerate(runs):
            run.start(run.config(), step or None, (*OWN, effect))
            values = {effect.at("val", layer): 0.3 + 0.02 * seed for layer in range(LAYERS)}
            run.append(line(step) | values, elapsed=step / 10, measuring=0.5)
    (curves,) = scanned(watcher).curves
    cells = 2 * LAYERS
    assert curves.wider["effect_add_input"][:3] == [None] * 3
    times = t.ppf(1 - 0.025 / cells, 2) / t.ppf(0.975, 2)
    assert curves.wider["effect_add_input"][3] == pytest.approx(times)
    assert curves.wider.keys() == {"effect_add_input", "ari_within_x"}
    key = curves.curves.index("effect_add_input/val/layer_0")
    of_report = over_runs([run.rows() for run in runs], {effect.key: effect})
    (last,) = [p for p in of_report if (p["metric"], p["layer"], p["step"]) == (effect.key, 0, 10)]
    mean, upper = (math.log(part[1][key] / (1 - part[1][key])) for part in (curves.mean, curves.upper))
    widened = mean + (upper - mean) * curves.wider[effect.key][3]
    assert 1 / (1 + math.exp(-widened)) == pytest.approx(last["upper_over_map"], abs=1e-5)
