"""Prompts in a chat template's frame: the text as given, one BOS, one frame for a whole run; or one sentence."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import SMALL, Outcome
from hypothesis import given
from hypothesis import strategies as st
from networks import small
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from taskcluster import load_run
from taskcluster.cli import composed
from taskcluster.config import RunConfig
from taskcluster.data.prompts import Prompts, Template
from taskcluster.data.tokenizer import Frame, in_chat, load_tokenizer, refuse_altered, render_frame
from taskcluster.runs.condition import decisive, differing_keys
from taskcluster.runs.folder import RunFolder
from taskcluster.tasks.custom import custom_family
from taskcluster.tasks.family import Example
from taskcluster.training.experiment import prepare
from taskcluster.validation import UserError

Train = Callable[..., Outcome]

OPEN, CLOSE = "{% for turn in messages %}[{{ turn.role }}]", "[end]{% endfor %}[model]"
TODAY = "{{ strftime_now('%d %b %Y') }}"
SHAPES = {
    "plain": OPEN + "{{ turn.content }}" + CLOSE,
    "trimmed": OPEN + "{{ turn['content'] | trim }}" + CLOSE,
    "escaped": OPEN + "{{ turn.content | e }}" + CLOSE,
    "parts": OPEN + "{{ turn['content'][0]['text'] }}" + CLOSE,
    "all parts": OPEN + "{% for part in turn.content %}{{ part.text }}{% endfor %}" + CLOSE,
    "text or parts": OPEN
    + "{% if turn.content is string %}{{ turn.content }}{% else %}{{ turn.content[0].text }}{% endif %}"
    + CLOSE,
    "a date": f"[system]{TODAY}[end]{OPEN}{{{{ turn.content }}}}{CLOSE}",
    "one line": OPEN + "{{ turn.content | replace('\\n', ' ') }}" + CLOSE,
    "a length": OPEN + "{{ turn.content | length }}: {{ turn.content }}" + CLOSE,
}
REFUSED = {
    "upper": (OPEN + "{{ turn.content | upper }}" + CLOSE, "loses or changes the text"),
    "lower": (OPEN + "{{ turn.content | lower }}" + CLOSE, "loses or changes the text"),
    "capitalized": (OPEN + "{{ turn.content | capitalize }}" + CLOSE, "loses or changes the text"),
    "nothing": ("[user][model]", "loses or changes the text"),
    "the system alone": ("{% for turn in messages if turn.role == 'system' %}{{ turn.content }}{% endfor %}", "loses"),
    "twice": (OPEN + "{{ turn.content }} {{ turn.content }}" + CLOSE, "repeats the user's turn"),
    "raises": ("{{ raise_exception('No system turn') }}", "cannot be used for a user's turn alone (No system turn)"),
    "a syntax error": ("{% for turn in messages %}{{ turn.content }}", "cannot be used for a user's turn alone"),
    "an unknown filter": ("{{ messages[0].content | shout }}", "cannot be used for a user's turn alone"),
    "two turns": ("{{ messages[1].content | trim }}{{ messages[1]['content'] + '' }}", "cannot be used"),
}


def tokenizer(template: object, prepends: bool = False) -> PreTrainedTokenizerFast:
    """One of bytes; prepends: whether it begins every text with BOS."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["capital of USA -> Washington"] * 3, vocab_size=280, min_frequency=2)
    backend = trained._tokenizer
    backend.add_special_tokens(["<s>", "</s>"])
    if prepends:
        bos = ("<s>", backend.token_to_id("<s>"))
        backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[bos])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    made.chat_template = template
    return made


TOKENIZERS = {name: tokenizer(shape) for name, shape in SHAPES.items()}
TEXTS = st.text(st.one_of(st.sampled_from("<>&{}'\" \n\tab%"), st.characters(exclude_categories=["Cs"])), max_size=12)


@pytest.mark.parametrize("shape", SHAPES)
@given(instruction=TEXTS, x=TEXTS)
def test_instruction_and_x_are_in_the_prompt_as_given_or_it_is_refused(shape: str, instruction: str, x: str) -> None:
    example, chat = Example(0, instruction, x, "y", 0), TOKENIZERS[shape]
    framed = in_chat(Template("{instruction} {x} is{y}", prefix="Briefly. "), chat)
    try:
        refuse_altered([framed.turn(example)], chat)
    except ValueError as error:
        said = re.fullmatch(r"chat=True: the tokenizer's chat template changes .+ in the text .+", str(error))
        if said and shape in ("escaped", "one line", "a length"):
            return
        raise
    text, span, answer, _ = framed.render(example)
    said = f"Briefly. {instruction} {x} is"
    assert framed.turn(example) == said
    assert (text[slice(*span)], text[slice(*answer)]) == (x, "y")
    content = [{"type": "text", "text": said}] if "parts" in shape and "text" not in shape else said
    turns = [{"role": "user", "content": content}]
    assert text == chat.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + "y"


@pytest.mark.parametrize("text", [" ahead", "behind ", "\nlines\n"])
def test_a_template_that_trims_refuses_spaces_at_the_ends(text: str) -> None:
    with pytest.raises(ValueError, match=r"changes '( |.n)' in the text"):
        refuse_altered([text], TOKENIZERS["trimmed"])
    refuse_altered([text], TOKENIZERS["plain"])


@pytest.mark.parametrize("shape", REFUSED)
def test_a_template_without_a_frame_is_refused_in_one_sentence(shape: str) -> None:
    template, reason = REFUSED[shape]
    with pytest.raises(ValueError, match=r"chat=True: the tokenizer's chat template .*; correct it") as refused:
        in_chat(Template("{instruction} {x} ->{y}"), tokenizer(template))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("prepends", [True, False])
@pytest.mark.parametrize("opening", ["", "{{ bos_token }}", "<s>", "\n {{ bos_token }}"])
def test_a_prompt_has_one_bos_whoever_writes_it(prepends: bool, opening: str) -> None:
    chat = tokenizer(opening + SHAPES["plain"], prepends)
    specs = [{"instructions": [i, f"the {i}"], "mapping": {"USA": "W", "UK": "L"}} for i in ("capital of", "town of")]
    family = custom_family(specs, 1, holdout="instruction", val_fraction=0.5, seed=0)
    framed = in_chat(Template("{instruction} {x} ->{y}"), chat)
    for prompt in Prompts(family, chat, framed).encode(family.split()["train"]):
        assert prompt.tokens.count(chat.bos_token_id) == (1 if prepends or opening else 0)


@pytest.mark.parametrize("prepends", [True, False])
def test_a_template_that_writes_two_bos_is_refused(prepends: bool) -> None:
    with pytest.raises(ValueError, match="begins a text with 2 tokens <s>; correct it to write one"):
        render_frame(tokenizer("<s>[system]<s>" + SHAPES["plain"], prepends))


def test_a_template_may_be_a_file_or_the_default_of_several(tmp_path: Path) -> None:
    several = {"default": SHAPES["plain"], "tool_use": "tools"}
    for name, template in (("one", SHAPES["plain"]), ("several", several)):
        tokenizer(template).save_pretrained(tmp_path / name)
        assert (tmp_path / name / "chat_template.jinja").read_text() == SHAPES["plain"]
        assert render_frame(load_tokenizer(str(tmp_path / name))) == Frame("[user]", "[end][model]")
    with pytest.raises(ValueError, match=r"\(none of rag, tool_use is named default\)"):
        render_frame(tokenizer({"tool_use": "tools", "rag": "documents"}))


@pytest.fixture
def chat_model(tmp_path: Path) -> Path:
    """A folder with a small model whose chat template writes the date."""
    folder = tmp_path / "chat"
    small("llama", vocab_size=300, seed=0).save_pretrained(folder)
    dated(folder, "01 Jan 2026")
    return folder


def dated(folder: Path, day: str) -> None:
    tokenizer(SHAPES["a date"].replace(TODAY, day)).save_pretrained(folder)


TASK = [word for word in SMALL if not word.startswith(("model.", "trainer.max_steps"))]
CHAT = (*TASK, "model=pretrained", "model.path=chat", "data.chat=true", "trainer.max_steps=2", "hydra.run.dir=run")


@pytest.mark.usefixtures("undrawn")
def test_a_run_keeps_its_frame(taskcluster_train: Train, chat_model: Path, tmp_path: Path) -> None:
    assert taskcluster_train(*CHAT).exit_code == 0
    run = RunFolder(tmp_path / "run")
    frame = {"opening": "[system]01 Jan 2026[end][user]", "closing": "[end][model]"}
    assert run.config()["data"]["chat_frame"] == frame
    before = [row for row in run.rows() if row["step"] == 0]
    dated(chat_model, "02 Jan 2026")
    loaded = load_run(run.path, 0, changes={"data.probe_size": 20})
    assert loaded.data.template.render(loaded.data.family.split()["val"][0]).text.startswith(frame["opening"])
    assert "already finished" in taskcluster_train(*CHAT).out
    outcome = taskcluster_train(*CHAT, "trainer.max_steps=4")
    assert outcome.exit_code == 0, outcome.err
    assert "resumes after step 2" in outcome.out
    assert run.config()["data"]["chat_frame"] == frame
    assert [row["val/loss"] for row in run.rows() if row["step"] == 0] == [row["val/loss"] for row in before]
    again = load_run(run.path, 0)
    measured = again.measure()
    assert {key: before[0][key] for key in measured if key in before[0]} == {
        key: value for key, value in measured.items() if key in before[0]
    }
    fresh = taskcluster_train(*CHAT, "hydra.run.dir=another")
    assert fresh.exit_code == 0
    other = RunFolder(tmp_path / "another").config()
    assert other["data"]["chat_frame"]["opening"].startswith("[system]02 Jan 2026")
    assert not differing_keys(run.config() | {"trainer": other["trainer"], "scheduler": other["scheduler"]}, other)
    without = yaml.safe_load((run.path / "config.yaml").read_text())
    del without["data"]["chat_frame"]
    assert decisive(without) == decisive(run.config())


def test_checkpoints_of_a_series_have_one_frame(taskcluster_train: Train, tmp_path: Path) -> None:
    for step, day in ((1, "01 Jan 2026"), (2, "02 Jan 2026")):
        small("llama", vocab_size=300, seed=step).save_pretrained(tmp_path / "chat" / f"step{step}")
        dated(tmp_path / "chat" / f"step{step}", day)
    outcome = taskcluster_train(*CHAT, "trainer.max_steps=0")
    assert outcome.exit_code == 2
    said = "model.path='chat/step2' differs from model.path='chat/step1' in the tokenizer's chat frame; leave"
    assert said in outcome.err
    assert not [*(tmp_path / "run").rglob("*")]
    tokenizer(None).save_pretrained(tmp_path / "chat" / "step2")
    (tmp_path / "chat" / "step2" / "chat_template.jinja").unlink()
    outcome = taskcluster_train(*CHAT, "trainer.max_steps=0")
    assert "model.path='chat/step2': data.chat=True: the tokenizer has no chat template" in outcome.err


@pytest.mark.parametrize(
    ("template", "reason"), [*REFUSED.values(), (SHAPES["escaped"], "changes '<' in the text 'a<b")]
)
def test_the_sentence_names_the_key(chat_model: Path, template: str, reason: str) -> None:
    tokenizer(template).save_pretrained(chat_model)
    tasks = "task.tasks=[{instructions:['a<b',c],mapping:{x:y,z:y}},{instructions:[d,e],mapping:{x:y,z:z}}]"
    words = [word for word in CHAT if not word.startswith(("task.", "hydra", "model.path"))]
    config = composed(*words, f"model.path='{chat_model}'", "task=custom", "task.val_fraction=0.5", tasks)
    with pytest.raises(UserError, match=r"data\.chat=True: ") as refused:
        prepare(RunConfig.of(config))
    assert reason in str(refused.value)
