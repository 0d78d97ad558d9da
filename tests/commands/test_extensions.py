"""A user's task family, model and measures, in files outside the package, work in every command."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import SMALL
from faults import Command

from taskcluster import Metric, load_run
from taskcluster.operations.live.watcher import Watcher
from taskcluster.pages.multirun_report import write
from taskcluster.runs.folder import RunFolder
from taskcluster.validation import UserError

TASK = """
from taskcluster import Task, TaskFamily

RELATIONS = {
    "capital": {"France": "Paris", "Japan": "Tokyo", "Peru": "Lima"},
    "language": {"France": "French", "Japan": "Japanese", "Peru": "Spanish"},
}
MANNERS = "", "please : ", "quick : ", "name ", "tell ", "say : "


def relations(holdout: str, val_fraction: float, seed: int) -> TaskFamily:
    tasks = []
    for task_id, (relation, mapping) in enumerate(RELATIONS.items()):
        instructions = tuple(manner + f"the {relation} of" for manner in MANNERS)
        tasks.append(Task(task_id, (relation,), (instructions,), mapping))
    return TaskFamily(tuple(tasks), holdout, val_fraction, seed)
"""

MODEL = '''
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class MeanConfig(PretrainedConfig):
    model_type = "running_mean"

    def __init__(self, vocab_size=8, hidden_size=16, num_hidden_layers=2, **others):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        super().__init__(**others)


class Block(nn.Module):
    """A token adds the mean of the tokens up to it, and a function of that."""

    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, states, seen):
        mean = (states * seen).cumsum(1) / seen.cumsum(1).clamp(min=1)
        return states + self.outer(torch.relu(self.inner(torch.cat([states, mean], -1))))


class RunningMean(PreTrainedModel):
    config_class = MeanConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config.hidden_size) for _ in range(config.num_hidden_layers))
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, attention_mask=None):
        states = self.embed(input_ids)
        seen = torch.ones_like(states[..., :1]) if attention_mask is None else attention_mask[..., None].to(states)
        for block in self.layers:
            states = block(states, seen)
        return CausalLMOutput(logits=self.head(states))


def running_mean(vocab_size, longest, n_layer, n_embd, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RunningMean(MeanConfig(vocab_size, n_embd, n_layer))
'''

MEASURES = '''
from taskcluster import Measure, Metric

SPREAD = Metric("spread", "spread", "at x", label="Spread of states", position="input", low=0)
MARGIN = Metric("margin", "margin", axis="margin (nats)", by_layer=False)


class Spread(Measure):
    """How far states at x are apart."""

    metrics, positions = (SPREAD, MARGIN), ("input",)

    def measure(self, observation):
        return {SPREAD: observation.states["input"].std(1).mean(-1).tolist(), MARGIN: 9 - observation.loss}


class Rare(Measure):
    """Two numbers where one is declared, at the last step alone."""

    metrics = (Metric("rare", "rare", by_layer=False, views=()),)

    def __init__(self, fails):
        super().__init__(every_n_steps=None)
        self.fails = fails

    def measure(self, observation):
        return {self.metrics[0]: [1.0, 2.0] if self.fails else 1.0}


class Empty(Measure):
    def measure(self, observation):
        return {}


class Lost(Spread):
    positions = ("sep",)
'''

FILES = {
    "my_task.py": TASK,
    "my_model.py": MODEL,
    "my_measures.py": MEASURES,
    "task/mine.yaml": ("_target_: my_task.relations\nholdout: instruction\nval_fraction: 0.34\nseed: ${seeds.tasks}\n"),
    "model/mine.yaml": "_target_: my_model.running_mean\nn_layer: 2\nn_embd: 16\nseed: ${seeds.model}\n",
    "measures/mine.yaml": "mine:\n  _target_: my_measures.Spread\n  every_n_steps: 1\n",
    "measures/rare.yaml": "rare:\n  _target_: my_measures.Rare\n  fails: false\n",
    "measures/flat.yaml": "_target_: my_measures.Spread\nevery_n_steps: 1\n",
    "measures/empty.yaml": "empty:\n  _target_: my_measures.Empty\n",
    "measures/lost.yaml": "lost:\n  _target_: my_measures.Lost\n",
}

GENERAL = [word for word in SMALL if not word.startswith(("task.", "model.", "logger="))]
MINE = ("--config-dir", "mine", "task=mine", "model=mine", "measures=[clustering,mine,rare]", "data.layout=padded")


class Laboratory(NamedTuple):
    folder: Path
    run: RunFolder
    output: str

    @property
    def metrics(self) -> dict[str, Metric]:
        return dict(self.run.catalogue())


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """A finished run of a user's own task, model and measures, mirrored to TensorBoard."""
    folder = tmp_path_factory.mktemp("laboratory")
    for name, content in FILES.items():
        (folder / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mine" / name).write_text(content)
    command = Command(folder, *MINE, *GENERAL, "logger=tensorboard", "hydra.run.dir=runs/seed=0", figures=True)
    code, output = command.end()
    assert code == 0, output
    before = [*sys.path]
    sys.path.append(str(folder / "mine"))  # as load_run asks for
    yield Laboratory(folder, RunFolder(folder / "runs/seed=0"), output)
    sys.path[:] = before


def test_the_journal_has_every_number_at_every_step_that_measures_it(laboratory: Laboratory) -> None:
    rows = laboratory.run.rows()
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    for row in rows:
        assert all(row[f"spread/{split}/layer_{layer}"] > 0 for split in ("train", "val") for layer in range(3))
        assert row["val/margin"] == pytest.approx(9 - row["val/loss"])
    assert ["val/rare" in row for row in rows] == [False, False, False, True]


def test_the_terminal_shows_it(laboratory: Laboratory) -> None:
    last = laboratory.run.rows()[-1]
    layers = " │ +".join(f"{last[f'spread/val/layer_{layer}']:.2f}" for layer in range(3))
    assert re.search(rf"│ spread at x +│ +{layers} │", laboratory.output)
    assert f"validation margin {last['val/margin']:.3f} at step 6" in laboratory.output


def test_figures_and_the_report_show_it(laboratory: Laboratory) -> None:
    figures = laboratory.run.figures
    assert (figures / "spread_by_layer.png").read_bytes().startswith(b"\x89PNG")
    assert "margin (nats)" in (figures / "learning.svg").read_text()
    assert "Spread of states, at x" in (figures / "spread.svg").read_text()
    summary = write(laboratory.run.path).with_name("report.md")
    assert "## spread by layer, at x" in summary.read_text()
    assert "validation margin" in summary.read_text()
    assert "spread" in (summary.parent / "table.csv").read_text()


def test_the_dashboard_shows_it(laboratory: Laboratory) -> None:
    watcher = Watcher(laboratory.folder)
    watcher.scan()
    assert watcher.catalogue["spread"].label == "Spread of states"
    assert watcher.catalogue["margin"].axis == "margin (nats)"
    ((_, curves),) = watcher.conditions.values()
    assert {"spread/val/layer_2", "val/margin"} <= {*curves.keys}
    assert not [key for key in curves.keys if key.startswith("rare/")]  # it asks for no view
    (live,) = watcher.runs()
    assert dict(live.values)["spread"] == pytest.approx(laboratory.run.rows()[-1]["spread/val/layer_2"])


def test_the_run_can_be_loaded_and_measured_again_to_the_bit(laboratory: Laboratory) -> None:
    loaded = load_run(laboratory.run.path)
    assert type(loaded.network).__name__ == "RunningMean"
    for row in laboratory.run.rows():
        loaded.go_to(row["step"])
        measured = loaded.measure()
        assert {key: row[key] for key in measured} == measured
    with pytest.raises(UserError, match="no checkpoint of step 5; choose from: 0, 2, 4, 6"):
        loaded.go_to(5)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["measures=[rare]", "measures.rare.fails=true"],
            1,
            "returns numbers of shapes {'rare': (2,)}, but declares",
        ),
        (["measures=[clustering,flat]"], 2, "measures._target_='my_measures.Spread' has no name; indent all keys"),
        (["measures=[empty]"], 2, "empty declares no metrics; set `metrics` of its class"),
        (["measures=[lost]"], 2, "lost reads the states at 'sep'; choose its positions from"),
        (["data.layout=sequences"], 2, "RunningMean accepts no mask of (T, T), which several sequences in a line need"),
    ],
)
def test_mistakes_are_one_sentence(
    laboratory: Laboratory, tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    command = Command(laboratory.folder, *MINE, *GENERAL, "logger=none", f"hydra.run.dir={tmp_path}/run", *arguments)
    given, output = command.end()
    assert (given, sentence in output) == (code, True), output
    assert "Traceback" not in output
    if code == 1:
        assert "the same command" in output
        assert [row["step"] for row in RunFolder(tmp_path / "run").rows()] == [0, 2, 4]
    else:
        assert RunFolder(tmp_path / "run").state == "new"
