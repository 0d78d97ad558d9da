"""The tokenizer of a run: ours, made from the task family, or another model's.

in:  a TaskFamily and a Template; or where another model's tokenizer is
out: a fast tokenizer of Hugging Face's, which `save_pretrained` writes and AutoTokenizer reads

Ours has a token for each symbol or, where the family's texts are words, for each word; where these are sentences, which
hold the place of x, also for each punctuation mark and each new line. Where the template marks them,
as OF_SYMBOLS does, x and y are one token each, written <x:red> and <y:blue>: a symbol, an input and an output of one
name are then different tokens. It refuses what is not in its vocabulary.
"""

import re
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from taskcluster.data.prompts import FIELDS, Template
from taskcluster.data.sources import Source
from taskcluster.tasks.family import TaskFamily

PAD, SEP = SPECIAL = "<pad>", "<sep>"  # ids 0 and 1
WORDS, SYMBOLS = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
WHOLE_X, WHOLE_Y = "<x:{x}>", "<y:{y}>"
OF_SYMBOLS = "{instruction}" + SEP + WHOLE_X + WHOLE_Y
OF_WORDS = "{instruction} " + SEP + " {x} {y}"
OF_SENTENCES = "{instruction} {y}"
OF_TEXT = "{instruction} {x} -> {y}"
SENTENCES = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"), pre_tokenizers.Split(Regex(r"\w+|\n|[^\w\s]"), "isolated")]
)
CHAT, MARK = "the tokenizer's chat template", "qZ-content-Zq"  # a text that no filter leaves as it is
SHOWN = 30  # characters on both sides of what a chat template changes
FEWEST = 4  # tokens: of a folder without a tokenizer transformers makes one of two special tokens


def own_tokenizer(family: TaskFamily, template: Template) -> PreTrainedTokenizerFast:
    """PAD, SEP, then the symbols or words of the family's prompts, then whole inputs and whole outputs, each sorted."""
    vocabulary = [*SPECIAL, *(_words(family, template) if family.words else _symbols(family, template))]
    backend = Backend(models.WordLevel({token: number for number, token in enumerate(vocabulary)}))
    backend.pre_tokenizer = _parts(family) if family.words else SYMBOLS
    if not family.words:
        backend.add_tokens([AddedToken(token, normalized=False) for token in vocabulary if len(token) > 1])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=PAD, sep_token=SEP)


def own_template(family: TaskFamily) -> str:
    """The text of a prompt for our own tokenizer."""
    if family.x_inside:
        return OF_SENTENCES
    return OF_WORDS if family.words else OF_SYMBOLS


def template_for(family: TaskFamily, tokenizer: PreTrainedTokenizerFast) -> str:
    """The text of a prompt for a tokenizer that was loaded, which may be one of ours."""
    ours = isinstance(tokenizer.backend_tokenizer.model, models.WordLevel) and tokenizer.sep_token == SEP
    return own_template(family) if ours else OF_SENTENCES if family.x_inside else OF_TEXT


def _parts(family: TaskFamily) -> pre_tokenizers.PreTokenizer:
    return SENTENCES if family.x_inside else WORDS


def _words(family: TaskFamily, template: Template) -> list[str]:
    texts = (template.render(example).text for example in chain.from_iterable(family.split().values()))
    parts = {part for text in texts for part in re.split("|".join(SPECIAL), text)}
    return sorted({word for part in parts for word, _ in _parts(family).pre_tokenize_str(part)})


def _symbols(family: TaskFamily, template: Template) -> list[str]:
    texts = {i for task in family.tasks for group in task.instructions for i in group}
    inputs = {x for task in family.tasks for x in task.mapping}
    outputs = {y for task in family.tasks for y in task.mapping.values()}
    whole: list[str] = []
    rest = template.text
    for mark, field, values in ((WHOLE_X, "x", inputs), (WHOLE_Y, "y", outputs)):
        if mark in rest:
            whole += [mark.format(**{field: value}) for value in sorted(values)]
        else:
            texts |= values
    for known in (WHOLE_X, WHOLE_Y, *SPECIAL, *(f"{{{field}}}" for field in FIELDS)):
        rest = rest.replace(known, "")
    return [*sorted(set().union(*texts, rest.format(), template.prefix)), *whole]


def load_tokenizer(name: str, revision: str | None = None, gguf_file: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of another model: of a folder, or of a model's name on Hugging Face's hub.

    revision: branch, tag or commit on the hub; gguf_file: a file in the folder that holds the tokenizer.

    Raises ValueError where there is none, or only one that does not say which characters a token holds.
    """
    source = Source(name, revision, gguf_file, ("tokenizer", "tokenizer_revision", "tokenizer_gguf_file"))
    advice = "save the model's tokenizer there, or set data.tokenizer to another model's"
    with source.reading(advice):
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=revision or "main", gguf_file=gguf_file, trust_remote_code=False
        )
        if len(tokenizer) < FEWEST:
            raise ValueError("there is no tokenizer beside the model")
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"tokenizer={name!r} is not a fast tokenizer; give a folder that holds a tokenizer.json")
    return tokenizer


class Frame(NamedTuple):
    """What a chat template writes around the text of a user's turn, up to where the model's reply begins."""

    opening: str
    closing: str


def render_frame(tokenizer: PreTrainedTokenizerFast) -> Frame:
    """The frame that the tokenizer's chat template gives now: some write today's date. A token that the tokenizer sets
    in front of every text anyway is left out.

    Raises ValueError where there is no such frame.
    """
    if not tokenizer.chat_template:
        raise ValueError("chat=True: the tokenizer has no chat template; leave it out, or use a chat model's")
    (opening, closing), _ = _frame(tokenizer)
    bos = tokenizer.bos_token
    if bos and tokenizer.backend_tokenizer.encode("").ids[:1] == [tokenizer.bos_token_id]:
        opening = opening.lstrip().removeprefix(bos) if opening.lstrip().startswith(bos) else opening
        written = (bos + opening + closing).count(bos)
    else:
        written = (opening + closing).count(bos) if bos else 0
    if written > 1:
        raise ValueError(f"chat=True: {CHAT} begins a text with {written} tokens {bos}; correct it to write one")
    return Frame(opening, closing)


def in_chat(template: Template, tokenizer: PreTrainedTokenizerFast, frame: Frame | None = None) -> Template:
    """The template with what precedes y as a user's turn, and y as the beginning of the model's, by the tokenizer's own
    chat template, or in the frame that it gave before.

    Raises ValueError for a tokenizer that gives no such frame.
    """
    return template.in_turn(*(frame or render_frame(tokenizer)))


def refuse_altered(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise ValueError for the first user's turn that the tokenizer's chat template does not hold as it is."""
    frame, as_content = _frame(tokenizer)
    distinct = [*dict.fromkeys(texts)]
    for text, rendered in zip(distinct, _rendered(tokenizer, map(as_content, distinct)), strict=True):
        if rendered != (expected := frame.opening + text + frame.closing):
            pairs = enumerate(zip(rendered, expected, strict=False))
            at = next((k for k, (one, other) in pairs if one != other), len(rendered))
            near = expected[max(at - SHOWN, len(frame.opening)) : at + SHOWN]
            raise ValueError(
                f"chat=True: {CHAT} changes {expected[at : at + 1]!r} in the text {near!r}; write data.template, "
                "data.prefix and the texts of the tasks without it, or leave chat out"
            )


def _frame(tokenizer: PreTrainedTokenizerFast) -> tuple[Frame, Callable[[str], object]]:
    """The frame as the template writes it, and the form of a content that the template reads: a text, or a list."""
    for as_content in (str, _as_parts):
        (turns,) = _rendered(tokenizer, [as_content(MARK)])
        if MARK in turns:
            opening, closing, *more = turns.split(MARK)
            if more:
                raise ValueError(f"chat=True: {CHAT} repeats the user's turn; correct it, or leave chat out")
            return Frame(opening, closing), as_content
    raise ValueError(f"chat=True: {CHAT} loses or changes the text of the user's turn; correct it, or leave chat out")


def _as_parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _rendered(tokenizer: PreTrainedTokenizerFast, contents: Iterable[object]) -> list[str]:
    """Each content as the only turn of a conversation, up to where the reply begins."""
    turns: Any = [[{"role": "user", "content": content}] for content in contents]
    try:
        rendered: Any = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever a template does
        reason = " ".join(str(error).split())
        if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
            reason = f"none of {', '.join(sorted(tokenizer.chat_template))} is named default"
        raise ValueError(
            f"chat=True: {CHAT} cannot be used for a user's turn alone ({reason}); correct it, or leave chat out"
        ) from None
    return list(rendered)
