"""What a user reads when something is wrong, and what stays on the disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Outcome

from taskcluster.cli import PLAIN, composed
from taskcluster.runs.options import CONF

Train = Callable[..., Outcome]

REGEXES = "task=custom", "task.tasks=[{regexes:['REGEX'],mapping:{p:q}},{regexes:['z[ab]{5}'],mapping:{p:r}}]"


def custom(regex: str) -> tuple[str, ...]:
    return tuple(part.replace("REGEX", regex) for part in REGEXES)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        # values
        (["seed=-1"], "seed=-1: input should be greater than or equal to 0"),
        (["seed=true"], "seed=True: input should be a valid integer"),
        (["seed=4294967296"], "seed=4294967296: input should be less than 4294967296"),
        (["seeds.kmeans=x"], "seeds.kmeans='x': input should be a valid integer"),
        (["name=a b"], "name='a b': string should match pattern"),
        (["task.n_tasks=1"], "task.n_tasks=1: input should be greater than or equal to 2"),
        (["task.n_tasks=2.5"], "task.n_tasks=2.5: input should be a valid integer"),
        (["task.val_fraction=1.0"], "task.val_fraction=1.0: input should be less than 1"),
        (["task.class_size=[2]"], "task.class_size=[2]: list should have at least 2 items"),
        (["data.layout=shared"], "input should be 'shared_prefix', 'sequences' or 'padded'; did you mean"),
        (["data.padding_side=both"], "data.padding_side='both': input should be 'left' or 'right'"),
        (["data.template=instruction"], "data.template='instruction' must hold {instruction}, {x} and {y}, once each"),
        (["data.template={x} {instruction} {y}"], "must hold {instruction}, {x} and {y}, once each and in this order"),
        (["data.tokenizer=./no", "data.template={instruction} {x}, {y}"], "data.tokenizer='./no' cannot be loaded"),
        (["data.batch_size=0"], "data.batch_size=0: input should be greater than 0"),
        (["model.dropout=1.0"], "model.dropout=1.0: input should be less than 1"),
        (["model.n_layer=six"], "model.n_layer='six': input should be a valid integer"),
        (["optimizer.lr=-1"], "optimizer.lr=-1: input should be greater than 0"),
        (["optimizer.lr=fast"], "optimizer.lr='fast': input should be a valid number"),
        (["optimizer.weight_decay=-1"], "optimizer.weight_decay=-1: input should be greater than or equal to 0"),
        (["optimizer.betas=[0.9,2.0]"], "optimizer: Invalid beta parameter at index 1: 2.0"),
        (["scheduler.warmup=1.5"], "scheduler.warmup=1.5: input should be less than 1"),
        (["trainer.max_steps=-1"], "trainer.max_steps=-1: input should be greater than or equal to 0"),
        (["trainer.precision=7"], "trainer: Precision 7 is invalid"),
        (["callbacks.measurement.every_n_steps=0"], "every_n_steps=0: input should be greater than 0"),
        (["clusterer.n_init=0"], "clusterer.n_init=0: input should be greater than 0"),
        # values that contradict each other
        (["model.n_head=3"], "model.n_head=3 does not divide n_embd=16; use one of 1, 2, 4, 8, 16"),
        (["model.n_positions=5"], "model.n_positions=5 is below the longest sequence"),
        (["clusterer.n_clusters=61"], "n_clusters=61 exceeds the 24 states of the smallest probe"),
        (["task.n_mappings=9"], "task.n_mappings=9 exceeds n_inputs=4; lower it, or raise n_inputs"),
        (["task.holdout=description"], "task.holdout='description' needs two descriptions a task"),
        # names that do not exist
        (["task.holdout=instrction"], "'pair', 'description' or 'x'; did you mean 'instruction'?"),
        (["data.loss_on=yy"], "data.loss_on='yy': input should be 'sequence' or 'y'"),
        (["model.n_layr=3"], "model.n_layr is not a key of the configuration; did you mean 'model.n_layer'?"),
        (["n_layer=3"], "n_layer is not a key of the configuration; did you mean 'model.n_layer'?"),
        (["sed=3"], "sed is not a key of the configuration; did you mean 'seed'?"),
        (["+sed=3"], "sed is not a key of the configuration; did you mean 'seed'?"),
        (["+model.n_layr=3"], "model.n_layr is not a key of model; did you mean 'n_layer'?"),
        (["+trainer.max_step=3"], "trainer.max_step is not a key of trainer; did you mean 'max_steps'?"),
        (["+optimizer.momentum=1"], "optimizer.momentum is not a key of optimizer"),
        (["model=gpt3"], "model=gpt3 is not an option of model; did you mean 'gpt2'?; choose from gpt2, gpt2_768"),
        (["experiment=layrs"], "experiment=layrs is not an option of experiment; did you mean 'layers'?"),
        (["measures=[clustring]"], "measures=clustring is not an option of measures; did you mean 'clustering'?"),
        (["measures.chance=null"], "measures.chance=None: write ~measures.chance to leave it out"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm is not an option of hydra/launcher"),
        (["modle=gpt2"], "modle is not a key of the configuration; did you mean 'model'?"),
        (["--hlep"], "--hlep is not an option; did you mean '--help'?"),
        (["model.n_layer=[1,2"], "model.n_layer=[1,2 cannot be read"),
        (["optimizer._target_=torch.optim.AdmW"], "optimizer._target_='torch.optim.AdmW' cannot be imported"),
        (["data.probe_size=???"], "data.probe_size"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(
    taskcluster_train: Train, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    outcome = taskcluster_train(*SMALL, *arguments)
    assert outcome.exit_code == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert sentence in line
    assert line.startswith("taskcluster-train: ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("regex", "reason"),
    [
        ("", "regex '' gives only 0 of 20 instructions"),
        ("[ab", "regex '[ab' cannot be used (unterminated character set"),
        ("(a+)+b", "regex '(a+)+b' cannot be used (use literals, classes"),
        ("(a{90}){90}", "regex '(a{90}){90}' cannot be used (leave flags out, and write at most 2000 symbols"),
        ("y[ab]{2}", "regex 'y[ab]{2}' gives only 4 of 20 instructions"),
    ],
)
def test_regexes_that_cannot_be_used_are_refused(taskcluster_train: Train, regex: str, reason: str) -> None:
    outcome = taskcluster_train(*custom(regex), "task.instructions_per_task=20", "logger=none")
    assert outcome.exit_code == 2
    assert outcome.err.startswith(f"taskcluster-train: task: {reason}")
    assert len(outcome.err.splitlines()) == 1


def test_a_seed_of_a_custom_key_is_named_in_full(taskcluster_train: Train) -> None:
    outcome = taskcluster_train("task=custom", "task.tasks=[{regexes:[a],mapping:{}},{regex:[b],mapping:{x:y}}]")
    assert outcome.exit_code == 2
    assert "task.tasks.0.mapping={}: dictionary should have at least 1 item" in outcome.err


def test_a_batch_that_processes_cannot_share_is_refused(taskcluster_train: Train) -> None:
    outcome = taskcluster_train(*SMALL, "trainer=ddp", "data.batch_size=1")
    assert outcome.exit_code == 2
    assert "data.batch_size=1 leaves a process without data; raise it" in outcome.err


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said_to_be_missing(taskcluster_train: Train) -> None:
    outcome = taskcluster_train(*SMALL, "trainer=gpu")
    assert outcome.exit_code == 2
    assert "trainer.accelerator='gpu': this machine has no GPU that torch can use; choose trainer=cpu" in outcome.err


def test_help_names_the_groups_and_the_ways_to_run(taskcluster_train: Train) -> None:
    outcome = taskcluster_train("--help")
    assert outcome.exit_code == 0
    optimizers = "optimizer: adafactor, adamw, muon, radam, sgd"
    for words in ("taskcluster-train -m seed=0,1,2", optimizers, "task: custom, facts, pairs, regex"):
        assert words in outcome.out


def test_cfg_job_prints_the_configuration_without_running(taskcluster_train: Train, tmp_path: Path) -> None:
    outcome = taskcluster_train("--cfg", "job", "model.n_layer=3")
    assert outcome.exit_code == 0
    assert "n_layer: 3" in outcome.out
    assert list(tmp_path.iterdir()) == []


REFUSED = "model.n_head=3"  # what ends a command once all of it has been read


@pytest.mark.parametrize(
    "arguments",
    [
        [REFUSED, "-m", "seed=0,1", "name=f"],
        ["-m", REFUSED, "seed=0,1", "name=f"],
        [REFUSED, "seed=0,1", "name=f", "--multirun"],
        ["seed=0,1", "--config-dir", "mine", REFUSED, "-m", "name=f"],
        ["--config-dir=mine", "name=f", "-m", "seed=0,1", REFUSED],
        ["hydra.mode=MULTIRUN", REFUSED, "seed=0,1", "name=f"],
        ["seed=range(0,2)", "-m", REFUSED, "name=f"],
        ["seed=choice(0,1)", REFUSED, "-m", "name=f", "hydra.sweep.subdir=${hydra.job.num}"],
    ],
    ids=" ".join,
)
def test_flags_may_be_anywhere_among_overrides(taskcluster_train: Train, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "mine").mkdir()
    outcome = taskcluster_train(*SMALL, *arguments)
    assert outcome.exit_code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 2
    assert all("refused: model.n_head=3 does not divide n_embd=16" in line for line in lines)


@pytest.mark.parametrize(
    "folder",
    [
        "josé/r",
        "a b/c",
        "a=1,b=[2]",
        "(1)",
        "it's",
        'say "hi"',
        "50%",
        "back\\slash",
        "#1",
        "r/",
        "./x/../y",
        "ü\tab",
        "~nobody/x",
    ],
)
def test_any_folder_can_be_named(taskcluster_train: Train, folder: str) -> None:
    for key in ("hydra.run.dir", "ckpt_path"):
        outcome = taskcluster_train(*SMALL, REFUSED, f"{key}={folder}")
        assert outcome.exit_code == 2
        (line,) = outcome.err.splitlines()
        assert "model.n_head=3 does not divide" in line
    outcome = taskcluster_train(*SMALL, REFUSED, "-m", f"hydra.sweep.dir={folder}")
    assert "refused: model.n_head=3 does not divide" in outcome.err


def test_several_checkpoints_are_as_many_runs(taskcluster_train: Train) -> None:
    outcome = taskcluster_train(*SMALL, "-m", "ckpt_path=a/seed=0/x.ckpt,b,c/y=1.ckpt")
    assert outcome.exit_code == 2
    assert [part in outcome.err for part in ("a/seed=0/x.ckpt'", "b'", "c/y=1.ckpt'")] == [True] * 3


def test_several_experiments_are_as_many_sweeps(taskcluster_train: Train) -> None:
    small = [key for key in SMALL if not key.startswith("model.n_layer")]  # which layers sweeps
    outcome = taskcluster_train(*small, "experiment=seeds,layers", "-m", REFUSED)
    assert outcome.exit_code == 2
    lines = outcome.err.splitlines()
    assert sum("seeds/" in line.partition(": refused")[0] for line in lines) == 5
    assert sum("layers/" in line.partition(": refused")[0] for line in lines) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["seed=0,1"], "seed=0,1 gives several values: add -m for one run of each, or write seed=[A,B] for a list"),
        (["+seed=3"], "seed is there already; write seed= without +"),
        (["experiment=seeds,layers"], "add -m"),
        (["seed=range(0,3)"], "add -m for one run of each"),
        (["-m", "model.n_layer=interval(1,3)"], "has no end of values; list them as in KEY=1,2,3"),
        (["-m", "seed=0,0"], "would share the folder"),
        (["-m", "seed=0,1", "hydra.sweep.subdir=same"], "would share the folder"),
        (["-m", "hydra.run.dir=x"], "write hydra.sweep.dir= for a multirun"),
        (["hydra.sweep.dir=x"], "add -m, or use hydra.run.dir="),
        (["--config-dir", "nowhere"], "--config-dir nowhere does not exist"),
        (["--config-dir"], "--config-dir needs a value"),
        (["seed"], "'seed' is not an override; write KEY=VALUE"),
        (["seed", "=", "1"], "is not an override; write KEY=VALUE"),
        ([""], "is not an override"),
        (["=3"], "is not an override"),
        (["seed==1"], "seed"),
        (["-x"], "-x is not an option"),
        (["name=${nope}"], "nope"),
        (["name=${oc.env:NOPE}"], "NOPE"),
        (["callbacks=[checkpoint]"], "callbacks has no measurement; write callbacks=[measurement,checkpoint]"),
        (["callbacks=[measurement]"], "callbacks has no checkpoint; write callbacks=[measurement,checkpoint]"),
        (["callbacks=[]"], "callbacks holds nothing; choose one of its options, as in callbacks=[measurement"),
        (["callbacks=null"], "callbacks=null is not an option of callbacks; choose from checkpoint, measurement"),
        (["callbacks.measurement=null"], "callbacks has no measurement; write callbacks=[measurement,checkpoint]"),
        (["callbacks.measurement=[1]"], "callbacks.measurement=[1] would replace all its keys; set them one by one"),
        (["++callbacks.mine=[1]"], "callbacks.mine=[1]: input should be a valid dictionary"),
        (["++callbacks.mine={}"], "callbacks.mine._target_ is missing; give it a value"),
        (["++callbacks.mine={_target_:builtins.dict}"], "callbacks.mine._target_='builtins.dict' gives a dict instead"),
        (["~callbacks.checkpoint._target_"], "callbacks.checkpoint._target_ is missing; give it a value"),
        (["~model"], "model holds nothing; choose one of its options, as in model=gpt2"),
        (["model=[]"], "model holds nothing; choose one of its options, as in model=gpt2"),
        (["model=null"], "model=null is not an option of model; choose from gpt2, gpt2_768"),
        (["logger=null"], "logger=null is not an option of logger; choose from none, tensorboard, wandb"),
        (["model=true"], "model=true is not an option of model; choose from gpt2, gpt2_768"),
        (["model=5"], "model=5 is not an option of model; choose from gpt2, gpt2_768"),
        (["~trainer"], "${trainer.max_steps} refers to no key of the configuration"),
        (["~model._target_"], "model._target_ is missing; give it a value"),
        (["model._target_=null"], "model._target_=None: input should be a valid string"),
        (["model._target_=json.decoder"], "model._target_='json.decoder' is neither a class nor a function"),
        (["~optimizer.lr"], "optimizer.lr is missing; give it a value"),
        (["~resume"], "resume is missing; give it a value"),
        (["seeds=5"], "seeds"),
        (["trainer=none"], "trainer=none is not an option of trainer"),
        (["--cfg=jab"], "--cfg jab is not an option; did you mean 'job'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_sentence(
    taskcluster_train: Train, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    part = arguments[0].lstrip("~+").partition("=")[0].partition(".")[0]  # of the configuration, set by the argument
    outcome = taskcluster_train(*[key for key in SMALL if not key.startswith(f"{part}.")], *arguments)
    assert outcome.exit_code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("taskcluster-train: ")
    assert sentence in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_keys_that_are_no_groups_are_known() -> None:
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    assert {*PLAIN} == {*composed()} - groups


SHADOWS = ("run", "steps", "name", "seed", "seeds", "resume", "ckpt_path", "multirun", "analysis", "place", "changes")


@pytest.mark.parametrize("given", [("--config-dir", "mine"), ("hydra.searchpath=[file://{cwd}/mine]",)])
def test_folders_beside_the_users_groups_hide_no_key(
    taskcluster_train: Train, tmp_path: Path, given: tuple[str, ...]
) -> None:
    for name in (*SHADOWS, "hydra/run", "hydra/sweep", "hydra/job"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "option.yaml").write_text("a: 1\n")
    words = [word.format(cwd=tmp_path) for word in given]
    keys = ["name=f", "seed=1", "seeds.kmeans=2", "resume=never", "ckpt_path=null", "hydra.job.name=x"]
    outcome = taskcluster_train(*SMALL, REFUSED, *keys, *words)
    assert outcome.err == f"taskcluster-train: {REFUSED} does not divide n_embd=16; use one of 1, 2, 4, 8, 16\n"
    outcome = taskcluster_train(*SMALL, REFUSED, *keys[:1], "seed=1,2", "-m", *words)
    assert outcome.err.count(f"refused: {REFUSED} does not divide") == 2
    assert "did you mean 'seed'" in taskcluster_train(*SMALL, "sed=3", *words).err


def test_a_folder_that_is_gone_is_said_to_be(
    taskcluster_train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    outcome = taskcluster_train(*SMALL)
    assert (outcome.exit_code, "working directory is gone" in outcome.err) == (2, True)


def test_the_version_is_told(taskcluster_train: Train) -> None:
    outcome = taskcluster_train("--version")
    assert (outcome.exit_code, outcome.out.startswith("taskcluster ")) == (0, True)
