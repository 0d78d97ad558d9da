"""Error messages for users, and the files that a refused command leaves."""

from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train

REFUSED = "model.n_head=3"  # what ends a command once all of it has been read
REFUSAL = "model.n_head=3 does not divide n_embd=16; use one of 1, 2, 4, 8, 16"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        # values
        (["seed=-1"], "seed=-1: input should be greater than or equal to 0"),
        (["seed=true"], "seed=True: input should be a valid integer"),
        (["seeds.kmeans=x"], "seeds.kmeans='x': input should be a valid integer"),
        (["name=a b"], "name='a b': string should match pattern"),
        (["task.n_tasks=1"], "task.n_tasks=1: input should be greater than or equal to 2"),
        (["task.class_size=[2]"], "task.class_size=[2]: list should have at least 2 items"),
        (["data.layout=shared"], "input should be 'shared_prefix', 'sequences' or 'padded'; did you mean"),
        (["data.template={x} {instruction} {y}"], "must contain {instruction}, {x} and {y} once each, in this order"),
        (["data.tokenizer=./no", "data.template={instruction} {x}, {y}"], "data.tokenizer='./no' cannot be loaded"),
        (["optimizer.lr=fast"], "optimizer.lr='fast': input should be a valid number"),
        (["optimizer.betas=[0.9,2.0]"], "optimizer: Invalid beta parameter at index 1: 2.0"),
        (["trainer.max_steps=-1"], "trainer.max_steps=-1: input should be greater than or equal to 0"),
        (["trainer.max_time=1h"], "trainer.max_time='1h': a duration is written DD:HH:MM:SS"),
        (["+trainer.max_epochs=3"], "trainer.max_epochs=3 cannot be set; use trainer.max_steps"),
        (["callbacks.measurement.every_n_steps=0"], "every_n_steps=0: input should be greater than 0"),
        # values that contradict each other
        ([REFUSED], REFUSAL),
        (["model.n_positions=5"], "model.n_positions=5 is below the longest sequence"),
        (["clusterer.n_clusters=61"], "n_clusters=61 exceeds the 24 states of the smallest probe"),
        (["task.n_mappings=9"], "task.n_mappings=9 exceeds n_inputs=4; lower it, or raise n_inputs"),
        (["task.holdout=description"], "task.holdout='description' needs two descriptions a task"),
        (["trainer=ddp", "data.batch_size=1"], "data.batch_size=1 leaves a process without data; raise it"),
        # names that do not exist
        (["task.holdout=instrction"], "'pair', 'description' or 'x'; did you mean 'instruction'?"),
        (["model.n_layr=3"], "model.n_layr is not a key of the configuration; did you mean 'model.n_layer'?"),
        (["n_layer=3"], "n_layer is not a key of the configuration; did you mean 'model.n_layer'?"),
        (["lr=3"], "lr is not a key of the configuration; did you mean 'optimizer.lr'?"),
        (["modle=gpt2"], "modle is not a key of the configuration; did you mean 'model'?"),
        (["+model.n_layr=3"], "model.n_layr is not a key of model; did you mean 'n_layer'?"),
        (["+sed=3"], "sed is not a key of the configuration; did you mean 'seed'?"),
        (["model=gpt3"], "model=gpt3 is not an option of model; did you mean 'gpt2'?; choose from gpt2, gpt2_768"),
        (["measures=[clustring]"], "measures=clustring is not an option of measures; did you mean 'clustering'?"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm is not an option of hydra/launcher"),
        (["optimizer._target_=torch.optim.AdmW"], "optimizer._target_='torch.optim.AdmW' cannot be imported"),
        (["model._target_=json.decoder"], "decoder.py'> is not a callable object); correct it"),
        (["--hlep"], "unrecognized arguments: --hlep; see --help"),
        (["--cfg=jab"], "argument --cfg/-c: invalid choice: 'jab'"),
        (["--config-dir", "nowhere"], "nowhere' not found"),
        (["name=${nope}"], "nope"),
        # the grammar
        (["seed"], "'seed' is not an override; write KEY=VALUE"),
        (["seed", "=", "1"], "'seed' is not an override; write KEY=VALUE"),
        (["model.n_layer=[1,2"], "model.n_layer=[1,2 cannot be parsed"),
        (["hydra.run.dir='it's"], "put special characters in quotes, as in KEY='\"VALUE\"'"),
        (["seed=0,1"], "seed=0,1 gives several values: add -m to run each one, or write KEY=[A,B] for a list"),
        (["+seed=3"], "seed exists already; write seed= without +"),
        (["-m", "model.n_layer=interval(1,3)"], "has infinitely many values; list them as in KEY=1,2,3"),
        (["-m", "seed=0,1", "hydra.sweep.subdir=same"], "would share the folder"),
        (["-m", "hydra.run.dir=x"], "write hydra.sweep.dir= for a multirun"),
        (["hydra.sweep.dir=x"], "add -m, or use hydra.run.dir="),
        (["objective=[next_token,pull,pull]"], "names pull twice, and one would count"),
        # groups and keys that are left out
        (["measures.chance=null"], "measures.chance=None: write ~measures.chance to leave it out"),
        (["callbacks=[checkpoint]"], "callbacks has no measurement; write callbacks=[measurement,checkpoint]"),
        (["callbacks.measurement=[1]"], "callbacks.measurement=[1] would replace all its keys; set them one by one"),
        (["++callbacks.mine={_target_:fractions.Fraction}"], "_target_='fractions.Fraction' gives a Fraction instead"),
        (["~model"], "model holds nothing; choose one of its options, as in model=gpt2"),
        (["logger=null"], "a group takes the name of one of its options"),
        (["~trainer"], "${trainer.max_steps} refers to no key of the configuration"),
        (["~optimizer.lr"], "optimizer.lr is missing; give it a value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_writes_nothing(
    taskcluster_train: Train, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    part = arguments[0].lstrip("~").partition("=")[0].partition(".")[0]  # the only setting
    alone = arguments[0].startswith(("~", "callbacks="))
    outcome = taskcluster_train(*[key for key in SMALL if not (alone and key.startswith(f"{part}."))], *arguments)
    long = ("loading libraries", "preparing prompts and model")  # what takes more than a second says so
    assert (outcome.exit_code, {*outcome.out.splitlines()} - {*long}) == (2, set())
    (line,) = outcome.err.splitlines()
    assert line.startswith("taskcluster-train: ")
    assert sentence in line
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
    tasks = f"task.tasks=[{{regexes:['{regex}'],mapping:{{p:q}}}},{{regexes:['z[ab]{{5}}'],mapping:{{p:r}}}}]"
    outcome = taskcluster_train("task=custom", tasks, "task.instructions_per_task=20", "logger=none")
    assert outcome.refusal().startswith(f"taskcluster-train: task: {reason}")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_reported(taskcluster_train: Train) -> None:
    assert (
        "trainer.accelerator='gpu': this machine has no GPU that torch can use; choose trainer=cpu"
        in taskcluster_train(*SMALL, "trainer=gpu").refusal()
    )


def test_help_version_and_cfg_print_without_running(taskcluster_train: Train, tmp_path: Path) -> None:
    for words, printed in (
        (["--help"], "taskcluster-train -m seed=0,1,2"),
        (["--help"], "optimizer: adafactor, adamw, muon, radam, sgd"),
        (["--version"], "taskcluster "),
        (["--cfg", "job", "model.n_layer=3"], "n_layer: 3"),
    ):
        outcome = taskcluster_train(*words)
        assert (outcome.exit_code, printed in outcome.out) == (0, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "seed=0,1", "name=f"],
        ["seed=0,1", "--config-dir", "mine", "-m", "name=f"],
        ["hydra.mode=MULTIRUN", "seed=choice(0,1)", "name=f", "hydra.sweep.subdir=${hydra.job.num}"],
    ],
    ids=" ".join,
)
def test_flags_may_be_anywhere_among_overrides(taskcluster_train: Train, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "mine").mkdir()
    outcome = taskcluster_train(*SMALL, REFUSED, *arguments)
    assert outcome.exit_code == 2
    assert [REFUSAL in line for line in outcome.err.splitlines()] == [True, True]


@pytest.mark.parametrize("folder", ["josé/r", "a b/c", "outputs/x/seed=0", "'a,b'", "~nobody/x"])
def test_a_path_needs_quotes_only_for_commas_and_quotes(taskcluster_train: Train, folder: str) -> None:
    for words in ([f"hydra.run.dir={folder}", f"ckpt_path={folder}"], ["-m", f"hydra.sweep.dir={folder}"]):
        assert REFUSAL in taskcluster_train(*SMALL, REFUSED, *words).refusal()
