"""Tokenizers as they come: special tokens of their own, templates of chats, characters of several tokens."""

from pathlib import Path
from typing import Any

import pytest
from networks import byte_tokenizer, small
from tokenizers import processors

import taskcluster as tc

END = "<|endoftext|>"
MODEL = small("llama", vocab_size=len(byte_tokenizer()))


def tokenizer(single: str = "$A", **special: str) -> Any:
    """With a template of a text, and special tokens by name."""
    given = byte_tokenizer()
    given.add_special_tokens(special)
    ends = [(END, given.convert_tokens_to_ids(END))]
    given.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ends)
    return given


def test_a_beginning_token_that_is_also_the_unknown_one() -> None:
    """As OPT has it."""
    begins = tokenizer(f"{END} $A", bos_token=END, unk_token=END)
    assert tc.observe(MODEL, begins, ["red", f"red{END} a"]).tokens == [[END, "red"], [END, "red", END, "Ġa"]]
    assert tc.observe(MODEL, begins, [""]).tokens == [[END]]


def test_a_text_that_begins_with_the_beginning_token_gets_no_second_one() -> None:
    begins = tokenizer(f"{END} $A", bos_token=END)
    assert tc.observe(MODEL, begins, [f"{END}red"]).tokens == [[END, "red"]]


def test_the_last_token_is_that_of_the_text_not_one_that_the_tokenizer_adds() -> None:
    ended = tokenizer(f"{END} $A {END}")
    assert tc.observe(MODEL, ended, ["red", f"red{END}"]).tokens == [[END, "red"], [END, "red", END]]


def test_the_answer_is_the_token_that_continues_the_prompt() -> None:
    plain = tokenizer()
    seen = tc.observe(MODEL, plain, ["This is a", "abc re"], answers=[" question", "d"])
    expected = [plain.convert_tokens_to_ids("Ġquestion"), plain.convert_tokens_to_ids("d")]  # "red" is one token
    assert seen.prompts.answers.tolist() == expected


TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }};{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def chat(*messages: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), message.split(": "), strict=True)) for message in messages]


def test_a_chat_that_ends_in_a_reply_is_continued() -> None:
    chats = tokenizer()
    chats.chat_template = TEMPLATE
    seen = tc.observe(MODEL, chats, [chat("user: red"), chat("user: red", "assistant: blue")])
    assert seen.texts == ["[user]red;[assistant]", "[user]red;[assistant]blue"]
    with pytest.raises(tc.UserError, match=r"prompt 0 is not a chat that .* accepts: no system here"):
        tc.observe(MODEL, chats, [chat("system: a", "user: b")])


def test_characters_of_several_tokens_are_whole_in_texts_pages_and_folders(tmp_path: Path) -> None:
    prompts = ["a 😀 b é", "red naïve"]
    seen = tc.observe(MODEL, tokenizer(), prompts, positions={"face": ["😀", "ï"], "end": "last"})
    assert len(seen.tokens[0]) > 8  # several to a character
    assert seen.prompts.texts_at("face") == ["a 😀", "red naï"]
    again = tc.load_states(seen.save(tmp_path))
    assert again.texts == prompts
    assert again.prompts.texts_at("face") == ["a 😀", "red naï"]
    assert again.table().equals(seen.table())
    assert again.page() == seen.page()
    assert "<mark title='face'>😀</mark>" in seen.page()
