"""The tokenizer of a run: ours, made from the task family, or another model's.

in:  a TaskFamily and a Template; or where another model's tokenizer is
out: a fast tokenizer of Hugging Face's, which `save_pretrained` writes and AutoTokenizer reads

Ours has a token for each symbol or, where the family's texts are words, for each word; where these are sentences, which
hold the place of x, also for each punctuation mark and each new line. Where the template marks them,
as OF_SYMBOLS does, x and y are one token each, written <x:red> and <y:blue>: a symbol, an input and an output of one
name are then different tokens. It refuses what is not in its vocabulary.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from itertools import chain

from tokenizers import AddedToken, Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from taskcluster.data.prompts import FIELDS, Template
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
    if gguf_file:
        refuse_gguf_without_its_packages(gguf_file)
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(
                name, revision=revision or "main", gguf_file=gguf_file, trust_remote_code=False
            )
    except Exception as error:  # transformers and its parsers raise many kinds
        reason = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
        raise ValueError(_unloaded(name, reason)) from None
    if len(tokenizer) < FEWEST:
        raise ValueError(_unloaded(name, "there is none beside the model"))
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"tokenizer={name!r} is not a fast tokenizer; give a folder that holds a tokenizer.json")
    return tokenizer


def _unloaded(name: str, reason: str) -> str:
    where = "give a folder or a model's name, in model.path for model=pretrained"
    return f"tokenizer={name!r} cannot be loaded ({reason}); {where}"


def in_chat(template: Template, tokenizer: PreTrainedTokenizerFast) -> Template:
    """The template with what precedes y as a user's turn, and y as the beginning of the model's, by the tokenizer's own
    chat template.

    Raises ValueError for a tokenizer that has none.
    """
    mark = "<<content>>"
    try:
        turns = tokenizer.apply_chat_template(
            [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
        )
    except ValueError:
        raise ValueError("chat=True: the tokenizer has no chat template; leave it out, or use a chat model's") from None
    opening, _, closing = str(turns).rpartition(mark)
    first = tokenizer("")["input_ids"][:1]
    if first == [tokenizer.bos_token_id]:  # which the tokenizer sets in front of every text anyway
        opening = opening.removeprefix(tokenizer.bos_token)
    return template.in_turn(opening, closing)


@contextmanager
def quietly() -> Iterator[None]:
    """A context without the bars and reports of transformers: what they warn of is refused."""
    from transformers.utils import logging as reports

    bars, loggers = reports.is_progress_bar_enabled(), [*map(logging.getLogger, ("transformers", "huggingface_hub"))]
    levels = [logger.level for logger in loggers]
    reports.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):  # where GGUF files have a bar of their own
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            reports.enable_progress_bar()


def refuse_gguf_without_its_packages(gguf_file: str) -> None:
    """Raise ValueError where a package that reads GGUF files is not installed."""
    if missing := [name for name in ("gguf", "accelerate") if find_spec(name) is None]:
        raise ValueError(
            f"gguf_file={gguf_file!r} needs the package {missing[0]}; install taskcluster-lm[pretrained], or "
            "pip install gguf accelerate"
        )
