"""Token sequences of our own tokenizer, and of another's: [I ; x ; y] and back."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import family as regex_family
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from taskcluster.data.prompts import Prompt, Prompts, Template
from taskcluster.data.rows import Rows, rows_of
from taskcluster.data.tokenizer import (
    PAD,
    SENTENCE_TEMPLATE,
    SEP,
    SYMBOL_TEMPLATE,
    WORD_TEMPLATE,
    load_tokenizer,
    make_tokenizer,
)
from taskcluster.operations.command_line.cli import composed
from taskcluster.tasks.custom import custom_family
from taskcluster.tasks.facts import facts_family
from taskcluster.tasks.family import Example, TaskFamily


def custom(specs: list[dict[str, Any]], fraction: float = 0.5) -> TaskFamily:
    return custom_family(specs, 5, holdout="instruction", val_fraction=fraction, seed=0)


def facts(**changes: Any) -> TaskFamily:
    """Three relations of conf/task/facts.yaml with few inputs and some values changed."""
    few = {"relations": ["capital", "domain", "plural"], "n_inputs": 5, "n_demonstrations": 2, "n_sets": 6, "n_pool": 4}
    values = composed("task=facts")["task"] | few | changes
    del values["_target_"]
    return facts_family(**values)


SYMBOLS = custom(
    [
        {"regexes": ["ab{1,3}[xy]{1,2}"], "mapping": {"red": "blue", "x": "x"}},
        {"regexes": ["cb{1,3}[xy]{1,2}"], "mapping": {"red": "red"}},
    ],
    0.2,
)
FIRST, SECOND = (task.instructions[0][0] for task in SYMBOLS.tasks)
EXAMPLES = [Example(0, FIRST, "red", "blue", 0), Example(0, FIRST, "x", "x", 0), Example(1, SECOND, "red", "red", 1)]
TEMPLATE = Template(SYMBOL_TEMPLATE)
TOKENIZER = make_tokenizer(SYMBOLS, TEMPLATE)
PROMPTS = [*Prompts(SYMBOLS, TOKENIZER, TEMPLATE).encode(EXAMPLES)]
WORDS = custom(
    [
        {"instructions": ["capital of", "main city of"], "mapping": {"South Korea": "Seoul", "USA": "W, D.C."}},
        {"instructions": ["language of", "tongue of"], "mapping": {"South Korea": "Korean", "USA": "English"}},
    ]
)
FACTS, FEW_SHOT = facts(n_instructions=30), facts(describe="demonstrations")


def every(family: TaskFamily) -> list[Example]:
    return [example for split in family.split().values() for example in split]


def names(tokens: Any) -> list[str]:
    return TOKENIZER.convert_ids_to_tokens([int(token) for token in tokens])


def spelled(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[str]:
    return [" ".join(tokenizer.convert_ids_to_tokens(prompt.tokens[slice(*span)])) for span in (prompt.x, prompt.y)]


def decoded(rows: Rows) -> list[tuple[list[str], list[str]]]:
    """(tokens, targets) of every row."""
    return [
        (names(rows.tokens[rows.row_of == row]), names(rows.targets[rows.row_of == row])) for row in range(len(rows))
    ]


def test_a_row_is_an_instruction_the_separator_and_its_inputs() -> None:
    rows = rows_of(PROMPTS, shared=True)
    assert decoded(rows) == [
        ([*FIRST, SEP, "<x:red>", "<x:x>"], [*FIRST[1:], SEP, PAD, "<y:blue>", "<y:x>"]),
        ([*SECOND, SEP, "<x:red>"], [*SECOND[1:], SEP, PAD, "<y:red>"]),
    ]
    assert rows.lengths.tolist() == [len(FIRST) + 3, len(SECOND) + 2]
    assert rows.counts[:-1].tolist() == [2, 1]
    assert rows.labels("instruction_end")["task"].tolist() == [0, 1]
    assert [tokens for tokens, _ in decoded(rows_of(PROMPTS, shared=False))] == [
        [*FIRST, SEP, "<x:red>"],
        [*FIRST, SEP, "<x:x>"],
        [*SECOND, SEP, "<x:red>"],
    ]


def test_ids_follow_from_sorted_names_and_a_symbol_x_and_y_of_one_name_differ() -> None:
    expected = [PAD, SEP, *"abcxy", "<x:red>", "<x:x>", "<y:blue>", "<y:red>", "<y:x>"]
    assert TOKENIZER.convert_ids_to_tokens(list(range(len(TOKENIZER)))) == expected
    with pytest.raises(Exception, match="UNK"):
        TOKENIZER("z")


def test_the_inputs_of_all_examples_are_found() -> None:
    tasks = regex_family(n_tasks=10)
    examples = tasks.split()["val"]
    tokenizer = make_tokenizer(tasks, TEMPLATE)
    prompts = [*Prompts(tasks, tokenizer, TEMPLATE).encode(examples)]
    for shared in (True, False):
        rows = rows_of(prompts, shared)
        at, labels = rows.at("input"), rows.labels("input")
        assert torch.equal(at, rows.at("answer"))
        for tokens, kind in ((rows.tokens[at], "x"), (rows.targets[at], "y")):
            texts = [getattr(example, kind) for example in examples]
            assert tokenizer.convert_ids_to_tokens(tokens.tolist()) == [f"<{kind}:{text}>" for text in texts]
            assert labels[kind].tolist() == [sorted(set(texts)).index(text) for text in texts]
        assert labels["task"].tolist() == [example.task_id for example in examples]
        assert labels["description"].tolist() == [example.description for example in examples]
        distinct = {(int(number), e.instruction) for number, e in zip(labels["instruction"], examples, strict=True)}
        assert len(distinct) == len({number for number, _ in distinct}) == len({e.instruction for e in examples})
        assert set(rows.tokens[rows.at("instruction_end")].tolist()) == {1}


def test_an_alphabet_and_x_and_y_may_hold_any_symbol() -> None:
    family = custom(
        [{"regexes": [f"{c}[<>:{{}} \n\t|é\u0301字😀]{{3}}"], "mapping": {"{x}": c, " ": "y\n"}} for c in "ab"], 0.2
    )
    tokenizer, examples = make_tokenizer(family, TEMPLATE), family.split()["train"]
    for example, prompt in zip(examples, Prompts(family, tokenizer, TEMPLATE).encode(examples), strict=True):
        expected = [*example.instruction, SEP, f"<x:{example.x}>", f"<y:{example.y}>"]
        assert tokenizer.convert_ids_to_tokens(prompt.tokens) == expected
        assert (prompt.x, prompt.y) == ((5, 6), (6, 7))


def test_words_are_tokens_and_x_and_y_have_several() -> None:
    template = Template(WORD_TEMPLATE)
    tokenizer, examples = make_tokenizer(WORDS, template), every(WORDS)
    for example, prompt in zip(examples, Prompts(WORDS, tokenizer, template).encode(examples), strict=True):
        assert tokenizer.decode(prompt.tokens) == f"{example.instruction} {SEP} {example.x} {example.y}"
        assert spelled(tokenizer, prompt) == [example.x, example.y]


@pytest.mark.parametrize(
    ("family", "template"),
    [(SYMBOLS, SYMBOL_TEMPLATE), (WORDS, WORD_TEMPLATE), (FACTS, SENTENCE_TEMPLATE)],
    ids=["symbols", "words", "sentences"],
)
def test_a_saved_tokenizer_gives_the_same_ids(tmp_path: Path, family: TaskFamily, template: str) -> None:
    parsed = Template(template)
    tokenizer = make_tokenizer(family, parsed)
    tokenizer.save_pretrained(tmp_path)
    again, examples = load_tokenizer(str(tmp_path)), family.split()["train"]
    for example, prompt in zip(examples, Prompts(family, tokenizer, parsed).encode(examples), strict=True):
        assert again(parsed.render(example).text)["input_ids"] == prompt.tokens
    assert (again.pad_token, again.sep_token, len(again)) == (PAD, SEP, len(tokenizer))


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerFast:
    """A tokenizer like GPT-2's, of bytes and a space in front of words, that begins every text with a token."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        ["capital of South Korea -> Seoul", "Washington ->"] * 3, vocab_size=330, min_frequency=2
    )
    backend = trained._tokenizer
    backend.add_special_tokens(["<s>"])
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")


ODD = custom(
    [
        {
            "instructions": [i, f"the {i}"],
            "mapping": {"Åland 😀": "Mariehamn", "USA": "Washington 字", "South Korea": "Seoul"},
        }
        for i in ("capital of", "Hauptstadt: é")
    ]
)


@pytest.mark.parametrize(
    ("family", "template"),
    [
        (ODD, "{instruction} {x} ->{y}"),
        (ODD, "Q: {instruction} {x}\nA: {y}\n"),
        (ODD, "{instruction}|{x}|{y}"),
        (FACTS, SENTENCE_TEMPLATE),
        (FEW_SHOT, SENTENCE_TEMPLATE),
    ],
)
def test_spans_of_another_models_tokenizer_hold_their_texts(
    bpe: PreTrainedTokenizerFast, family: TaskFamily, template: str
) -> None:
    parsed, examples = Template(template), every(family)
    for example, prompt in zip(examples, Prompts(family, bpe, parsed).encode(examples), strict=True):
        text, x, *_ = parsed.render(example)
        assert prompt.tokens == bpe(text)["input_ids"]
        texts = [bpe.decode(prompt.tokens[slice(*span)]) for span in (prompt.x, prompt.y)]
        assert [text.strip(" ") for text in texts] == [example.x, example.y]
        before = bpe.decode(prompt.tokens[: prompt.x[0]], skip_special_tokens=True)
        assert before.strip(" ") == text[: x[0]].strip(" ")


@pytest.mark.parametrize("family", [FACTS, FEW_SHOT])
def test_x_inside_a_sentence_is_found_by_our_tokenizer(family: TaskFamily) -> None:
    parsed = Template("<< {instruction} = {y}.", prefix="Facts:\n")
    tokenizer, examples = make_tokenizer(family, parsed), every(family)
    for example, prompt in zip(examples, Prompts(family, tokenizer, parsed).encode(examples), strict=True):
        parts = [re.findall(r"\w+|[^\w\s]", text) for text in (example.x, example.y)]
        assert spelled(tokenizer, prompt) == [" ".join(part) for part in parts]
        whole = tokenizer.convert_ids_to_tokens(prompt.tokens)
        assert "".join(whole) == re.sub(r"[^\S\n]", "", parsed.render(example).text)


@pytest.mark.parametrize(
    "template",
    ["{instruction} {x}", "{x} {instruction} {y}", "{y} {instruction}", "{instruction} {x} {y} {y}",
     "{instruction} {x} {z} {y}", "{instruction} {x!r} {y}", "{instruction} {x} {y", "{} {} {}"],
)  # fmt: skip
def test_a_template_that_lacks_a_part_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"template=.* must contain \{instruction\}, \{x\} and \{y\} once each"):
        Template(template)


@pytest.mark.parametrize(
    ("template", "mapping", "reason"),
    [
        ("{instruction}{x} {y}", {"a": "b"}, "template gives no token that ends before x begins in 'capital ofa b'"),
        ("{instruction} {x}{y}", {"a": "b"}, "template merges x and y into one token in 'capital of ab'"),
        ("{instruction} {x} {y}", {" ": "b"}, "template gives x no token"),
        ("{instruction} {x} {y}", {"a": ""}, "template gives y no token"),
        ("{instruction} {y}", {"a": "b"}, "must contain {x}, because instructions lack the place of x"),
    ],
)
def test_a_template_that_does_not_suit_the_texts_is_refused(
    template: str, mapping: dict[str, str], reason: str
) -> None:
    tasks = [{"instructions": [f"{i} of", f"{i} in"], "mapping": mapping} for i in ("capital", "tongue")]
    family, parsed = custom(tasks), Template(template)
    example = Example(0, "capital of", *mapping.popitem(), 0)
    with pytest.raises(ValueError, match="template") as refused:
        Prompts(family, make_tokenizer(family, Template(WORD_TEMPLATE)), parsed)  # which looks at the template
        list(Prompts(family, make_tokenizer(family, parsed), parsed).encode([example]))
    assert reason in str(refused.value)
