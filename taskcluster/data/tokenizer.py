"""The tokenizer of a run: made from the task family, or another model's.

in:  a TaskFamily and a Template; or the location of another model's tokenizer
out: a fast tokenizer of Hugging Face's, which `save_pretrained` writes and AutoTokenizer reads

A tokenizer made from the family has a token for each symbol or, where the family's texts are words, for each word;
where these are sentences, which hold the place of x, also for each punctuation mark and each new line. Where the
template marks them, as SYMBOL_TEMPLATE does, x and y are one token each, written <x:red> and <y:blue>: a symbol, an
input and an output of one name are then different tokens. It refuses what is not in its vocabulary.
"""

import re
from itertools import chain
from typing import NamedTuple

from tokenizers import AddedToken, Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from taskcluster.data.prompts import Template
from taskcluster.data.sources import reading
from taskcluster.tasks.family import TaskFamily

PAD, SEP = SPECIAL = "<pad>", "<sep>"  # ids 0 and 1
WORDS, SYMBOLS = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
WHOLE_X, WHOLE_Y = "<x:{x}>", "<y:{y}>"
SYMBOL_TEMPLATE = "{instruction}" + SEP + WHOLE_X + WHOLE_Y
WORD_TEMPLATE = "{instruction} " + SEP + " {x} {y}"
SENTENCE_TEMPLATE = "{instruction} {y}"
TEXT_TEMPLATE = "{instruction} {x} -> {y}"
SENTENCES = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"), pre_tokenizers.Split(Regex(r"\w+|\n|[^\w\s]"), "isolated")]
)
MARK = "qZ-content-Zq"  # a text that no filter of a chat template leaves as it is
FEWEST = 4  # tokens: of a folder without a tokenizer transformers makes one of two special tokens


def make_tokenizer(family: TaskFamily, template: Template) -> PreTrainedTokenizerFast:
    """PAD, SEP, then the symbols or words of the family's prompts, then whole inputs and whole outputs, each sorted."""
    inputs = sorted({x for task in family.tasks for x in task.mapping})
    outputs = sorted({y for task in family.tasks for y in task.mapping.values()})
    marked = [(WHOLE_X, WHOLE_X.format(x=x)) for x in inputs] + [(WHOLE_Y, WHOLE_Y.format(y=y)) for y in outputs]
    whole = [token for mark, token in marked if mark in template.text and not family.words]
    texts = (template.render(example).text for example in chain.from_iterable(family.split().values()))
    special = re.compile("|".join(map(re.escape, [*SPECIAL, *whole])))
    parts = {part for text in texts for part in special.split(text)}
    splitting = (SENTENCES if family.x_inside else WORDS) if family.words else SYMBOLS
    pieces = sorted({piece for part in parts for piece, _ in splitting.pre_tokenize_str(part)})
    backend = Backend(models.WordLevel({token: k for k, token in enumerate([*SPECIAL, *pieces, *whole])}))
    backend.pre_tokenizer = splitting
    backend.add_tokens([AddedToken(token, normalized=False) for token in (*SPECIAL, *whole)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=PAD, sep_token=SEP)


def default_template(family: TaskFamily, tokenizer: PreTrainedTokenizerFast | None = None) -> str:
    """The text of a prompt for a tokenizer that was loaded, which may be one of ours, or for the one to be made."""
    if family.x_inside:
        return SENTENCE_TEMPLATE
    if tokenizer and not (
        isinstance(tokenizer.backend_tokenizer.model, models.WordLevel) and tokenizer.sep_token == SEP
    ):
        return TEXT_TEMPLATE
    return WORD_TEMPLATE if family.words else SYMBOL_TEMPLATE


def load_tokenizer(name: str, revision: str | None = None, gguf_file: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of another model: of a folder, or of a model's name on Hugging Face's hub.

    revision: branch, tag or commit on the hub; gguf_file: a file in the folder that holds the tokenizer.

    Raises ValueError where there is none, or only one that does not say which characters a token holds.
    """
    with reading(
        name, revision, "tokenizer", "save the model's tokenizer there, or set data.tokenizer to another model's"
    ):
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=revision or "main", gguf_file=gguf_file, trust_remote_code=False
        )
        if len(tokenizer) < FEWEST:
            raise ValueError("the model comes without a tokenizer")
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"tokenizer={name!r} is not a fast tokenizer; give a folder that contains a tokenizer.json")
    return tokenizer


class Frame(NamedTuple):
    """What a chat template writes around the text of a user's turn, up to where the model's reply begins."""

    opening: str
    closing: str


def render_frame(tokenizer: PreTrainedTokenizerFast) -> Frame:
    """The frame that the tokenizer's chat template gives now: some write today's date. A token that the tokenizer sets
    in front of every text anyway is left out.

    Limitation: a filter of the template, such as one that strips spaces at the ends of a turn, is not applied.
    Raises ValueError for a template without such a frame.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "chat=True: the tokenizer has no chat template; leave chat out, or use a chat model's tokenizer"
        )
    turn = [{"role": "user", "content": MARK}]
    try:
        rendered = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
        opening, closing = rendered.split(MARK)
    except Exception as error:  # any error of a template, or a text that it repeats or leaves out
        reason = " ".join(str(error).split())
        raise ValueError(
            f"chat=True: the tokenizer's chat template does not render a user's turn exactly once ({reason}); correct "
            "it, or leave chat out"
        ) from None
    bos = tokenizer.bos_token
    if bos and opening.lstrip().startswith(bos) and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
        opening = opening.lstrip().removeprefix(bos)
    return Frame(opening, closing)
