"""Token sequences of our own tokenizer, and of another's: [I ; x ; y] and back."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from taskcluster.cli import composed
from taskcluster.data.prompts import Prompt, Prompts, Template
from taskcluster.data.rows import Rows, rows_of
from taskcluster.data.tokenizer import (
    OF_SENTENCES,
    OF_SYMBOLS,
    OF_WORDS,
    PAD,
    SEP,
    in_chat,
    load_tokenizer,
    own_tokenizer,
)
from taskcluster.tasks.custom import custom_family
from taskcluster.tasks.facts import facts_family
from taskcluster.tasks.family import Example, TaskFamily

SPECS = [
    {"regexes": ["ab{1,3}[xy]{1,2}"], "mapping": {"red": "blue", "x": "x"}},
    {"regexes": ["cb{1,3}[xy]{1,2}"], "mapping": {"red": "red"}},
]
FAMILY = custom_family(SPECS, 5, holdout="instruction", val_fraction=0.2, seed=0)
FIRST, SECOND = (task.instructions[0][0] for task in FAMILY.tasks)
EXAMPLES = [Example(0, FIRST, "red", "blue", 0), Example(0, FIRST, "x", "x", 0), Example(1, SECOND, "red", "red", 1)]
TEMPLATE = Template(OF_SYMBOLS)
TOKENIZER = own_tokenizer(FAMILY, TEMPLATE)
PROMPTS = Prompts(FAMILY, TOKENIZER, TEMPLATE).encode(EXAMPLES)

WORDS = custom_family(
    [
        {
            "instructions": ["capital of", "main city of"],
            "mapping": {"South Korea": "Seoul", "USA": "Washington, D.C."},
        },
        {"instructions": ["language of", "tongue of"], "mapping": {"South Korea": "Korean", "USA": "English"}},
    ],
    1,
    holdout="instruction",
    val_fraction=0.5,
    seed=0,
)


def names(tokens: Any) -> list[str]:
    return TOKENIZER.convert_ids_to_tokens([int(token) for token in tokens])


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
    assert len(rows) == 2
    assert rows.lengths.tolist() == [len(FIRST) + 3, len(SECOND) + 2]
    assert rows.counts[:-1].tolist() == [2, 1]
    assert rows.labels("instruction_end")["task"].tolist() == [0, 1]


def test_each_example_can_have_a_row_of_its_own() -> None:
    rows = rows_of(PROMPTS, shared=False)
    assert [tokens for tokens, _ in decoded(rows)] == [
        [*FIRST, SEP, "<x:red>"],
        [*FIRST, SEP, "<x:x>"],
        [*SECOND, SEP, "<x:red>"],
    ]


def test_symbols_inputs_and_outputs_of_one_name_are_different_tokens() -> None:
    symbol, x, y = (TOKENIZER.convert_tokens_to_ids(name) for name in ("x", "<x:x>", "<y:x>"))
    assert len({symbol, x, y}) == 3
    assert PROMPTS[1].tokens[-2:] == [x, y]
    assert len(TOKENIZER) == 2 + len("abcxy") + len({"red", "x"}) + len({"blue", "x", "red"})


def test_ids_follow_from_sorted_names() -> None:
    expected = [PAD, SEP, *"abcxy", "<x:red>", "<x:x>", "<y:blue>", "<y:red>", "<y:x>"]
    assert TOKENIZER.convert_ids_to_tokens(list(range(len(TOKENIZER)))) == expected


def test_the_row_that_stands_for_no_token_comes_last() -> None:
    rows = rows_of(PROMPTS, shared=True)
    assert (int(rows.tokens[-1]), int(rows.targets[-1]), int(rows.row_of[-1])) == (0, 0, len(rows))
    assert int(rows.example_of[-1]) == rows.n_examples


def test_the_inputs_of_all_examples_are_found(default_family: TaskFamily) -> None:
    examples = default_family.split()["val"]
    tokenizer = own_tokenizer(default_family, TEMPLATE)
    prompts = Prompts(default_family, tokenizer, TEMPLATE).encode(examples)
    for shared in (True, False):
        rows = rows_of(prompts, shared)
        at, labels = rows.at("input"), rows.labels("input")
        assert torch.equal(at, rows.at("answer"))
        for tokens, kind in ((rows.tokens[at], "x"), (rows.targets[at], "y")):
            texts = [example.x if kind == "x" else example.y for example in examples]
            assert tokenizer.convert_ids_to_tokens(tokens.tolist()) == [f"<{kind}:{text}>" for text in texts]
            assert labels[kind].tolist() == [sorted(set(texts)).index(text) for text in texts]
        assert labels["task"].tolist() == [example.task_id for example in examples]
        assert labels["description"].tolist() == [example.description for example in examples]
        distinct = {(int(number), e.instruction) for number, e in zip(labels["instruction"], examples, strict=True)}
        assert len(distinct) == len({number for number, _ in distinct}) == len({e.instruction for e in examples})
        separators = rows.at("instruction_end")
        assert torch.equal(rows.tokens[separators], torch.full((len(rows),), 1, dtype=torch.int32))


def test_any_symbol_of_an_alphabet_is_a_token() -> None:
    symbols = "<>:{} \n\t|é\u0301字😀"
    specs = [{"regexes": [f"{c}[<>:{{}} \n\t|é\u0301字😀]{{3}}"], "mapping": {"{x}": c, " ": "y\n"}} for c in "ab"]
    family = custom_family(specs, 30, holdout="instruction", val_fraction=0.2, seed=0)
    tokenizer, examples = own_tokenizer(family, TEMPLATE), family.split()["train"]
    for example, prompt in zip(examples, Prompts(family, tokenizer, TEMPLATE).encode(examples), strict=True):
        expected = [*example.instruction, SEP, f"<x:{example.x}>", f"<y:{example.y}>"]
        assert tokenizer.convert_ids_to_tokens(prompt.tokens) == expected
        assert (prompt.x, prompt.y) == ((5, 6), (6, 7))
    assert {s for task in family.tasks for i in task.instructions[0] for s in i} <= {*symbols, "a", "b"}


def test_symbols_may_spell_x_and_y_out() -> None:
    template = Template("{{{instruction} {x} ->{y}.")
    tokenizer = own_tokenizer(FAMILY, template)
    (prompt, *_) = Prompts(FAMILY, tokenizer, template).encode(EXAMPLES)
    assert tokenizer.convert_ids_to_tokens(prompt.tokens) == list("{" + FIRST + " red ->blue.")
    assert spelled(tokenizer, prompt) == ["r e d", "b l u e"]


def spelled(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[str]:
    return [" ".join(tokenizer.convert_ids_to_tokens(prompt.tokens[slice(*span)])) for span in (prompt.x, prompt.y)]


def test_words_are_tokens_and_x_and_y_have_several() -> None:
    template = Template(OF_WORDS)
    tokenizer = own_tokenizer(WORDS, template)
    examples = [e for split in WORDS.split().values() for e in split]
    prompts = Prompts(WORDS, tokenizer, template).encode(examples)
    for example, prompt in zip(examples, prompts, strict=True):
        assert tokenizer.decode(prompt.tokens) == f"{example.instruction} {SEP} {example.x} {example.y}"
        assert spelled(tokenizer, prompt) == [example.x, example.y]
        assert tokenizer.convert_ids_to_tokens([prompt.tokens[prompt.x[0] - 1]]) == [SEP]
    words = set().union(*(f"{example.instruction} {example.x} {example.y}".split() for example in examples))
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == [PAD, SEP, *sorted(words)]


@pytest.mark.parametrize(
    ("family", "template"), [(FAMILY, OF_SYMBOLS), (WORDS, OF_WORDS), (WORDS, "{instruction} {x} : {y}")]
)
def test_what_transformers_loads_again_gives_the_same_ids(tmp_path: Path, family: TaskFamily, template: str) -> None:
    parsed = Template(template)
    tokenizer = own_tokenizer(family, parsed)
    tokenizer.save_pretrained(tmp_path)
    again, examples = load_tokenizer(str(tmp_path)), family.split()["train"]
    for example, prompt in zip(examples, Prompts(family, tokenizer, parsed).encode(examples), strict=True):
        assert again(parsed.render(example)[0])["input_ids"] == prompt.tokens
    assert (again.pad_token, again.sep_token, len(again)) == (PAD, SEP, len(tokenizer))


def test_a_text_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(Exception, match="UNK"):
        TOKENIZER("z")


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


@pytest.mark.parametrize(
    "template", ["{instruction} {x} ->{y}", "Q: {instruction} {x}\nA: {y}\n", "{instruction}|{x}|{y}"]
)
def test_spans_of_another_models_tokenizer_hold_their_texts(bpe: PreTrainedTokenizerFast, template: str) -> None:
    parsed = Template(template)
    odd = {"Åland 😀": "Mariehamn", "USA": "Washington 字", "South Korea": "Seoul"}
    tasks = [{"instructions": [i, f"the {i}"], "mapping": odd} for i in ("capital of", "Hauptstadt: é")]
    family = custom_family(tasks, 1, holdout="instruction", val_fraction=0.5, seed=0)
    for example in family.split()["train"]:
        (prompt,) = Prompts(family, bpe, parsed).encode([example])
        assert prompt.tokens == bpe(parsed.render(example)[0])["input_ids"]
        texts = [bpe.decode(prompt.tokens[slice(*span)]) for span in (prompt.x, prompt.y)]
        assert [text.strip(" ") for text in texts] == [example.x, example.y]
        before = bpe.decode(prompt.tokens[: prompt.x[0]], skip_special_tokens=True)
        assert before == parsed.render(example)[0][: len(before)]
        assert len(before) >= len(example.instruction)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{instruction} {x}", "must hold {instruction}, {x} and {y}, once each and in this order"),
        ("{x} {instruction} {y}", "once each and in this order"),
        ("{y} {instruction}", "without {x} if instructions hold it"),
        ("{instruction} {x} {y} {y}", "once each"),
        ("{instruction} {x} {z} {y}", "once each"),
        ("{instruction} {x!r} {y}", "once each"),
        ("{instruction} {x:3} {y}", "once each"),
        ("{instruction} {x} {y", "braces of the text itself are doubled"),
        ("{} {} {}", "once each"),
    ],
)
def test_a_template_that_lacks_a_part_is_refused(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match="template=") as refused:
        Template(template)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("template", "mapping", "reason"),
    [
        ("{instruction}{x} {y}", {"a": "b"}, "template gives no token that ends before x begins in 'capital ofa b'"),
        ("{instruction} {x}{y}", {"a": "b"}, "template gives a token to both x and y in 'capital of ab'"),
        ("{instruction} {x} {y}", {" ": "b"}, "template gives x no token"),
        ("{instruction} {x} {y}", {"a": ""}, "template gives y no token"),
    ],
)
def test_a_template_that_joins_parts_is_refused(template: str, mapping: dict[str, str], reason: str) -> None:
    tasks = [{"instructions": [f"{i} of", f"{i} in"], "mapping": mapping} for i in ("capital", "tongue")]
    family, parsed = custom_family(tasks, 1, holdout="instruction", val_fraction=0.5, seed=0), Template(template)
    with pytest.raises(ValueError, match="template") as refused:
        Prompts(family, own_tokenizer(family, parsed), parsed).encode([Example(0, "capital of", *mapping.popitem(), 0)])
    assert reason in str(refused.value)


def facts(**changes: Any) -> TaskFamily:
    """Three relations of conf/task/facts.yaml with few inputs and some values changed."""
    few = {"relations": ["capital", "domain", "plural"], "n_inputs": 5, "n_demonstrations": 2, "n_sets": 6, "n_pool": 4}
    values = composed("task=facts")["task"] | few | changes
    del values["_target_"]
    return facts_family(**values)


FACTS, SHOWN = facts(n_instructions=30), facts(describe="demonstrations")


def every(family: TaskFamily) -> list[Example]:
    return [example for split in family.split().values() for example in split]


@pytest.mark.parametrize("family", [FACTS, SHOWN])
@pytest.mark.parametrize("template", [OF_SENTENCES, "<< {instruction} = {y}."])
def test_x_inside_a_sentence_is_found_by_our_own_tokenizer(family: TaskFamily, template: str) -> None:
    parsed = Template(template, prefix="Facts:\n")
    tokenizer, examples = own_tokenizer(family, parsed), every(family)
    for example, prompt in zip(examples, Prompts(family, tokenizer, parsed).encode(examples), strict=True):
        parts = [re.findall(r"\w+|[^\w\s]", text) for text in (example.x, example.y)]
        assert spelled(tokenizer, prompt) == [" ".join(part) for part in parts]
        text = parsed.render(example).text
        before = tokenizer.convert_ids_to_tokens(prompt.tokens[: prompt.x[0]])
        ahead = (
            text.partition(example.instruction.replace("{x}", example.x))[0] + example.instruction.partition("{x}")[0]
        )
        assert "".join(before) == re.sub(r"[^\S\n]", "", ahead)
        whole = tokenizer.convert_ids_to_tokens(prompt.tokens)
        assert "".join(whole) == re.sub(r"[^\S\n]", "", text)


@pytest.mark.parametrize("family", [FACTS, SHOWN])
def test_x_inside_a_sentence_is_found_by_another_models_tokenizer(
    bpe: PreTrainedTokenizerFast, family: TaskFamily
) -> None:
    parsed, examples = Template(OF_SENTENCES), every(family)
    for example, prompt in zip(examples, Prompts(family, bpe, parsed).encode(examples), strict=True):
        assert prompt.tokens == bpe(parsed.render(example).text)["input_ids"]
        texts = [bpe.decode(prompt.tokens[slice(*span)]) for span in (prompt.x, prompt.y)]
        assert [text.strip(" ") for text in texts] == [example.x, example.y]
        ahead = bpe.decode(prompt.tokens[: prompt.x[0]], skip_special_tokens=True)
        assert example.instruction.partition("{x}")[0].strip(" ") == ahead.strip(" ")


def test_prompts_of_one_instruction_share_what_precedes_x() -> None:
    parsed = Template(OF_SENTENCES)
    prompts = Prompts(FACTS, own_tokenizer(FACTS, parsed), parsed).encode(FACTS.split()["train"])
    rows = rows_of(prompts, shared=True)
    assert {*rows.counts[:-1].tolist()} == {5}
    assert len(rows) == 3 * 24


@pytest.mark.parametrize(("family", "template"), [(FACTS, "{instruction} {x} {y}"), (WORDS, "{instruction} {y}")])
def test_a_template_has_to_fit_the_family(family: TaskFamily, template: str) -> None:
    parsed = Template(template)
    with pytest.raises(ValueError, match="template=") as refused:
        Prompts(family, own_tokenizer(WORDS, Template(OF_WORDS)), parsed)
    assert "must hold" in str(refused.value)


def test_x_with_nothing_before_it_is_refused() -> None:
    templates = {"capital": ["{x}:", "{x} to"], "plural": ["{x}?", "{x} more"]}
    family = facts(relations=["capital", "plural"], templates=templates, val_fraction=0.5)
    parsed = Template(OF_SENTENCES)
    with pytest.raises(ValueError, match="gives no token that ends before x begins"):
        Prompts(family, own_tokenizer(family, parsed), parsed).encode(every(family))
    prefixed = Template(OF_SENTENCES, prefix="Note: ")
    assert Prompts(family, own_tokenizer(family, prefixed), prefixed).encode(every(family))[0].x[0] == 2


def test_a_prefix_is_in_front_of_every_prompt_and_in_the_vocabulary() -> None:
    parsed = Template(OF_SYMBOLS, prefix="?!")
    tokenizer = own_tokenizer(FAMILY, parsed)
    prefixed = Prompts(FAMILY, tokenizer, parsed).encode(EXAMPLES)
    for without, prompt in zip(PROMPTS, prefixed, strict=True):
        assert tokenizer.convert_ids_to_tokens(prompt.tokens) == ["?", "!", *names(without.tokens)]
        assert prompt.x == (without.x[0] + 2, without.x[1] + 2)


def test_a_chat_template_is_put_around_what_precedes_y(bpe: PreTrainedTokenizerFast) -> None:
    bpe.chat_template = (
        "{{ bos_token }}{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}[end]{% endfor %}"
        "{% if add_generation_prompt %}[model]{% endif %}"
    )
    example = FACTS.split()["train"][0]
    question = example.instruction.replace("{x}", example.x)
    chat = in_chat(Template(OF_SENTENCES, prefix="Briefly. "), bpe)
    assert chat.render(example).text == f"[user]Briefly. {question}[end][model]{example.y}"
    (prompt,) = Prompts(FACTS, bpe, chat).encode([example])
    assert bpe.decode(prompt.tokens[slice(*prompt.y)]) == example.y
    assert prompt.tokens[:2].count(bpe.bos_token_id) == 1
    separate = in_chat(Template("{instruction} {x} ->{y}"), bpe).render(Example(0, "capital of", "USA", "W", 0))
    assert separate.text == "[user]capital of USA ->[end][model]W"
    bpe.chat_template = None
    with pytest.raises(ValueError, match="chat=True: the tokenizer has no chat template"):
        in_chat(Template(OF_SENTENCES), bpe)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path / "nowhere"))
