"""taskcluster-export: transformers loads the model of the run, bit-equal."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Outcome, Train
from transformers import AutoModelForCausalLM, AutoTokenizer

from taskcluster import export, load_run
from taskcluster.runs.folder import RunFolder


@pytest.fixture
def taskcluster_export(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["taskcluster-export", *map(str, words)])
        try:
            export.main()
        except SystemExit as ended:
            return Outcome(int(ended.code or 0), *capfd.readouterr())
        return Outcome(0, *capfd.readouterr())

    return run


@pytest.mark.parametrize("step", [None, 2])
def test_what_transformers_loads_has_the_same_logits_and_tokens(
    taskcluster_export: Train, trained: RunFolder, tmp_path: Path, step: int | None
) -> None:
    outcome = taskcluster_export(trained.path, tmp_path / "model", *([] if step is None else [f"step={step}"]))
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert outcome.out.endswith(f"The model of step {step or 6} is in {tmp_path / 'model'}\n")
    run = load_run(trained.path, step)
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "model", use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = run.data.template.render(run.data.family.split()["val"][0])[0]
    tokens = tokenizer(text, return_tensors="pt")["input_ids"]
    assert torch.equal(tokens, run.data.tokenizer(text, return_tensors="pt")["input_ids"])
    with torch.no_grad():
        assert torch.equal(network(tokens).logits, run.network(tokens).logits)
    assert network.config.use_cache
    assert not run.network.config.use_cache


def test_card_has_settings_numbers_and_verdicts_where_any_is_decided(
    taskcluster_export: Train, small_run: RunFolder, tmp_path: Path
) -> None:
    taskcluster_export(small_run.path, tmp_path / "undecided")
    card = (tmp_path / "undecided" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    assert f"| accuracy | {small_run.rows()[-1]['val/accuracy']:.3f} |" in card
    assert "claims" not in card  # of which six steps decide none
    settings = re.findall("^- `(.*)=.*`$", card, re.MULTILINE)
    assert {"task.n_tasks", "model.n_layer", "trainer.max_steps"} <= {*settings}
    assert not {"seed", "model.dropout"} & {*settings}  # which have their defaults
    assert yaml.safe_load((tmp_path / "undecided" / "taskcluster.yaml").read_text()) == small_run.config()
    results = small_run.results()
    results["claims"][0] |= {"passed": True, "undecided": ""}
    small_run.write_results(results)
    taskcluster_export(small_run.path, tmp_path / "last")
    taskcluster_export(small_run.path, tmp_path / "first", "step=0")
    card = (tmp_path / "last" / "README.md").read_text()
    assert (card.count("| pass |"), card.count("| not decided: ")) == (1, 6)
    assert "claims" not in (tmp_path / "first" / "README.md").read_text()


def test_what_cannot_be_exported_is_refused_in_one_sentence(
    taskcluster_export: Train, trained: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for words, reason in (
        ((trained.path, tmp_path / "full"), "is not empty"),
        ((trained.path, tmp_path / "full" / "file"), "move it away, or choose another place"),
        ((tmp_path, tmp_path / "model"), "is not the folder of a run"),
        ((trained.path, tmp_path / "model", "step=5"), "has no checkpoint of step 5; choose from: 0, 2, 4, 6"),
        ((trained.path, tmp_path / "model", "last"), "last is not step=STEP"),
    ):
        refusal = taskcluster_export(*words).refusal()
        assert refusal.startswith("taskcluster-export: ")
        assert reason in refusal
    assert not (tmp_path / "model").exists()
