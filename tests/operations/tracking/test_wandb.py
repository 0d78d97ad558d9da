"""The real wandb client against a server on this machine: after any failure of either side, W&B has the content of the
run folder, and the run neither fails nor waits."""

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import composed
from faults import RUN, Command, train, wandb_steps
from rich.console import Console
from wandb_server import Mode, Run, WandbServer

from taskcluster.config import RunConfig
from taskcluster.operations.tracking.mirror import rows_of
from taskcluster.operations.tracking.upload import upload
from taskcluster.runs.folder import RunFolder
from taskcluster.runs.names import group
from taskcluster.views import headlines

pytestmark = pytest.mark.slow

SHORT = (*RUN, "hydra.run.dir=run", "logger=wandb")
STEPS = [0, 5, 10, 20, 30]  # measured
LONG = (*SHORT, "trainer.max_steps=200", "callbacks.measurement.every_n_steps=40", "callbacks.measurement.n_early=0")

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


def train_online(server: WandbServer, folder: Path, *arguments: str, **more: str) -> str:
    return train(folder, *arguments, variables=variables(server) | more)


def begin(server: WandbServer, folder: Path, *arguments: str) -> Command:
    """A run of some seconds that the server has a part of."""
    process = Command(folder, *LONG, *arguments, variables=variables(server))
    return process.until(lambda: any(run.history for run in server.runs.values()))


def mirror(server: WandbServer, run: RunFolder) -> Run:
    """What the server has of a run, checked: every step of both journals once, number for number. The last step of an
    unfinished run is held back."""
    there, expected = server.runs[run.status()["id"]], rows_of(run)
    if run.state != "finished":
        expected = expected[:-1]
    numbers = [{k: v for k, v in row.items() if "/" in k and not k.startswith("figures/")} for row in there.rows()]
    assert [(row["step"], kept) for row, kept in zip(there.rows(), numbers, strict=True)] == expected
    assert there.exit_code == (0 if run.state == "finished" else 1)
    return there


def upload_to(server: WandbServer, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    upload(run, Console())


def test_online_run_has_rows_figures_and_description(server: WandbServer, run: RunFolder, tmp_path: Path) -> None:
    environment = {
        "WANDB_RUN_ID": "chosen", "WANDB_PROJECT": "elsewhere", "WANDB_NAME": "nicely named", "WANDB_RUN_GROUP": "ours",
        "WANDB_JOB_TYPE": "pilot", "WANDB_NOTES": "why", "WANDB_TAGS": "a, b", "WANDB_ENTITY": "",
    }  # fmt: skip
    output = train_online(server, tmp_path, *SHORT, "logger.group=mine", **environment)
    assert f"W&B: online at {server.url}/me/elsewhere/runs/chosen" in output
    assert output.count("W&B") == 1
    there = mirror(server, run)
    keys = ("project", "displayName", "groupName", "jobType", "notes", "tags")
    assert [there.described[key] for key in keys] == ["elsewhere", "nicely named", "mine", "pilot", "why", ["a", "b"]]
    assert there.config["model"]["value"] == run.config()["model"]
    assert there.config["versions"]["value"] == run.status()["starts"][0]["versions"]
    assert there.summary["val/accuracy"] == run.results()["final"]["val/accuracy"]
    figure = there.files[there.rows()[-1]["figures/tsne"]["path"]]
    assert figure == (run.figures / "tsne.png").read_bytes()
    (metric,) = [entry for entry in there.config["_wandb"]["value"]["m"] if entry.get("2") == "*"]
    assert there.config["_wandb"]["value"]["m"][metric["5"] - 1]["1"] == "step"
    named = {entry["1"] for entry in there.config["_wandb"]["value"]["m"] if "1" in entry and "5" in entry}
    assert {"val/accuracy", "val/loss", "ari/val/layer_2", "ari_within_x/val/layer_2"} <= named


def crash(server: WandbServer, run: RunFolder, moments: random.Random) -> None:
    """Train, killed once or twice at random moments, until the run is finished."""
    command = [*LONG, f"hydra.run.dir={run.path}"]
    for _ in range(moments.randint(1, 2)):
        process = Command(run.path.parent, *command, variables=variables(server))
        rows = moments.randint(1, 6)
        with suppress(AssertionError):  # it ended before
            process.until(lambda: len(run.rows()) >= rows)  # noqa: B023
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
    train_online(server, run.path.parent, *command)


def test_run_that_crashes_leaves_neither_gap_nor_duplicate(
    server: WandbServer, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    count = pytestconfig.getoption("kills") // 2
    moments = random.Random(count)
    for k in range(count):
        run = RunFolder(tmp_path / f"run{k}")
        crash(server, run, moments)
        mirror(server, run)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("down", "no answer from http://127"), ("hanging", "no answer from http://127"), ("refusing keys", "API key")],
)
def test_unreachable_server_costs_seconds_and_the_run_is_synchronized_later(
    server: WandbServer, run: RunFolder, tmp_path: Path, mode: Mode, reason: str
) -> None:
    server.mode = mode
    started = time.monotonic()
    output = train_online(server, tmp_path, *SHORT)
    assert time.monotonic() - started < 45
    (line,) = [line for line in output.splitlines() if "W&B" in line]
    assert re.match(rf"W&B: offline \(.*{reason}.*\); `wandb sync ", line)
    assert not server.runs
    server.mode = "up"
    (segment,) = run.path.glob("wandb/offline-run-*")
    command = [sys.executable, "-m", "wandb", "sync", str(segment)]
    subprocess.run(command, cwd=tmp_path, env=os.environ | variables(server), check=True, timeout=60)
    mirror(server, run)


def test_server_that_comes_back_gets_what_it_missed(server: WandbServer, run: RunFolder, tmp_path: Path) -> None:
    process = begin(server, tmp_path)
    server.mode = "down"
    away = time.monotonic()
    process.until(lambda: time.monotonic() - away > 1.5)
    server.mode = "up"
    code, output = process.end()
    assert (code, output.count("W&B")) == (0, 1), output
    mirror(server, run)


@pytest.mark.parametrize("mode", ["down", "hanging"])
def test_upload_completes_a_run_whose_server_went_away(
    server: WandbServer, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    process = begin(server, tmp_path, "logger.patience=1")
    server.mode = mode
    process.until(lambda: bool(run.results()))
    began = time.monotonic()
    code, output = process.end()
    assert time.monotonic() - began < 30
    assert code == 0
    assert "W&B: not everything arrived (" in output
    assert "`python -m taskcluster.operations.tracking.upload " in output
    assert len(server.runs[run.status()["id"]].history) < len(rows_of(run))
    server.mode = "up"
    for _ in range(2):  # the second time changes nothing
        upload_to(server, run, monkeypatch)
        assert "figures/tsne" in mirror(server, run).summary


def test_trials_of_a_sweep_have_the_ids_of_the_agent(server: WandbServer, run: RunFolder, tmp_path: Path) -> None:
    """Of two trials with equal parameters, the second one shows the finished run."""
    for trial in ("one", "two"):
        train_online(server, tmp_path, *SHORT, WANDB_RUN_ID=trial, WANDB_SWEEP_ID="sweep")
        there = mirror(server, run)
        described = [there.described[key] for key in ("displayName", "groupName", "jobType", "sweep")]
        assert (there.id, described) == (trial, [run.name, group(run.config(), run.path), "train", "sweep"])


def test_sweep_yaml_gives_keys_of_the_configuration() -> None:
    sweep = yaml.safe_load((Path(__file__).parents[3] / "sweep.yaml").read_text())
    values = {
        key: given.get("value", given.get("min", given.get("values"))) for key, given in sweep["parameters"].items()
    }
    chosen = [f"{key}={value[0] if isinstance(value, list) else value}" for key, value in values.items()]
    RunConfig.of(composed("name=sweep", *chosen))


def test_checkpoints_are_uploaded_where_that_is_chosen(run: RunFolder, tmp_path: Path) -> None:
    train(tmp_path, *SHORT, "logger.mode=offline", "logger.checkpoints=final")
    (segment,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert wandb_steps(segment) == STEPS
    content = segment.read_bytes()
    assert b"step-000030" in content
    assert b"step-000020" not in content


def test_tensorboard_has_every_step_once_after_a_crash(run: RunFolder, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = [*RUN, "hydra.run.dir=run", "logger=tensorboard"]
    Command(tmp_path, *command).until(lambda: len(run.rows()) > 2).kill()
    train(tmp_path, *command)
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {f"figures/{file.stem}" for file in run.figures.glob("*.png")}
    rows, overview = rows_of(run), []
    times = Counter(name for _, row in rows for name in row)
    for name in events.Tags()["scalars"]:
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        overview += [name] * name.startswith("Overview/")
        key = name.removeprefix("Overview/")
        assert shown == [(step, pytest.approx(row[key])) for step, row in rows if key in row]
        assert len(shown) > 1
    assert min(events.Tags()["scalars"]) == "Overview/ari/val/layer_2"
    assert sorted(overview) == [f"Overview/{key}" for key in sorted(headlines(run.catalogue(), times))]
    (text,) = events.Tensors("measured once/text_summary")
    assert re.findall(r"^\| (\w+/\S+) ", text.tensor_proto.string_val[0].decode(), re.MULTILINE) == sorted(
        key for key, count in times.items() if count == 1
    )
