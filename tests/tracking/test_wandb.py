"""The real wandb client against a server on this machine: whatever happens to either side, W&B ends up with what the
run folder holds, and the run never fails or waits for it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import SMALL, Outcome
from faults import RUN, Command, train, wandb_steps
from omegaconf import OmegaConf
from rich.console import Console
from wandb_server import Mode, Run, WandbServer

from taskcluster.runs.folder import RunFolder
from taskcluster.runs.names import group
from taskcluster.tracking.mirror import rows_of
from taskcluster.tracking.upload import upload

pytestmark = pytest.mark.slow

SHORT = (*RUN, "hydra.run.dir=run", "logger=wandb")
LONG = ("trainer.max_steps=200", "callbacks.measurement.every_n_steps=40", "callbacks.measurement.n_early=0")
ONLINE = (*SHORT, *LONG)  # for seconds, in which rows arrive at the server
MEASURED = [0, 40, 80, 120, 160, 200]

SECONDS = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1", "WANDB_HTTP_TIMEOUT": "1"}  # instead of 15 and 3


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def variables(server: WandbServer) -> dict[str, str]:
    return server.environment() | SECONDS


def begin(server: WandbServer, folder: Path, *arguments: str) -> Command:
    return Command(folder, *arguments, variables=variables(server))


def end(server: WandbServer, folder: Path, *arguments: str) -> None:
    output = train(folder, *arguments, variables=variables(server))
    assert output.count("W&B") == 1 or "already finished" in output, output


def mirror(server: WandbServer, run: RunFolder) -> Run:
    """What the server has of a run, whose history is what the two files hold: every step once, number for number. Only
    the step that an interrupted run stopped at is not there while it may still be measured."""
    there = server.runs[run.status()["id"]]
    rows, expected = there.rows(), rows_of(run)
    assert [row["_step"] for row in rows] == [row["step"] for row in rows]
    numbers = [{key: row[key] for key in row if "/" in key and not key.startswith("figures/")} for row in rows]
    if run.checkpoint(expected[-1][0], measured=False).exists():
        expected = expected[:-1]
    assert [(row["step"], kept) for row, kept in zip(rows, numbers, strict=True)] == expected
    return there


def sync(server: WandbServer, *runs: RunFolder) -> None:
    """As the README has it."""
    segments = [str(folder) for run in runs for folder in run.path.glob("wandb/offline-run-*")]
    assert len(segments) == len(runs)
    command = [sys.executable, "-m", "wandb", "sync", *segments]
    environment = os.environ | variables(server)
    place = runs[0].path.parent
    synced = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=60)
    assert synced.returncode == 0, synced.stderr


def test_a_run_is_there_with_all_that_belongs_to_it(server: WandbServer, run: RunFolder, tmp_path: Path) -> None:
    output = train(
        tmp_path, *SHORT, "logger.tags=[pilot]", "logger.checkpoints=final", variables=variables(server), figures=True
    )
    assert f"W&B: online at {server.url}/me/taskcluster/runs/{run.status()['id']}" in output
    assert output.count("W&B") == 1
    there = mirror(server, run)
    assert (there.display_name, there.group, there.job_type, there.tags) == (
        run.name,
        group(run.config(), run.path),
        "train",
        ["pilot"],
    )
    assert there.exit_code == 0
    assert there.values()["model"] == run.config()["model"]
    assert there.values()["versions"] == run.status()["starts"][0]["versions"]
    verdicts = {claim["name"]: claim["passed"] for claim in run.results()["claims"]}
    assert {name: claim["passed"] for name, claim in there.summary["claims"].items()} == verdicts
    assert there.summary["claims_passed"] == [*verdicts.values()].count(True)
    assert there.summary["val/accuracy"] == run.results()["final"]["val/accuracy"]
    for figure in ("ari", "ari_within_x", "ari_by_layer", "tsne"):
        content = (run.figures / f"{figure}.png").read_bytes()
        assert there.files[there.rows()[-1][f"figures/{figure}"]["path"]] == content
    for metric in ("ari", "ari_within_x"):
        for split in ("train", "val"):
            drawn = [row[f"{metric}_{split}_table"]["path"] for row in there.rows() if f"{metric}_{split}_table" in row]
            assert len(drawn) == len(run.rows())  # as often as it was measured
            lines = json.loads(there.files[drawn[-1]])["data"]
            final = [value for step, _, value in lines if step == 30]
            assert final == [run.rows()[-1][f"{metric}/{split}/layer_{layer}"] for layer in range(3)]
    (metric,) = [entry for entry in there.config["_wandb"]["value"]["m"] if entry.get("2") == "*"]
    assert there.config["_wandb"]["value"]["m"][metric["5"] - 1]["1"] == "step"
    (checkpoint,) = [artifact for artifact in server.artifacts if artifact.kind == "model"]
    assert (checkpoint.run, set(checkpoint.aliases)) == (there.id, {"step-000030", "latest"})
    assert checkpoint.files == {"step=000030.ckpt": run.checkpoint(30).read_bytes()}
    assert all(artifact.committed for artifact in server.artifacts)
    assert not list(run.path.glob("wandb/offline-run-*"))


@pytest.mark.lasting
def test_maps_grow_with_a_run_and_are_figures_at_its_end(server: WandbServer, run: RunFolder, tmp_path: Path) -> None:
    measures = ("measures=[clustering,clustering_at_x,interventions]", "measures.interventions.n_pairs=40")
    output = train(tmp_path, *SHORT, *measures, variables=variables(server), figures=True)
    assert output.count("W&B") == 1
    there = mirror(server, run)
    for key in ("effect_add_instruction_end", "effect_add_input", "ari", "ari_within_x"):
        drawn = [row[f"{key}_map"] for row in there.rows() if f"{key}_map" in row]
        shapes = [(image["width"], image["height"]) for image in drawn]
        assert shapes == [(24 * n, 24 * 3) for n in range(1, len(run.rows()) + 1)]  # steps by layers
        assert there.files[drawn[-1]["path"]].startswith(b"\x89PNG")
    for figure in ("map", "path"):
        content = (run.figures / f"{figure}.png").read_bytes()
        assert there.files[there.rows()[-1][f"figures/{figure}"]["path"]] == content


def crashed(server: WandbServer, run: RunFolder, moments: random.Random) -> int:
    """Killed once or twice at random moments, and then let end. How many rows the server had when it was killed."""
    command, arrived = [*ONLINE, f"hydra.run.dir={run.path}"], 0
    for _ in range(moments.randint(1, 2)):
        process, rows = begin(server, run.path.parent, *command), moments.randint(1, len(MEASURED))
        with suppress(AssertionError):  # it ended before
            process.until(lambda: len(run.rows()) >= rows)  # noqa: B023
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        there = server.runs.get(run.status().get("id", ""))
        arrived = max(arrived, len(there.history) if there else 0)
    end(server, run.path.parent, *command)
    return arrived


@pytest.mark.lasting
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_run_that_crashes_leaves_neither_gap_nor_duplicate(
    server: WandbServer, tmp_path: Path, pytestconfig: pytest.Config, mode: str
) -> None:
    count = pytestconfig.getoption("kills") // 2
    runs, moments = [RunFolder(tmp_path / f"run{k}") for k in range(count)], random.Random(count)
    if mode == "offline":
        server.turn("refusing keys")
    arrived = [crashed(server, run, moments) for run in runs]
    print(f"rows at the server when a run was killed: {arrived}")
    if mode == "offline":
        assert not server.runs
        server.turn("up")
        sync(server, *runs)
    for run in runs:
        assert mirror(server, run).exit_code == 0


def held_offline(run: RunFolder) -> list[int]:
    """The measured steps in the one segment that waits for `wandb sync`."""
    (segment,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert segment.name == f"run-{run.status()['id']}.wandb"
    return wandb_steps(segment)


@pytest.mark.lasting
@pytest.mark.parametrize(
    ("mode", "reason"),
    [("down", "no answer from http://127"), ("hanging", "no answer from http://127"), ("refusing keys", "API key")],
)
def test_a_server_that_does_not_let_us_in_delays_the_start_by_seconds(
    server: WandbServer, run: RunFolder, tmp_path: Path, mode: Mode, reason: str
) -> None:
    server.turn(mode)
    process, started = begin(server, tmp_path, *SHORT), time.monotonic()
    process.until(lambda: bool(run.rows()))
    print(f"{mode}: the first row after {time.monotonic() - started:.1f} s")
    assert time.monotonic() - started < 30
    code, output = process.end()
    (said,) = [line for line in output.splitlines() if "W&B" in line]
    assert said.startswith("W&B: offline (")
    assert reason in said
    assert "; `wandb sync " in said
    assert code == 0
    assert held_offline(run) == [0, 5, 10, 20, 30]


def something_arrived(server: WandbServer) -> bool:
    return any(run.history for run in server.runs.values())


@pytest.mark.lasting
@pytest.mark.parametrize("mode", ["down", "hanging"])
def test_a_server_that_comes_back_gets_what_it_missed(
    server: WandbServer, run: RunFolder, tmp_path: Path, mode: Mode
) -> None:
    process = begin(server, tmp_path, *ONLINE).until(lambda: something_arrived(server))
    server.turn(mode)
    away = time.monotonic()
    process.until(lambda: time.monotonic() - away > 1.5)
    server.turn("up")
    code, output = process.end()
    assert (code, output.count("W&B")) == (0, 1), output
    assert mirror(server, run).exit_code == 0
    assert "figures/tsne" in server.runs[run.status()["id"]].rows()[-1]


@pytest.mark.lasting
@pytest.mark.parametrize(("mode", "at_the_end"), [("hanging", False), ("refusing keys", False), ("down", True)])
def test_a_server_that_stays_away_costs_seconds_and_can_be_given_what_it_lacks(
    server: WandbServer,
    run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: Mode,
    at_the_end: bool,
) -> None:
    process = begin(server, tmp_path, *ONLINE, "logger.patience=1").until(lambda: something_arrived(server))
    process.until(lambda: not at_the_end or bool(run.results()))
    server.turn(mode)
    process.until(lambda: bool(run.results()))
    began = time.monotonic()
    code, output = process.end()
    print(f"{mode}: the end took {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 30
    assert code == 0
    assert "W&B: not all of it arrived (" in output
    assert output.count("W&B") == 2
    assert "`python -m taskcluster.tracking.upload " in output
    assert len(server.runs[run.status()["id"]].history) < len(rows_of(run))
    server.turn("up")
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    for _ in range(2):  # the second time there is nothing to do
        assert upload([run.path], Console()) == 0
        there = mirror(server, run)
        assert (there.exit_code, "figures/tsne" in there.summary) == (0, True)


def test_an_interrupted_run_is_marked_and_goes_on(server: WandbServer, run: RunFolder, tmp_path: Path) -> None:
    process = begin(server, tmp_path, *ONLINE).until(lambda: something_arrived(server))
    process.send(signal.SIGTERM)
    assert process.end()[0] == 143
    assert mirror(server, run).exit_code == 143
    end(server, tmp_path, *ONLINE)
    assert mirror(server, run).exit_code == 0


def test_a_run_stopped_while_it_is_measured_has_that_step_whole_in_the_end(
    server: WandbServer, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, *SHORT, "logger.mode=disabled")
    run.checkpoint(30).rename(run.checkpoint(30, measured=False))  # as a signal leaves it
    run.journal.write_text("".join(run.journal.read_text().splitlines(keepends=True)[:-1]))
    run.write_status("interrupted")
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    config = run.config()
    (run.path / "config.yaml").write_text(OmegaConf.to_yaml(config | {"logger": config["logger"] | {"mode": "auto"}}))
    assert upload([run.path], Console()) == 0
    assert mirror(server, run).rows()[-1]["step"] == rows_of(run)[-2][0]
    end(server, tmp_path, *SHORT)
    assert mirror(server, run).rows()[-1]["step"] == 30


@pytest.mark.lasting
def test_jobs_of_one_process_and_jobs_side_by_side_are_runs_of_their_own(server: WandbServer, tmp_path: Path) -> None:
    sweep = ["-m", *SMALL, "name=sweep", "logger=wandb"]
    side_by_side = [begin(server, tmp_path, *sweep, seeds) for seeds in ("seed=0,1", "seed=2")]
    assert [process.end()[0] for process in side_by_side] == [0, 0]
    runs = [RunFolder(folder) for folder in tmp_path.glob("multirun/sweep/*/seed=*")]
    assert len({mirror(server, run).id for run in runs}) == len(server.runs) == 3
    assert {there.group for there in server.runs.values()} == {runs[0].path.parent.name}


def test_a_wrong_setting_is_refused_before_anything_is_written(run: RunFolder, tmp_path: Path) -> None:
    code, output = Command(tmp_path, *SHORT, "logger.mode=onlin").end()
    assert code == 2
    assert "logger.mode='onlin': input should be 'auto', 'online', 'offline' or 'disabled'" in output
    assert run.state == "new"


def test_tensorboard_has_every_step_once_after_a_crash(run: RunFolder, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = [*RUN, "hydra.run.dir=run", "logger=tensorboard"]
    Command(tmp_path, *command).until(lambda: len(run.rows()) > 2).kill()
    train(tmp_path, *command)
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {f"figures/{file.stem}" for file in run.figures.glob("*.png")}
    for name in events.Tags()["scalars"]:
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert shown == [(step, pytest.approx(row[name])) for step, row in rows_of(run) if name in row]


def test_tensorboard_that_is_not_installed_is_named(
    taskcluster_train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskcluster.tracking.tensorboard.find_spec", lambda name: None)
    outcome = taskcluster_train(*SMALL, "logger=tensorboard")
    assert outcome.exit_code == 2
    assert 'TensorBoard is not installed; pip install "taskcluster-lm[tensorboard]"' in outcome.err


SWEEP = Path(__file__).parents[2] / "sweep.yaml"


def wandb_command(server: WandbServer, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """W&B's own command, which finds ours."""
    programs = os.pathsep.join([str(folder), os.environ["PATH"]])
    quick = {"WANDB_CONFIG_DIR": str(folder), "PATH": programs, "WANDB_AGENT_MAX_INITIAL_FAILURES": "1"}
    command = [sys.executable, "-m", "wandb", *arguments]
    return subprocess.Popen(command, cwd=folder, env=os.environ | variables(server) | quick, text=True)


@pytest.mark.lasting
def test_a_sweep_of_wandbs_has_a_run_for_each_trial_under_the_agents_id(server: WandbServer, tmp_path: Path) -> None:
    program = tmp_path / "taskcluster-train"
    program.write_text(f"#!{sys.executable}\nfrom taskcluster.train import main\nmain()\n")
    program.chmod(0o755)
    assert wandb_command(server, tmp_path, "sweep", str(SWEEP)).wait(60) == 0
    (sweep,) = server.sweeps.values()
    parameters = dict(argument.split("=") for argument in SMALL if not argument.startswith("logger"))
    for trial, more in {"stopped": {"trainer.max_steps": 100_000}, "one": {}, "same": {}}.items():
        sweep.add(trial, parameters | {"optimizer.betas": [0.9, 0.95]} | more)
    agent = wandb_command(server, tmp_path, "agent", f"me/taskcluster/{sweep.name}")
    until(lambda: "stopped" in server.runs and bool(server.runs["stopped"].history))
    sweep.stopped.add("stopped")
    assert agent.wait(300) == 0  # and had not given up after the first: a stopped trial is no failure
    assert {run.id: (run.sweep, run.exit_code) for run in server.runs.values()} == {
        "one": (sweep.name, 0),
        "same": (sweep.name, 0),
        "stopped": (sweep.name, 143),
    }
    runs = [RunFolder(file.parent) for file in tmp_path.glob("outputs/sweep/*/seed=0/status.json")]
    states = {run.status()["id"]: run.state for run in runs}
    assert states == {"same": "finished", "stopped": "interrupted"}  # one and same have one folder
    for run in runs:
        assert mirror(server, run).values()["optimizer.betas"] == [0.9, 0.95]
    assert server.runs["one"].rows()[-1]["val/accuracy"] == server.runs["same"].rows()[-1]["val/accuracy"]


def until(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 120
        time.sleep(0.05)


def test_the_environments_words_win_over_defaults_and_keys_over_them(server: WandbServer, tmp_path: Path) -> None:
    words = {
        "WANDB_RUN_ID": "chosen", "WANDB_PROJECT": "elsewhere", "WANDB_NAME": "nicely named", "WANDB_RUN_GROUP": "ours",
        "WANDB_JOB_TYPE": "pilot", "WANDB_NOTES": "why", "WANDB_TAGS": "a, b", "WANDB_DIR": str(tmp_path / "not here"),
        "WANDB_RESUME": "never", "WANDB_ENTITY": "",
    }  # fmt: skip
    run = RunFolder(tmp_path / "run")
    arguments = [*SHORT, "logger.group=mine"]
    assert Command(tmp_path, *arguments, variables=variables(server) | words).end()[0] == 0
    there = mirror(server, run)
    assert (there.id, there.project, there.display_name, there.group) == ("chosen", "elsewhere", "nicely named", "mine")
    assert (there.job_type, there.notes, there.tags) == ("pilot", "why", ["a", "b"])
    assert not list((tmp_path / "not here").rglob("*.wandb"))


@pytest.mark.lasting
def test_an_upload_goes_to_the_run_that_the_folder_is(
    server: WandbServer, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = {"WANDB_RUN_ID": "first", "WANDB_MODE": "offline", "WANDB_RESUME": "must", "WANDB_SWEEP_ID": "sweep"}
    assert Command(tmp_path, *SHORT, variables=variables(server) | offline).end()[0] == 0
    assert run.status()["id"] == "first"
    assert held_offline(run) == [0, 5, 10, 20, 30]
    sync(server, run)
    for name, value in {**variables(server), "WANDB_RUN_ID": "stale", "WANDB_SWEEP_ID": "old"}.items():
        monkeypatch.setenv(name, value)
    assert upload([run.path], Console()) == 0
    assert list(server.runs) == ["first"]
    mirror(server, run)
    other = {"WANDB_RUN_ID": "second"}  # finished, and asked for under another id
    output = train(tmp_path, *SHORT, variables=variables(server) | other)
    assert "already finished" in output
    assert run.status()["id"] == "second"
    assert mirror(server, run).exit_code == 0
    assert "val/accuracy" in server.runs["second"].summary


@pytest.mark.lasting
def test_one_id_does_not_serve_two_runs(server: WandbServer, run: RunFolder, tmp_path: Path) -> None:
    one = variables(server) | {"WANDB_RUN_ID": "one"}
    assert Command(tmp_path, *SHORT, variables=one).end()[0] == 0
    other = RunFolder(tmp_path / "other")
    code, output = Command(tmp_path, *SHORT, "hydra.run.dir=other", "seed=1", variables=one).end()
    assert code == 0
    assert "W&B: off (WANDB_RUN_ID=one is a run with another seed; " in output
    assert other.status()["id"] != "one"
    assert mirror(server, run).exit_code == 0
    sweep = [key for key in SHORT if not key.startswith("hydra.run.dir")]
    code, output = Command(tmp_path, *sweep, "-m", "seed=0,1", "name=sweep", variables=one).end()
    assert code == 2
    assert output.count("WANDB_RUN_ID=one names one W&B run, and a multirun has one for each of its runs") >= 2
    assert list(server.runs) == ["one"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"WANDB_RUN_ID": "a/b"}, "WANDB_RUN_ID='a/b': Run ID cannot contain the characters"),
        ({"WANDB_RUN_ID": " "}, "WANDB_RUN_ID=' ': Run ID cannot start or end with whitespace"),
        ({"WANDB_SWEEP_ID": "sweep"}, "WANDB_SWEEP_ID is set without WANDB_RUN_ID"),
    ],
)
def test_an_id_that_wandb_would_refuse_is_refused(
    taskcluster_train: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: dict[str, str],
    sentence: str,
) -> None:
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    outcome = taskcluster_train(*SMALL, "logger=wandb")
    assert (outcome.exit_code, outcome.err.count("\n")) == (2, 1)
    assert sentence in outcome.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
