"""Prompts in a chat template's frame: the text as given, one BOS, one frame for a whole run; or one sentence."""

from pathlib import Path

import pytest
import yaml
from conftest import SMALL, Train
from networks import byte_tokenizer, small
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from taskcluster import load_run
from taskcluster.data.prompts import Prompts, Template
from taskcluster.data.tokenizer import render_frame
from taskcluster.runs.condition import decisive, differing_keys
from taskcluster.runs.folder import RunFolder
from taskcluster.tasks.custom import custom_family
from taskcluster.tasks.family import Example

OPEN, CLOSE = "{% for turn in messages %}[{{ turn.role }}]", "[end]{% endfor %}[model]"
PLAIN = OPEN + "{{ turn.content }}" + CLOSE
REFUSED = {
    "upper": OPEN + "{{ turn.content | upper }}" + CLOSE,
    "nothing": "[user][model]",
    "twice": OPEN + "{{ turn.content }} {{ turn.content }}" + CLOSE,
    "raises": "{{ raise_exception('No system turn') }}",
    "a syntax error": "{% for turn in messages %}{{ turn.content }}",
}


def tokenizer(template: object, prepends: bool = False) -> PreTrainedTokenizerFast:
    """One of bytes; prepends: whether it begins every text with BOS."""
    made = byte_tokenizer()
    made.add_special_tokens({"bos_token": "<s>"})
    if prepends:
        bos = ("<s>", made.bos_token_id)
        made.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[bos])
    made.chat_template = template
    return made


@pytest.mark.parametrize("template", [PLAIN, OPEN + "{{ turn['content'] | trim }}" + CLOSE])
def test_instruction_and_x_are_in_the_users_turn_as_given(template: str) -> None:
    chat = tokenizer(template)
    framed = Template("{instruction} {x} is {y}", "Briefly. ", *render_frame(chat))
    text, x, y, _ = framed.render(Example(0, "the capital of", "<USA>", "W", 0))
    content = "Briefly. the capital of <USA> is"
    turns = [{"role": "user", "content": content}]
    assert text == chat.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + "W"
    assert (text[slice(*x)], text[slice(*y)]) == ("<USA>", "W")


@pytest.mark.parametrize("shape", REFUSED)
def test_a_template_without_a_frame_is_refused_in_one_sentence(shape: str) -> None:
    with pytest.raises(ValueError, match=r"chat=True: the tokenizer's chat template .*; correct it") as refused:
        render_frame(tokenizer(REFUSED[shape]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("prepends", [True, False])
@pytest.mark.parametrize("opening", ["", "{{ bos_token }}", "\n {{ bos_token }}"])
def test_a_prompt_has_one_bos(prepends: bool, opening: str) -> None:
    chat = tokenizer(opening + PLAIN, prepends)
    specs = [{"instructions": [i, f"the {i}"], "mapping": {"USA": "W", "UK": "L"}} for i in ("capital of", "town of")]
    family = custom_family(specs, 1, holdout="instruction", val_fraction=0.5, seed=0)
    framed = Template("{instruction} {x} ->{y}", "", *render_frame(chat))
    for prompt in Prompts(family, chat, framed).encode(family.split()["train"]):
        assert prompt.tokens.count(chat.bos_token_id) == (1 if prepends or opening else 0)


def dated(folder: Path, day: str) -> None:
    """A small model whose chat template writes the date."""
    small("llama", vocab_size=300, seed=0).save_pretrained(folder)
    tokenizer(f"[system]{day}[end]{PLAIN}").save_pretrained(folder)


TASK = [word for word in SMALL if not word.startswith(("model.", "trainer.max_steps"))]
CHAT = (*TASK, "model=pretrained", "model.path=chat", "data.chat=true", "trainer.max_steps=2", "hydra.run.dir=run")


@pytest.mark.usefixtures("undrawn")
def test_a_run_keeps_its_frame(taskcluster_train: Train, tmp_path: Path) -> None:
    dated(tmp_path / "chat", "01 Jan 2026")
    assert taskcluster_train(*CHAT).exit_code == 0
    run = RunFolder(tmp_path / "run")
    frame = {"opening": "[system]01 Jan 2026[end][user]", "closing": "[end][model]"}
    assert run.config()["data"]["chat_frame"] == frame
    before = next(row for row in run.rows() if row["step"] == 0)
    dated(tmp_path / "chat", "02 Jan 2026")
    assert "already finished" in taskcluster_train(*CHAT).out
    assert "resumes after step 2" in taskcluster_train(*CHAT, "trainer.max_steps=4").output()
    assert run.config()["data"]["chat_frame"] == frame
    again = load_run(run.path, 0)
    measured = again.measure()
    assert {key: before[key] for key in measured} == measured
    assert taskcluster_train(*CHAT, "hydra.run.dir=another").exit_code == 0
    other = RunFolder(tmp_path / "another").config()
    assert other["data"]["chat_frame"]["opening"].startswith("[system]02 Jan 2026")
    assert not differing_keys(run.config() | {"trainer": other["trainer"], "scheduler": other["scheduler"]}, other)
    without = yaml.safe_load((run.path / "config.yaml").read_text())
    del without["data"]["chat_frame"]
    assert decisive(without) == decisive(run.config())
